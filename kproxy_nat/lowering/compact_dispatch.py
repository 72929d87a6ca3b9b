"""From an address and port, or a port of the node, to the rules for it: trees of chains.

A packet takes one path: each chain leads on with ``-g``, so what matches nothing leaves the tree at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kproxy_nat.lowering.compact_names import branch_name
from kproxy_nat.lowering.prefix_tree import Entry, Node, Shape, build_tree
from kproxy_nat.net.addresses import Address, IpFamily, address_of, address_value, network_of
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.matches import AnyMatch, Destination, Multiport, Ports, Protocol, Source
from kproxy_nat.ruleset.rules import Rule

WriteChain = Callable[[str, list[Rule]], None]
"""Takes the name of a new chain and its rules."""

_PROTOCOLS = ("tcp", "udp", "sctp")
_PROTOCOL_BITS = 2
_PORT_BITS = 16
_STRIDE = 2
"""How many bits one node looks at: up to four children each."""
BUCKET = 16
"""Up to how many rules stand in one chain undivided."""
MAX_DEPTH = 8
"""How many chains of a tree may follow each other: nf_tables allows 15 on the whole way of a packet."""


class PortDispatch:
    """A tree over protocol and destination port."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._entries: list[Entry[Rule]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, protocol: str, port: int, rule: Rule) -> None:
        """Add a rule for a port; rules for the same one keep their order."""
        self._entries.append((_transport_bits(protocol, port), rule))

    def write(self, write_chain: WriteChain) -> None:
        """Write the chains of the tree."""
        width = _PROTOCOL_BITS + _PORT_BITS
        shape = Shape(width, range(_STRIDE, width + 1, _STRIDE), BUCKET, MAX_DEPTH)
        _Writer(self.root, _transport_range, write_chain).write(build_sorted(self._entries, shape))


class AddressDispatch:
    """A tree over destination address, protocol and destination port."""

    def __init__(self, root: str, family: IpFamily) -> None:
        self.root = root
        self.family = family
        self._entries: list[Entry[Rule]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, address: Address, protocol: str, port: int, rule: Rule) -> None:
        """Add a rule for an address and port; rules for the same ones keep their order."""
        key = address_value(address) << _PROTOCOL_BITS + _PORT_BITS | _transport_bits(protocol, port)
        self._entries.append((key, rule))

    def root_rules(self, write_chain: WriteChain) -> list[Rule]:
        """Write the chains below the root, and return the root's own rules."""
        width = self.family.bits + _PROTOCOL_BITS + _PORT_BITS
        shape = Shape(width, range(_STRIDE, width + 1, _STRIDE), BUCKET, MAX_DEPTH)
        writer = _Writer(self.root, self._range, write_chain)
        return writer.rules(build_sorted(self._entries, shape), Jump)

    def write(self, write_chain: WriteChain) -> None:
        """Write the chains of the tree."""
        write_chain(self.root, self.root_rules(write_chain))

    def _range(self, value: int, length: int) -> _Range:
        below = _PROTOCOL_BITS + _PORT_BITS
        if length <= self.family.bits:
            network = network_of(self.family, value >> below, length)
            return _Range(network, (Destination(network),))
        address = address_of(self.family, value >> below)
        transport = _transport_range(value & (1 << below) - 1, length - self.family.bits)
        matches: tuple[AnyMatch, ...] = (*transport.matches, Destination(address))
        return _Range(f"{address}-{transport.text}", matches)


class SourceDispatch:
    """A tree over source addresses."""

    def __init__(self, root: str, family: IpFamily) -> None:
        self.root = root
        self.family = family
        self._entries: list[Entry[Rule]] = []

    def add(self, address: Address, rule: Rule) -> None:
        """Add a rule for a source."""
        self._entries.append((address_value(address), rule))

    def write(self, write_chain: WriteChain) -> None:
        """Write the chains of the tree."""
        bits = self.family.bits
        shape = Shape(bits, range(_STRIDE, bits + 1, _STRIDE), BUCKET, MAX_DEPTH)
        _Writer(self.root, self._range, write_chain).write(build_sorted(self._entries, shape))

    def _range(self, value: int, length: int) -> _Range:
        network = network_of(self.family, value, length)
        return _Range(network, (Source(network),))


@dataclass(frozen=True, slots=True)
class _Range:
    """What the entries below a node have in common: as the text that names it, and as matches."""

    text: str
    matches: tuple[AnyMatch, ...]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes a tree as chains."""

    root: str
    range_of: Callable[[int, int], _Range]
    write_chain: WriteChain

    def write(self, tree: Node[Rule]) -> None:
        self.write_chain(self.root, self.rules(tree, Jump))

    def rules(self, node: Node[Rule], lead: type[Jump | Goto]) -> list[Rule]:
        """Return the rules of a node's chain, after writing the chains below it."""
        rules: list[Rule] = []
        for member in node.members:
            if isinstance(member, Node):
                found = self.range_of(member.value, member.length)
                name = branch_name(self.root, found.text)
                rules.append(Rule(found.matches, (lead(name),)))
                self.write_chain(name, self.rules(member, Goto))
            else:
                rules.append(member[1])
        return rules


def to_ports(protocol: str, first: int, last: int) -> tuple[AnyMatch, ...]:
    """Match traffic to a range of ports.

    By ``multiport``, since iptables 1.8 asks getaddrinfo(3) for each port of ``-m tcp`` and the like, which
    opens sockets, and takes a sixth of the time that all rules take to load.
    """
    return Protocol(protocol), Multiport((Ports(first, last),))


def build_sorted(entries: list[Entry[Rule]], shape: Shape) -> Node[Rule]:
    """Return the tree of entries in any order; the order of those with the same number is kept."""
    return build_tree(sorted(entries, key=lambda entry: entry[0]), shape)


def _transport_bits(protocol: str, port: int) -> int:
    return _PROTOCOLS.index(protocol) << _PORT_BITS | port


def _transport_range(value: int, length: int) -> _Range:
    protocol = _PROTOCOLS[value >> _PORT_BITS]
    if length <= _PROTOCOL_BITS:
        return _Range(protocol, (Protocol(protocol),))
    first = value & (1 << _PORT_BITS) - 1
    last = first | (1 << _PROTOCOL_BITS + _PORT_BITS - length) - 1
    return _Range(f"{protocol}-{first}-{last}", to_ports(protocol, first, last))
