"""Whether one packet can match two rules: what decides if their order matters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from kproxy_nat.ruleset.matches import (
    AnyMatch,
    CtState,
    Destination,
    InInterface,
    Mark,
    Multiport,
    OutInterface,
    Ports,
    Protocol,
    Source,
    Transport,
    destination_ports,
)
from kproxy_nat.ruleset.rules import Rule

Pin = tuple[str, str, int]
"""One destination address, protocol and port."""


def pin_of(rule: Rule) -> Pin | None:
    """Return the only destination that a rule matches; ``None`` if it may match several."""
    address = protocol = ""
    port = 0
    for match in rule.matches:
        if isinstance(match, Destination) and not match.negated and _is_host(match.network):
            address = match.network
        elif isinstance(match, Protocol) and not match.negated:
            protocol = match.name
        elif (ports := destination_ports(match)) and _is_single(ports):
            port = ports.first
    return (address, protocol, port) if address and protocol and port else None


def may_overlap(first: Rule, second: Rule) -> bool:
    """Whether a packet may match both rules. Only what is provably impossible yields false."""
    for match in first.matches:
        disjoint = _DISJOINT.get(type(match))
        if disjoint and any(type(o) is type(match) and disjoint(match, o) for o in second.matches):
            return False
    return True


def _is_host(network: str) -> bool:
    return network.endswith("/128" if ":" in network else "/32") or "/" not in network


def _is_single(ports: Ports) -> bool:
    return ports.first == ports.last and not ports.negated


@functools.lru_cache(maxsize=1 << 16)
def _range(network: str) -> tuple[int, int]:
    parsed = ip_network(network, strict=False)
    return int(parsed.network_address), int(parsed.broadcast_address)


def _disjoint_networks(a: Source | Destination, b: Source | Destination) -> bool:
    low, high = _range(a.network)
    other_low, other_high = _range(b.network)
    if a.negated and b.negated:
        return False
    if a.negated:
        return low <= other_low and other_high <= high
    if b.negated:
        return other_low <= low and high <= other_high
    return high < other_low or other_high < low


def _disjoint_names(
    a: InInterface | OutInterface | Protocol, b: InInterface | OutInterface | Protocol
) -> bool:
    if a.name.endswith("+") or b.name.endswith("+"):
        return False
    if a.negated or b.negated:
        return a.negated != b.negated and a.name == b.name
    return a.name != b.name


def _disjoint_transports(a: Transport, b: Transport) -> bool:
    if a.protocol != b.protocol:
        return True
    return _disjoint_ports(a.source, b.source) or _disjoint_ports(a.destination, b.destination)


def _disjoint_multiports(a: Multiport, b: Multiport) -> bool:
    return _disjoint_ports(destination_ports(a), destination_ports(b))


def _disjoint_ports(a: Ports | None, b: Ports | None) -> bool:
    if a is None or b is None or (a.negated and b.negated):
        return False
    if a.negated:
        return a.first <= b.first and b.last <= a.last
    if b.negated:
        return b.first <= a.first and a.last <= b.last
    return a.last < b.first or b.last < a.first


def _disjoint_states(a: CtState, b: CtState) -> bool:
    if a.negated or b.negated:
        return a.negated != b.negated and set(a.states) == set(b.states)
    shared = set(a.states) & set(b.states)
    status = {"SNAT", "DNAT"}
    return not shared and not (status & set(a.states)) and not (status & set(b.states))


def _disjoint_marks(a: Mark, b: Mark) -> bool:
    if a.mask != b.mask or (a.negated and b.negated):
        return False
    return (a.value == b.value) == (a.negated != b.negated)


_DISJOINT: dict[type[AnyMatch], Callable[[Any, Any], bool]] = {
    Source: _disjoint_networks,
    Destination: _disjoint_networks,
    InInterface: _disjoint_names,
    OutInterface: _disjoint_names,
    Protocol: _disjoint_names,
    Transport: _disjoint_transports,
    Multiport: _disjoint_multiports,
    CtState: _disjoint_states,
    Mark: _disjoint_marks,
}
