"""What going from the old rules to the new ones does to traffic, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import msgspec

from kproxy_nat.diff.clients import lost_clients
from kproxy_nat.diff.facts import ServiceChange
from kproxy_nat.diff.flows import FlowChange, Outcome, is_served
from kproxy_nat.recover.model import DROP, NFTABLES, REJECT, PortKey, RecoveredPort

_VERDICTS = frozenset((DROP, REJECT, ""))


class MovedShare(msgspec.Struct, frozen=True):
    """An endpoint whose part of new connections changes, in percentage points."""

    service: str
    endpoint: str
    points: float


class StaleFlows(msgspec.Struct, frozen=True):
    """UDP flows to an address that conntrack keeps with an endpoint which serves it no longer."""

    service: str
    to: str
    endpoint: str


class LostAffinity(msgspec.Struct, frozen=True):
    """Clients that lose the endpoint they were kept with; ``endpoint`` is empty for all of the port's."""

    service: str
    endpoint: str
    reason: str


class Writes(msgspec.Struct, frozen=True):
    """What is handed to the kernel: every chain that differs as a whole, elements of sets one by one."""

    rules: int = 0
    bytes: int = 0
    deleted_chains: int = 0
    elements: int = 0

    def __add__(self, other: Writes) -> Writes:
        return Writes(
            self.rules + other.rules,
            self.bytes + other.bytes,
            self.deleted_chains + other.deleted_chains,
            self.elements + other.elements,
        )


class Impact(msgspec.Struct, frozen=True):
    """The whole. ``stopped`` and ``started`` are addresses with port and protocol, by where clients are."""

    shares: list[MovedShare] = []
    stopped: list[str] = []
    started: list[str] = []
    stale_udp: list[StaleFlows] = []
    affinity_lost: list[LostAffinity] = []
    writes: Writes = Writes()

    def __add__(self, other: Impact) -> Impact:
        return Impact(
            self.shares + other.shares,
            self.stopped + other.stopped,
            self.started + other.started,
            self.stale_udp + other.stale_udp,
            self.affinity_lost + other.affinity_lost,
            self.writes + other.writes,
        )


def impact_of(
    changes: Iterable[ServiceChange],
    old: Mapping[PortKey, RecoveredPort],
    new: Mapping[PortKey, RecoveredPort],
    writes: Writes,
) -> Impact:
    """Return what the changes of one family's Services do."""
    impact = Impact(writes=writes)
    for change in changes:
        name = str(change.key)
        before = old.get(change.old_key or change.key)
        after = new.get(change.key)
        impact.shares.extend(_moved_shares(name, change.flows))
        impact.stopped.extend(lost_clients(before, after))
        impact.started.extend(lost_clients(after, before))
        if change.key.protocol == "UDP":
            impact.stale_udp.extend(_stale_flows(name, change.flows))
        if before is not None and before.affinity_seconds and not (after and after.mode != before.mode):
            impact.affinity_lost.extend(_lost_affinity(name, change, before, after))
    impact.affinity_lost.extend(_lost_with_mode(old, new))
    return impact


def _lost_with_mode(
    old: Mapping[PortKey, RecoveredPort], new: Mapping[PortKey, RecoveredPort]
) -> Iterator[LostAffinity]:
    """Yield the ports that lose their lists of clients, since each mode keeps its own."""
    for key, before in old.items():
        after = new.get(key)
        if after and before.affinity_seconds and after.affinity_seconds and before.mode != after.mode:
            yield LostAffinity(str(key), "", "each mode has lists of clients of its own")


def _moved_shares(name: str, flows: Iterable[FlowChange]) -> Iterator[MovedShare]:
    """Yield the largest change of each endpoint over the port's addresses."""
    largest: dict[str, Fraction] = {}
    for flow in flows:
        if flow.old is None or flow.new is None or not (is_served(flow.old) and is_served(flow.new)):
            continue
        for endpoint in (flow.old.keys() | flow.new.keys()) - _VERDICTS:
            points = 100 * (flow.new.get(endpoint, Fraction(0)) - flow.old.get(endpoint, Fraction(0)))
            if abs(points) > abs(largest.get(endpoint, Fraction(0))):
                largest[endpoint] = points
    for endpoint in sorted(largest):
        yield MovedShare(name, endpoint, round(float(largest[endpoint]), 2))


def _stale_flows(name: str, flows: Iterable[FlowChange]) -> Iterator[StaleFlows]:
    found: dict[StaleFlows, None] = {}
    kept: set[tuple[str, str]] = set()
    for flow in flows:
        kept.update((flow.to, endpoint) for endpoint in _endpoints(flow.new))
    for flow in flows:
        for endpoint in _endpoints(flow.old):
            if (flow.to, endpoint) not in kept:
                found[StaleFlows(name, flow.to, endpoint)] = None
    yield from found


def _endpoints(outcome: Outcome | None) -> list[str]:
    return sorted((outcome or {}).keys() - _VERDICTS)


def _lost_affinity(
    name: str, change: ServiceChange, old: RecoveredPort, new: RecoveredPort | None
) -> Iterator[LostAffinity]:
    if new is None:
        yield LostAffinity(name, "", "the port is removed")
    elif not new.affinity_seconds:
        yield LostAffinity(name, "", "session affinity ends" if new.endpoints else "no endpoint is left")
    elif change.old_key is not None:
        yield LostAffinity(name, "", "lists of clients are kept under the name of the port")
    elif new.mode == NFTABLES and new.affinity_seconds != old.affinity_seconds:
        yield LostAffinity(name, "", "with another timeout, sets of clients are made anew")
    else:
        for endpoint in old.endpoints:
            if endpoint not in new.endpoints:
                yield LostAffinity(name, endpoint, "the endpoint is removed")
