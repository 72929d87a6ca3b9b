"""Reading the proxy's options out of the rules of nftables that do not belong to a Service."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.recover import model
from kproxy_nat.recover.conditions import condition_text
from kproxy_nat.recover.model import NodeSettings
from kproxy_nat.recover.nft_services import cluster_ip_masquerade
from kproxy_nat.recover.nft_sources import NftSource
from kproxy_nat.ruleset.actions import Drop, Masquerade, SetMark, VerdictMap
from kproxy_nat.ruleset.keys import Field
from kproxy_nat.ruleset.matches import Destination, Lookup, Mark, OneOf


def read_nft_settings(source: NftSource) -> NodeSettings:
    """Return what the rules show of the proxy's options."""
    marked = [
        match.mask
        for rule in source.rules(names.MASQUERADING)
        for match in rule.matches
        if isinstance(match, Mark) and any(isinstance(action, SetMark) for action in rule.actions)
    ]
    masquerades = [
        a for r in source.rules(names.MASQUERADING) for a in r.actions if isinstance(a, Masquerade)
    ]
    return NodeSettings(
        masquerade_mark=marked[0] if marked else 0,
        node_ports_on=tuple(_node_ports_on(source)),
        random_fully=bool(masquerades) and all(action.random_fully for action in masquerades),
        mode=model.NFTABLES if masquerades else "",
        layout=source.layout if masquerades else "",
        cluster_ip_masquerade=cluster_ip_masquerade(source),
        masquerades_hairpin=any(
            isinstance(match, Lookup) and match.name == names.HAIRPIN_SET
            for rule in source.rules(names.MASQUERADING)
            for match in rule.matches
        ),
        service_cidrs=tuple(_service_cidrs(source)),
    )


def _node_ports_on(source: NftSource) -> Iterator[str]:
    """Yield the conditions on addresses that serve node ports, as iptables would print them."""
    for rule in source.rules(names.SERVICES):
        action = rule.actions[-1] if rule.actions else None
        if not isinstance(action, VerdictMap) or action.map != names.NODE_PORTS_MAP:
            continue
        listed = [match.name for match in rule.matches if isinstance(match, Lookup)]
        if not listed:
            yield condition_text(rule.matches, source.family)
        for name in listed:
            for element in source.elements(name):
                yield f"-d {element.key[0]}/{source.family.bits}"


def _service_cidrs(source: NftSource) -> Iterator[str]:
    for rule in source.rules(names.CLUSTER_IPS_CHECK):
        if rule.actions != (Drop(),):
            continue
        for match in rule.matches:
            if isinstance(match, Destination) and not match.negated:
                yield str(match.network)
            elif isinstance(match, OneOf) and match.key == (Field.DESTINATION,) and not match.negated:
                yield from (str(value) for (value,) in match.values)
