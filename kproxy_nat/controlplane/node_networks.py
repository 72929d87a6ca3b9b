"""Nodes, and the room for Pods in their networks.

A Pod has the same host number in each network of its Node: 10.244.1.57 goes with fd00:10:244:1::39. One pool
of host numbers for each Node therefore serves both families. The network's own address, the next one (the
bridge to which Pods are connected) and IPv4's broadcast address are not given out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop

from kproxy_nat.controlplane.pools import Band, Pool, overlapping
from kproxy_nat.errors import FieldPath, Location
from kproxy_nat.model.base import ObjectMeta, Sourced
from kproxy_nat.model.node import ZONE_LABEL, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus
from kproxy_nat.model.workloads import READY
from kproxy_nat.net.addresses import (
    Address,
    Cidr,
    IpFamily,
    address_value,
    family_of,
    parse_address,
    parse_cidr,
    prefix_length,
)

MAX_ASSUMED_NODES = 254
ASSUMED_NODE_ROOM = 253
"""How many Pods have room in the networks of an assumed Node: a /24 without its two ends and the bridge."""

HOSTNAME_LABEL = "kubernetes.io/hostname"

_LAST_HOST_NUMBER = (1 << 24) - 1
"""Enough for any Node; keeps addresses of large IPv6 networks readable."""

PodHolder = tuple[str, str]
"""Namespace and name of the Pod that has a host number."""


@dataclass(frozen=True, slots=True)
class AssumedOrigin:
    """The origin of an object that no manifest holds."""

    source: str = "(assumed)"
    line: int = 0

    def locate(self, path: FieldPath) -> Location:
        """Return the place that all its fields have: none."""
        return Location(self.source)


class Network:
    """A pod network, ready to print the addresses in it."""

    __slots__ = ("base", "cidr", "family")

    def __init__(self, cidr: Cidr) -> None:
        self.cidr = cidr
        self.family = family_of(cidr)
        self.base = address_value(Address(cidr.partition("/")[0]))

    @property
    def hosts(self) -> Band:
        """The host numbers that Pods may have; networks of one or two addresses consist of hosts alone."""
        size = 1 << (self.family.bits - prefix_length(self.cidr))
        if size < 4:
            return Band(0, size - 1)
        return Band(2, size - 1 - (self.family is IpFamily.IPV4))

    def address(self, host: int) -> Address:
        """Return the address of a host number."""
        value = self.base + host
        if self.family is IpFamily.IPV4:
            return Address(inet_ntop(AF_INET, value.to_bytes(4, "big")))
        if value >> 32 == 0:  # where the C library would print a dotted quad
            return Address(str(IPv6Address(value)))
        return Address(inet_ntop(AF_INET6, value.to_bytes(16, "big")))


@dataclass(slots=True, eq=False)
class NodeRoom:
    """A Node and the host numbers of its networks; ``room`` is how many of them are left."""

    node: Node
    networks: list[Network]
    assumed_networks: bool = False
    room: int = 0
    pool: Pool[PodHolder] = field(init=False)
    held: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        bands = [network.hosts for network in self.networks]
        hosts = Band(0, -1)
        if bands:
            last = min(*(band.last for band in bands), _LAST_HOST_NUMBER)
            hosts = Band(max(band.first for band in bands), last)
        self.pool = Pool(self.name, [hosts])
        self.room = max(hosts.size, 0)

    @property
    def name(self) -> str:
        """The Node's name."""
        return self.node.metadata.name

    @property
    def host_ips(self) -> list[Address]:
        """The Node's first internal IP of each family: the addresses of its hostNetwork Pods."""
        by_family: dict[IpFamily, Address] = {}
        for entry in self.node.status.addresses:
            if entry.type == "InternalIP":
                address = parse_address(entry.address)
                by_family.setdefault(family_of(address), address)
        return list(by_family.values())

    def hold(self, host: int, holder: PodHolder) -> None:
        """Note that a host number is taken."""
        if host in self.pool and host not in self.held:
            self.held.add(host)
            self.pool.hold(host, holder)
            self.room -= 1


class Rooms:
    """All Nodes by name, in the order of names, found also by the addresses in their networks."""

    def __init__(self, rooms: Iterable[NodeRoom]) -> None:
        self.all = sorted(rooms, key=lambda room: room.name)
        self.by_name = {room.name: room for room in self.all}
        self._by_prefix: dict[tuple[IpFamily, int, int], tuple[NodeRoom, Network]] = {}
        for room in self.all:
            for network in room.networks:
                host_bits = network.family.bits - prefix_length(network.cidr)
                key = (network.family, host_bits, network.base >> host_bits)
                self._by_prefix.setdefault(key, (room, network))
        self._host_bits = sorted({key[:2] for key in self._by_prefix})

    def owner(self, address: Address) -> tuple[NodeRoom, int] | None:
        """Return the Node whose network ``address`` is in, and its host number there."""
        family, value = family_of(address), address_value(address)
        for candidate, host_bits in self._host_bits:
            found = self._by_prefix.get((family, host_bits, value >> host_bits))
            if candidate is family and found:
                return found[0], value - found[1].base
        return None


def assumed_node(number: int) -> Sourced[Node]:
    """Return the Node ``node-NUMBER``, complete and ready."""
    name = f"node-{number}"
    cidrs = _assumed_cidrs(number)
    labels = {HOSTNAME_LABEL: name, ZONE_LABEL: f"zone-{_letters(number)}"}
    addresses = [
        NodeAddress("InternalIP", f"192.168.99.{number}"),
        NodeAddress("InternalIP", parse_address(f"fd00:192:168:99::{number}")),
    ]
    status = NodeStatus(addresses, {"cpu": "4"}, [NodeCondition(READY, "True")])
    node = Node(ObjectMeta(name, labels=labels), NodeSpec(cidrs[0], list(cidrs)), status)
    return Sourced(node, AssumedOrigin())


def assumed_nodes(count: int) -> list[Sourced[Node]]:
    """Return ``count`` Nodes that no manifest holds.

    Raises:
        ValueError: ``count`` is not between 1 and 254.
    """
    if not 1 <= count <= MAX_ASSUMED_NODES:
        raise ValueError(f"{count} Nodes cannot be assumed, but 1 to {MAX_ASSUMED_NODES} can")
    return [assumed_node(number) for number in range(1, count + 1)]


def named_node(name: str) -> Sourced[Node]:
    """Return a Node of which Pods tell the name, and nothing else is known."""
    return Sourced(Node(ObjectMeta(name)), AssumedOrigin())


def node_rooms(nodes: Sequence[Node]) -> Rooms:
    """Return the room in each Node. One without podCIDRs gets networks, numbered by a hash of its name."""
    with_own = [(node, [Network(cidr) for cidr in _own_cidrs(node)]) for node in nodes]
    bare = sorted(node.metadata.name for node, networks in with_own if not networks)
    given = [network.cidr for _, networks in with_own for network in networks]
    assigned = _assign_numbers(bare, given) if bare else {}
    rooms = []
    for node, networks in with_own:
        number = assigned.get(node.metadata.name)
        if number is not None:
            networks.extend(Network(cidr) for cidr in _assumed_cidrs(number))
        rooms.append(NodeRoom(node, networks, assumed_networks=number is not None))
    return Rooms(rooms)


def _assign_numbers(names: list[str], given: list[Cidr]) -> dict[str, int]:
    """Return a network number for each name, away from ``given`` and usually from assumed Nodes' numbers."""
    bands = [Band(MAX_ASSUMED_NODES // 2 + 1, MAX_ASSUMED_NODES), Band(1, MAX_ASSUMED_NODES // 2)]
    numbers: Pool[str] = Pool("pod networks", bands)
    for number in range(1, MAX_ASSUMED_NODES + 1):
        if any(overlapping(_assumed_cidrs(number), given)):
            numbers.hold(number, "")
    assigned = numbers.assign([(name, name) for name in names])
    return {name: got.value for name, got in zip(names, assigned, strict=True) if got is not None}


def _own_cidrs(node: Node) -> list[Cidr]:
    """Return the first of a Node's pod networks of each family."""
    by_family: dict[IpFamily, Cidr] = {}
    for text in node.pod_cidrs:
        cidr = parse_cidr(text)
        by_family.setdefault(family_of(cidr), cidr)
    return list(by_family.values())


def _assumed_cidrs(number: int) -> tuple[Cidr, Cidr]:
    return parse_cidr(f"10.244.{number}.0/24"), parse_cidr(f"fd00:10:244:{number}::/64")


def _letters(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ... for 1, 2, ..."""
    text = ""
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text
