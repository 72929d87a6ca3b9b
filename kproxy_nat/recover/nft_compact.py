"""Reading the compact layout for nftables, where service ports share chains and maps.

A service port with few endpoints has nothing of its own there: its addresses and its node port are elements
of maps, which tell where connections go, but not whose they are. Each of these frontends is read as a port by
itself; :mod:`kproxy_nat.recover.naming` joins them under the names that another side knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from msgspec.structs import replace

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, join_host_port
from kproxy_nat.recover import model
from kproxy_nat.recover.conditions import condition_text
from kproxy_nat.recover.model import PortKey, RecoveredPort, Shares
from kproxy_nat.recover.nft_firewall import read_firewall
from kproxy_nat.recover.nft_sources import NftSource, key_of_chain, rule_text
from kproxy_nat.ruleset.actions import DnatMap, Goto, SetMark
from kproxy_nat.ruleset.keys import KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import AddrType, Comment, InInterface, Source
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.sets import Element

_LOCAL_POOL = f"{names.BALANCE_PREFIX}local-"
_LOCAL_NODE_PORT_POOL = f"{names.BALANCE_PREFIX}nodeport-local-"

Slots = dict[KeyValue, dict[int, str]]
"""The endpoints of a shared map: by frontend, then by slot."""


def read_frontends(source: NftSource, masquerade: str) -> dict[PortKey, RecoveredPort]:
    """Return a port without a name for each frontend that leads to shared chains."""
    reader = _Reader(source, masquerade)
    found = [*reader.read_addresses(), *reader.read_node_ports()]
    return {port.key: port for port in found}


def frontend_key(address: str, port: int, protocol: str) -> PortKey:
    """Return what stands for the name of a frontend: an address and port, or the port of a node."""
    text = join_host_port(Address(address), port) if address else f"node port {port}"
    return PortKey(text, protocol.upper())


@dataclass(slots=True)
class _Traffic:
    """What a chain does with the traffic to a frontend."""

    cluster: Shares = field(default_factory=dict)
    local: Shares = field(default_factory=dict)
    policy: str = ""
    pods_are: str = ""
    rest: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, source: NftSource, masquerade: str) -> None:
        self.source = source
        self.masquerade = masquerade
        self.maps: dict[str, Slots] = {}
        self.guards = {element.key: element for element in source.elements(names.FIREWALL_MAP)}

    def read_addresses(self) -> Iterator[RecoveredPort]:
        """Read cluster IPs and addresses of load balancers, and external IPs."""
        for element, target in self._shared(names.SERVICES_MAP):
            address, protocol, number = element.key
            key = frontend_key(str(address), int(number), str(protocol))
            traffic = self._traffic(target, (address, number))
            port = self._port(key, traffic, int(number))
            if target.startswith(names.BALANCE_PREFIX):
                policy = model.LOCAL if target.startswith(_LOCAL_POOL) else model.CLUSTER
                yield replace(
                    port, cluster_ip=str(address), internal_policy=policy, masquerade=self.masquerade
                )
            else:
                yield self._guarded(port, str(address), element)

    def read_node_ports(self) -> Iterator[RecoveredPort]:
        """Read node ports."""
        for element, target in self._shared(names.NODE_PORTS_MAP):
            protocol, number = element.key
            key = frontend_key("", int(number), str(protocol))
            traffic = self._traffic(target, (number,))
            port = self._port(key, traffic, 0)
            yield replace(port, node_port=int(number), external_policy=traffic.policy)

    def _shared(self, name: str) -> Iterator[tuple[Element, str]]:
        for element in self.source.elements(name):
            target = element.value.chain if isinstance(element.value, Goto) else ""
            if target and key_of_chain(target) is None:
                yield element, target

    def _port(self, key: PortKey, traffic: _Traffic, number: int) -> RecoveredPort:
        endpoints = {**traffic.cluster, **traffic.local}
        return RecoveredPort(
            key,
            self.source.family,
            port=number,
            external_policy=traffic.policy,
            pods_are=traffic.pods_are,
            cluster=traffic.cluster,
            local=traffic.local,
            rest=tuple(traffic.rest),
            mode=model.NFTABLES,
            on_node=tuple(sorted(e for e in endpoints if self._is_on_node(e, key.protocol))),
        )

    def _guarded(self, port: RecoveredPort, address: str, element: Element) -> RecoveredPort:
        guard = self.guards.get(element.key)
        kind = model.LOAD_BALANCER_IP if guard else model.EXTERNAL_ADDRESS
        chain = guard.value.chain if guard and isinstance(guard.value, Goto) else ""
        ranges, admits, rest = read_firewall(self.source, chain, [address])
        return replace(
            port,
            addresses={address: kind},
            source_ranges=ranges,
            admits_node=admits,
            rest=tuple(sorted([*port.rest, *rest])),
        )

    def _is_on_node(self, endpoint: str, protocol: str) -> bool:
        address, _, number = endpoint.rpartition(":")
        address = address.strip("[]")
        return bool(endpoint) and self.source.holds(
            names.HAIRPIN_SET, (address, address, protocol.lower(), int(number))
        )

    def _traffic(self, chain: str, frontend: KeyValue) -> _Traffic:
        """Read a chain that draws, or one for traffic from outside, for one frontend."""
        traffic = _Traffic()
        if chain.startswith(names.BALANCE_PREFIX):
            self._pool(chain, frontend, traffic)
            return traffic
        for rule in self.source.rules(chain):
            if not self._external(rule, frontend, traffic):
                traffic.rest.append(rule_text(self.source, chain, rule))
        traffic.policy = traffic.policy or model.LOCAL
        return traffic

    def _external(self, rule: Rule, frontend: KeyValue, traffic: _Traffic) -> bool:
        kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
        target = rule.actions[-1] if rule.actions else None
        marks = len(rule.actions) == 2 and isinstance(rule.actions[0], SetMark)
        if not isinstance(target, Goto) or not target.chain.startswith(names.BALANCE_PREFIX):
            return False
        if marks and kinds in ([], [AddrType]):
            traffic.policy = model.LOCAL if kinds else model.CLUSTER
        elif len(rule.actions) == 1 and kinds in ([Source], [InInterface]):
            traffic.pods_are = condition_text(rule.matches, self.source.family)
        elif kinds or len(rule.actions) != 1:
            return False
        self._pool(target.chain, frontend, traffic)
        return True

    def _pool(self, chain: str, frontend: KeyValue, traffic: _Traffic) -> None:
        """Read what a shared chain draws for a frontend."""
        shares: Shares = {}
        for rule in self.source.rules(chain):
            action = rule.actions[0] if len(rule.actions) == 1 and not rule.matches else None
            generator = action.key[-1] if isinstance(action, DnatMap) else None
            if not isinstance(action, DnatMap) or not isinstance(generator, Numgen):
                traffic.rest.append(rule_text(self.source, chain, rule))
            elif isinstance(action.map, str):
                shares = _shares(self._slots(action.map).get(frontend, {}), generator)
        if chain.startswith((_LOCAL_POOL, _LOCAL_NODE_PORT_POOL)):
            traffic.local = shares
        else:
            traffic.cluster = shares

    def _slots(self, name: str) -> Slots:
        if name not in self.maps:
            slots: Slots = {}
            for element in self.source.elements(name):
                *frontend, slot = element.key
                if isinstance(element.value, tuple) and isinstance(slot, int):
                    slots.setdefault(tuple(frontend), {})[slot] = _endpoint(element.value)
            self.maps[name] = slots
        return self.maps[name]


def _endpoint(value: tuple[Value, ...]) -> str:
    address, port = value
    return join_host_port(Address(str(address)), int(port))


def _shares(slots: dict[int, str], generator: Numgen) -> Shares:
    part = Fraction(1, generator.modulus)
    shares: Shares = {}
    for slot in range(generator.offset, generator.offset + generator.modulus):
        endpoint = slots.get(slot, "")
        shares[endpoint] = shares.get(endpoint, Fraction(0)) + part
    return {endpoint: shares[endpoint] for endpoint in sorted(shares)}
