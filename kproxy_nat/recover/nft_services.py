"""Reading service ports out of rules of nftables, of both layouts.

What a chain is for is told by what leads to it and by what it does. Its name tells the Service; where an
element leads to none of one Service, its comment does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from kproxy_nat.formats.nft_render import element_text
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.recover import model
from kproxy_nat.recover.conditions import condition_text
from kproxy_nat.recover.model import CUT, PortKey, RecoveredPort, Shares
from kproxy_nat.recover.nft_balancing import Balancing, read_balancing
from kproxy_nat.recover.nft_compact import SharedChains, shared_prefix
from kproxy_nat.recover.nft_firewall import read_firewall
from kproxy_nat.recover.nft_sources import (
    DISPATCH_MAPS,
    NftSource,
    frontend_key,
    key_of_element,
    rule_text,
)
from kproxy_nat.ruleset.actions import Drop, Goto, SetMark
from kproxy_nat.ruleset.keys import Field, KeyValue
from kproxy_nat.ruleset.matches import AddrType, Comment, InInterface, Lookup, Source
from kproxy_nat.ruleset.rules import NFT_FAMILIES
from kproxy_nat.ruleset.sets import Element

Dispatch = list[tuple[str, Element]]
"""Elements of one service port, each with the map that it is in."""


def read_nft_services(source: NftSource) -> dict[PortKey, RecoveredPort]:
    """Return the service ports that rules implement, sorted; those that have no name by their addresses."""
    masquerade = cluster_ip_masquerade(source)
    shared = SharedChains(source)
    wanted = source.services
    ports = {
        key: _PortReader(source, shared, key, masquerade).read(dispatch)
        for key, dispatch in _dispatches(source).items()
        if wanted is None or key.service in wanted or not key.is_named
    }
    return {key: ports[key] for key in sorted(ports)}


def _dispatches(source: NftSource) -> dict[PortKey, Dispatch]:
    """Return the elements of each service port.

    A chain for source ranges may be one of several ports; then the same address and port tell whose it is.
    """
    found: dict[PortKey, Dispatch] = defaultdict(list)
    by_frontend: dict[KeyValue, PortKey] = {}
    for name in DISPATCH_MAPS:
        for element in source.elements(name):
            key = key_of_element(element) or by_frontend.get(element.key)
            if key is None and name == names.FIREWALL_MAP:
                continue
            key = _whole_key(key or frontend_key(element.key), found)
            found[key].append((name, element))
            by_frontend.setdefault(element.key, key)
    return found


def _whole_key(key: PortKey, known: dict[PortKey, Dispatch]) -> PortKey:
    """Return the key of a port whose name is cut in a comment, if another element names it whole."""
    if not key.service.endswith(CUT):
        return key
    begin = key.service.removesuffix(CUT)
    whole = [k for k in known if k.service.startswith(begin) and k.protocol == key.protocol and k != key]
    return whole[0] if len(whole) == 1 else key


def cluster_ip_masquerade(source: NftSource) -> str:
    """Return which traffic to cluster IPs is masqueraded: a condition, "all", or nothing."""
    to_cluster_ip = Lookup((Field.DESTINATION,), names.CLUSTER_IPS_SET)
    found = [
        condition_text([match for match in rule.matches if match != to_cluster_ip], source.family) or "all"
        for rule in source.rules(names.SERVICES)
        if to_cluster_ip in rule.matches and any(isinstance(action, SetMark) for action in rule.actions)
    ]
    return ", ".join(found)


class _PortReader:
    def __init__(self, source: NftSource, shared: SharedChains, key: PortKey, masquerade: str) -> None:
        self.source = source
        self.shared = shared
        self.key = key
        self.masquerade = masquerade
        self.drawn: dict[str, Shares] = {}
        self.cluster_ip = ""
        self.port = self.node_port = 0
        self.addresses: dict[str, str] = {}
        self.guarded: list[str] = []
        self.internal_target = self.internal_verdict = self.external_verdict = self.base = ""
        self.external_policy = self.pods_are = self.firewall = ""
        self.ranges: tuple[str, ...] = ()
        self.rest: list[str] = []

    def read(self, dispatch: Dispatch) -> RecoveredPort:
        for name, element in dispatch:
            if not _READERS[name](self, element):
                place = f"add element {NFT_FAMILIES[self.source.family]} {names.TABLE} {name}"
                self.rest.append(f"{place} {{ {element_text(element)} }}")
        for address in self.guarded:
            if address in self.addresses:
                self.addresses[address] = model.LOAD_BALANCER_IP
        cluster = self._balancing(names.CLUSTER_PREFIX)
        local = self._balancing(names.LOCAL_PREFIX)
        self._read_external()
        own = [a for a, kind in self.addresses.items() if kind == model.LOAD_BALANCER_IP]
        self.ranges, admits_node, rest = read_firewall(self.source, self.firewall, own)
        self.rest += rest
        return RecoveredPort(
            self.key,
            self.source.family,
            self.cluster_ip,
            self.port,
            self.addresses,
            self.node_port,
            0,
            self._internal_policy(),
            self.external_policy,
            self.pods_are,
            self.ranges,
            admits_node,
            max(cluster.affinity_seconds, local.affinity_seconds),
            self.masquerade if self.internal_target else "",
            cluster.shares,
            local.shares,
            self.internal_verdict,
            self.external_verdict,
            tuple(sorted({*self.rest, *cluster.rest, *local.rest, *self._hairpin_faults(local)})),
            model.NFTABLES,
            tuple(sorted(e for e in {**cluster.shares, **local.shares} if self._is_on_node(e))),
        )

    def _internal_policy(self) -> str:
        if self.internal_target:
            return model.LOCAL if self.internal_target == names.LOCAL_PREFIX else model.CLUSTER
        return model.LOCAL if self.internal_verdict == model.DROP else ""

    def _balancing(self, prefix: str) -> Balancing:
        if self.base:
            return read_balancing(self.source, prefix + self.base)
        return Balancing(self.drawn.get(prefix, {}))

    def _aim(self, element: Element, *prefixes: str) -> str:
        """Note what the names of the port's chains share; return how the name begins that is led to.

        For a chain of many service ports, it is as that of one for itself would begin.
        """
        target = element.value.chain if isinstance(element.value, Goto) else ""
        if shared_prefix(target) in prefixes:
            self._read_shared(target, element)
            return shared_prefix(target)
        prefix = next((p for p in prefixes if target.startswith(p)), "")
        if not prefix:
            return ""
        base = target.removeprefix(prefix)
        if self.base not in ("", base):
            return ""
        self.base = base
        return prefix

    def _read_shared(self, chain: str, element: Element) -> None:
        """Read what chains of many do for a frontend: as much as for the others of the service port."""
        traffic = self.shared.read(chain, element.key)
        self.rest += traffic.rest
        self.external_policy = self.external_policy or traffic.policy
        self.pods_are = self.pods_are or traffic.pods_are
        for prefix, shares in ((names.CLUSTER_PREFIX, traffic.cluster), (names.LOCAL_PREFIX, traffic.local)):
            if shares and self.drawn.setdefault(prefix, shares) != shares:
                frontend = frontend_key(element.key)
                self.rest.append(f"{frontend} has other endpoints than the rest of the Service")

    def service_element(self, element: Element) -> bool:
        """Read an address that leads to chains of the service port."""
        address, _, port = element.key
        prefix = self._aim(element, names.CLUSTER_PREFIX, names.LOCAL_PREFIX, names.EXTERNAL_PREFIX)
        if prefix == names.EXTERNAL_PREFIX:
            self.addresses[str(address)] = model.EXTERNAL_ADDRESS
        elif prefix and not self.cluster_ip:
            self.cluster_ip, self.internal_target = str(address), prefix
        else:
            return False
        self.port = int(port)
        return True

    def node_port_element(self, element: Element) -> bool:
        """Read a node port that leads to chains of the service port."""
        self.node_port = int(element.key[-1])
        return bool(self._aim(element, names.EXTERNAL_PREFIX))

    def firewall_element(self, element: Element) -> bool:
        """Read an address that source ranges guard."""
        self.guarded.append(str(element.key[0]))
        self.firewall = element.value.chain if isinstance(element.value, Goto) else ""
        return self.firewall.startswith(names.FIREWALL_PREFIX)

    def refused_service(self, element: Element) -> bool:
        """Read an address without an endpoint."""
        address, _, port = element.key
        is_internal = self.cluster_ip in ("", address) and address not in self.addresses
        self.port = int(port)
        if is_internal and self.source.holds(names.CLUSTER_IPS_SET, (address,)):
            self.cluster_ip, self.internal_verdict = str(address), _verdict(element)
            return bool(self.internal_verdict)
        self.addresses.setdefault(str(address), model.EXTERNAL_ADDRESS)
        self.external_verdict = _verdict(element)
        return bool(self.external_verdict)

    def refused_node_port(self, element: Element) -> bool:
        """Read a node port without an endpoint."""
        self.node_port = int(element.key[-1])
        self.external_verdict = _verdict(element)
        return bool(self.external_verdict)

    def _read_external(self) -> None:
        """Read what external traffic meets: masquerade, or the short cuts of the policy Local."""
        chain = names.EXTERNAL_PREFIX + self.base
        to_cluster = Goto(names.CLUSTER_PREFIX + self.base)
        onward = ((to_cluster,), (Goto(names.LOCAL_PREFIX + self.base),))
        for rule in self.source.rules(chain) if self.base else ():
            kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
            marks = bool(rule.actions) and isinstance(rule.actions[0], SetMark)
            targets = rule.actions[marks:]
            if marks and not kinds and targets in ((), (to_cluster,)):
                self.external_policy = model.CLUSTER
            elif kinds == [AddrType] and targets in ((), (to_cluster,)) and rule.actions:
                self.external_policy = model.LOCAL
            elif kinds in ([Source], [InInterface]) and not marks and targets == (to_cluster,):
                self.pods_are = condition_text(rule.matches, self.source.family)
            elif kinds or marks or targets not in onward:
                self.rest.append(rule_text(self.source, chain, rule))
        if self.external_verdict == model.DROP:
            self.external_policy = model.LOCAL

    def _is_on_node(self, endpoint: str) -> bool:
        address, _, port = endpoint.rpartition(":")
        address = address.strip("[]")
        key = (address, address, self.key.protocol.lower(), int(port or 0))
        return self.source.holds(names.HAIRPIN_SET, key)

    def _hairpin_faults(self, local: Balancing) -> list[str]:
        return [
            f"endpoint {endpoint} cannot reach itself by way of the Service: {names.HAIRPIN_SET} lacks it"
            for endpoint in local.shares
            if endpoint and not self._is_on_node(endpoint)
        ]


_READERS: dict[str, Callable[[_PortReader, Element], bool]] = {
    names.SERVICES_MAP: _PortReader.service_element,
    names.NODE_PORTS_MAP: _PortReader.node_port_element,
    names.FIREWALL_MAP: _PortReader.firewall_element,
    names.NO_ENDPOINT_SERVICES_MAP: _PortReader.refused_service,
    names.NO_ENDPOINT_NODE_PORTS_MAP: _PortReader.refused_node_port,
}


def _verdict(element: Element) -> str:
    if isinstance(element.value, Drop):
        return model.DROP
    return model.REJECT if element.value == Goto(names.REJECT) else ""
