"""The first packet of a flow, and which conditions hold for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kproxy_nat.net.addresses import Address, Cidr, cidr_contains
from kproxy_nat.ruleset import matches
from kproxy_nat.ruleset.bytecode import SAME_ADDRESSES

Ways = list[tuple[float, int]]
"""Probabilities and counts of rules."""


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """The first packet of a flow, as it enters the node."""

    source: Address
    destination: Address
    protocol: str
    port: int
    interface: str
    mark: int = 0
    translated: bool = False


def holds(match: matches.AnyMatch, packet: FirstPacket, is_local: Callable[[Address], bool]) -> bool:
    """Tell whether a packet meets a condition; conditions of kinds that are not known are not met."""
    test = _TESTS.get(type(match))
    if isinstance(match, matches.AddrType):
        address = packet.source if match.side == "src" else packet.destination
        return (match.types == ("LOCAL",) and is_local(address)) != match.negated
    return test is not None and test(match, packet)


def host_of(network: Address | Cidr) -> str | None:
    """Return the address that a network holds alone."""
    address, _, length = network.partition("/")
    return address if length in ("", "32" if "." in address else "128") else None


def in_network(network: Address | Cidr, address: Address) -> bool:
    """Tell whether a network holds an address."""
    host = host_of(network)
    return address == host if host else cidr_contains(Cidr(network), address)


def _in_ports(ports: matches.Ports | None, port: int) -> bool:
    return ports is None or (ports.first <= port <= ports.last) != ports.negated


def _in_any(ranges: Iterable[matches.Ports], port: int) -> bool:
    return any(_in_ports(ports, port) for ports in ranges)


def _is_interface(name: str, interface: str) -> bool:
    return interface.startswith(name[:-1]) if name.endswith("+") else interface == name


def _has_state(match: matches.CtState, packet: FirstPacket) -> bool:
    return ("NEW" in match.states or (packet.translated and "DNAT" in match.states)) != match.negated


def _is_on_list(match: matches.Recent, _: FirstPacket) -> bool:
    """Answer for a client that was never seen."""
    return (match.operation == "set") != match.negated


_TESTS: dict[type, Callable[[Any, FirstPacket], bool]] = {
    matches.Source: lambda m, p: in_network(m.network, p.source) != m.negated,
    matches.Destination: lambda m, p: in_network(m.network, p.destination) != m.negated,
    matches.InInterface: lambda m, p: _is_interface(m.name, p.interface) != m.negated,
    matches.Protocol: lambda m, p: (m.name == p.protocol) != m.negated,
    matches.Transport: lambda m, p: m.protocol == p.protocol and _in_ports(m.destination, p.port),
    matches.Multiport: lambda m, p: m.side == "dports" and _in_any(m.ranges, p.port) != m.negated,
    matches.Mark: lambda m, p: (p.mark & m.mask == m.value) != m.negated,
    matches.CtState: _has_state,
    matches.Recent: _is_on_list,
    matches.CtStatus: lambda m, p: (p.translated and "dnat" in m.statuses) != m.negated,
    matches.Comment: lambda _, __: True,
    matches.Counter: lambda _, __: True,
    matches.Nfacct: lambda _, __: True,
    matches.Bpf: lambda m, p: m.program in SAME_ADDRESSES.values() and p.source == p.destination,
}
"""How each kind of match judges a packet; other kinds are taken not to match."""
