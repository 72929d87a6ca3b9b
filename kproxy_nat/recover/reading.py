"""What rules show, of whichever mode and layout they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.lowering import chain_names, compact_names
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover import model
from kproxy_nat.recover.iptables import read_services
from kproxy_nat.recover.model import NodeSettings, PortKey, RecoveredPort
from kproxy_nat.recover.nft_services import read_nft_services
from kproxy_nat.recover.nft_settings import read_nft_settings
from kproxy_nat.recover.nft_sources import NftSource, holds_services, layout_of
from kproxy_nat.recover.settings import read_settings
from kproxy_nat.recover.sources import RuleSource


@dataclass(frozen=True, slots=True)
class Recovered:
    """The service ports of one family, and what shows of the proxy's options."""

    ports: dict[PortKey, RecoveredPort] = field(default_factory=dict)
    settings: NodeSettings = field(default_factory=NodeSettings)


def recover(rules: RuleSource) -> Recovered:
    """Return what rules of iptables show.

    Raises:
        InvalidInputError: a rule is broken.
    """
    return Recovered(read_services(rules), read_settings(rules))


def recover_nft(tables: NftSource) -> Recovered:
    """Return what tables of nftables show."""
    return Recovered(read_nft_services(tables), read_nft_settings(tables))


def both(first: Recovered, second: Recovered) -> Recovered:
    """Return what rules of both modes show together; where both serve a port, the first."""
    if not second.settings.mode:
        return first
    if not first.settings.mode:
        return second
    ports = {**second.ports, **first.ports}
    return Recovered({key: ports[key] for key in sorted(ports)}, first.settings)


Layout = tuple[str, str]
"""A mode, and how its rules are arranged."""


def layouts_of(rules: DumpedRules | None, tables: NftRules, family: IpFamily) -> set[Layout]:
    """Return the layouts that Services of a family can be read out of here."""
    chains = () if rules is None else rules.dump.table("nat").chains
    found = {(model.IPTABLES, layout) for root, layout in _ROOTS.items() if root in chains}
    if holds_services(tables, family):
        found.add((model.NFTABLES, layout_of(tables, family)))
    return found


_ROOTS = {chain_names.SERVICES: model.KUBE_PROXY, compact_names.SERVICES: model.COMPACT}
