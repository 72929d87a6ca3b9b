"""Where rules of nftables are read from, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.formats.nft_shown import shown_rule
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.recover.model import COMPACT, CUT, KUBE_PROXY, PortKey
from kproxy_nat.ruleset.actions import Goto
from kproxy_nat.ruleset.keys import KeyValue
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Rule
from kproxy_nat.ruleset.sets import Element, NamedSet

DISPATCH_MAPS = (
    names.SERVICES_MAP,
    names.NODE_PORTS_MAP,
    names.NO_ENDPOINT_SERVICES_MAP,
    names.NO_ENDPOINT_NODE_PORTS_MAP,
    names.FIREWALL_MAP,
)
"""The maps in which each element belongs to a Service: by the chain that it leads to, or by its comment."""

_CHAIN = re.compile(
    r"(?:service|local|external|firewall|endpoint|affinity|draw-\d+|draw-local-\d+|endpoints|endpoints-local)"
    r"-[A-Z2-7]{8}-([^/]+/[^/]+)/([a-z]+)/([^_]*)(?:__.*)?"
)
_FRONTEND = re.compile(r"(\S+ \. )?(?:tcp|udp|sctp) \. (\d+)")
_SLOT = re.compile(r"(.+) \. \d+ : ")
_LINE_OWNER = re.compile(rf' goto ({_CHAIN.pattern})$| comment "([^"]+)"')


class NftSource(Protocol):
    """The table of one family, object by object, in canonical form."""

    @property
    def family(self) -> IpFamily:
        """The family."""
        ...

    @property
    def services(self) -> Collection[str] | None:
        """The service ports that are wanted, as ``namespace/name:port``; ``None`` for all."""
        ...

    def rules(self, chain: str) -> Sequence[Rule]:
        """Return the rules of a chain; none of a chain that is not there."""
        ...

    def named_set(self, name: str) -> NamedSet | None:
        """Return a set or map."""
        ...

    def elements(self, name: str) -> Iterable[Element]:
        """Return the elements of a set or map; of those for dispatch, at least what is wanted."""
        ...

    def holds(self, name: str, key: KeyValue) -> bool:
        """Whether a set holds a key."""
        ...

    @property
    def layout(self) -> str:
        """How the rules are arranged, if they show it."""
        ...


@dataclass(frozen=True, slots=True)
class NftTableSource:
    """The table ``kube-proxy`` among tables of nftables."""

    tables: NftRules
    family: IpFamily
    services: Collection[str] | None = None
    _frontends: set[str] = field(default_factory=set)

    @property
    def _label(self) -> str:
        return f"{NFT_FAMILIES[self.family]} {names.TABLE}"

    def rules(self, chain: str) -> Sequence[Rule]:
        """See :class:`NftSource`."""
        found = self.tables.chain(self._label, chain)
        return found.rules if found else ()

    def named_set(self, name: str) -> NamedSet | None:
        """See :class:`NftSource`."""
        return self.tables.named_set(self._label, name)

    def elements(self, name: str) -> Iterable[Element]:
        """See :class:`NftSource`."""
        if self.services is None or not (name in DISPATCH_MAPS or is_pool(name)):
            found = self.named_set(name)
        else:
            is_wanted = self._is_wanted if name in DISPATCH_MAPS else self._is_slot_of_wanted
            unwanted = {line for line in self.tables.lines(self._label, name) if not is_wanted(line)}
            found = self.tables.named_set(self._label, name, unwanted)
        return found.elements.values() if found else ()

    def holds(self, name: str, key: KeyValue) -> bool:
        """See :class:`NftSource`."""
        return self.tables.holds(self._label, name, key)

    @property
    def layout(self) -> str:
        """See :class:`NftSource`."""
        return layout_of(self.tables, self.family)

    def _is_wanted(self, line: str) -> bool:
        owner = owner_of_line(line)
        return self.services is not None and (not owner or owner in self.services or owner.endswith(CUT))

    def _is_slot_of_wanted(self, line: str) -> bool:
        if not self._frontends:
            lines = (line for name in DISPATCH_MAPS for line in self.tables.lines(self._label, name))
            self._frontends.update(frontend_of_line(line) for line in lines if self._is_wanted(line))
        return frontend_of_slot(line) in self._frontends


def holds_services(tables: NftRules, family: IpFamily) -> bool:
    """Whether there is a table that Services can be read out of."""
    label = f"{NFT_FAMILIES[family]} {names.TABLE}"
    return ("map", names.SERVICES_MAP) in tables.keys(label)


def layout_of(tables: NftRules, family: IpFamily) -> str:
    """Return how our table is arranged; nothing where no chain or map of Services shows it."""
    found = [name for _, name in tables.keys(f"{NFT_FAMILIES[family]} {names.TABLE}")]
    if any(name.startswith(_COMPACT_PREFIXES) or _SHARED_FIREWALL.fullmatch(name) for name in found):
        return COMPACT
    if any(name.startswith(names.ENDPOINT_PREFIX) for name in found):
        return KUBE_PROXY
    if any(name.startswith(names.AFFINITY_PREFIX) for name in found):
        return COMPACT
    return KUBE_PROXY if any(map(key_of_chain, found)) else ""


_COMPACT_PREFIXES = (names.BALANCE_PREFIX, names.ENDPOINTS_PREFIX, names.DRAW_PREFIX)
_SHARED_FIREWALL = re.compile(rf"{names.FIREWALL_PREFIX}[A-Z2-7]{{8}}")


def rule_text(source: NftSource, chain: str, rule: Rule) -> str:
    """Return a rule with its chain, as a command."""
    family = NFT_FAMILIES[source.family]
    return f"add rule {family} {names.TABLE} {chain} {shown_rule(rule, family)}"


def key_of_chain(chain: str) -> PortKey | None:
    """Return the service port that the name of a chain tells."""
    found = _CHAIN.fullmatch(chain)
    return PortKey(_port_text(found[1], found[3]), found[2].upper()) if found else None


def key_of_element(element: Element) -> PortKey | None:
    """Return the service port that an element for dispatch belongs to."""
    if isinstance(element.value, Goto):
        known = key_of_chain(element.value.chain)
        if known is not None:
            return known
    protocol = next((part for part in element.key if part in ("tcp", "udp", "sctp")), "")
    return PortKey(element.comment, str(protocol).upper()) if element.comment and protocol else None


def frontend_key(key: KeyValue) -> PortKey:
    """Return what stands for the name of a frontend that tells no Service: its address and port."""
    *address, protocol, number = key
    text = join_host_port(Address(str(address[0])), int(number)) if address else f"node port {number}"
    return PortKey(text, str(protocol).upper())


def owner_of_line(line: str) -> str:
    """Return the service port that a listed element, or a chain's name, belongs to; empty if to none."""
    found = _LINE_OWNER.search(line)
    if found is None:
        return ""
    return _port_text(found[2], found[4]) if found[1] else found[5]


def frontend_of_line(line: str) -> str:
    """Return the address, if there is one, and the port of a listed element for dispatch."""
    found = _FRONTEND.match(line)
    return f"{found[1] or ''}{found[2]}" if found else ""


def frontend_of_slot(line: str) -> str:
    """Return the address, if there is one, and the port of a listed element of a map that many share."""
    found = _SLOT.match(line)
    return found[1] if found else ""


def is_pool(name: str) -> bool:
    """Whether a map has the endpoints of many service ports, by frontend and slot."""
    return name.startswith(names.ENDPOINTS_PREFIX) and key_of_chain(name) is None


def _port_text(namespace_and_name: str, port: str) -> str:
    return f"{namespace_and_name}:{port}" if port else namespace_and_name
