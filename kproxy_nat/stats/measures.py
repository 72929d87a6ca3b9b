"""The figures of one layout for one view."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.stats.traffic import Traffic, first_packets
from kproxy_nat.stats.walks import Walker, Ways

FORMAT = "kproxy-nat/stats"
VERSION = 1


class Walks(msgspec.Struct, frozen=True):
    """Rules on the way of a first packet; every frontend counts alike, draws by their probability.

    Attributes:
        frontends: to how many addresses and ports packets were sent.
    """

    frontends: int
    median: int
    p99: int
    worst: int


class LayoutStats(msgspec.Struct, frozen=True):
    """The figures of a layout. ``bytes`` is the size of what ``compile`` writes.

    Attributes:
        elements: of sets and maps; iptables has none.
        first_packet: by kind of traffic; without those that the view does not have.
    """

    mode: str
    layout: str
    rules: int
    chains: int
    elements: int
    bytes: int
    first_packet: dict[Traffic, Walks]


class FamilyStats(msgspec.Struct, frozen=True):
    """The layouts side by side, for one family."""

    family: IpFamily
    services: int
    endpoints: int
    layouts: list[LayoutStats]


class StatsDocument(msgspec.Struct, frozen=True):
    """All figures."""

    format: str
    version: int
    node: str
    families: list[FamilyStats]


def measure_views(views: Iterable[NodeView], node: str, hairpin: Hairpin) -> StatsDocument:
    """Return the figures of every layout for every view."""
    families = [
        FamilyStats(
            view.family,
            len(view.services),
            view.endpoint_count,
            [measure_iptables(view, Layout(name, hairpin)) for name in LayoutName],
        )
        for view in views
    ]
    return StatsDocument(FORMAT, VERSION, node, families)


def measure_iptables(view: NodeView, layout: Layout) -> LayoutStats:
    """Return the figures of a layout for iptables."""
    ruleset = layout.ruleset(view)
    chains = [chain for table in ruleset.tables.values() for chain in table.chains.values()]
    walker = Walker(ruleset, frozenset(view.options.local_addresses))
    ways: dict[Traffic, list[Ways]] = {}
    for traffic, packet in first_packets(view):
        ways.setdefault(traffic, []).append(walker.walk(packet))
    return LayoutStats(
        mode="iptables",
        layout=layout.name,
        rules=sum(len(chain.rules) for chain in chains),
        chains=sum(chain.policy is None for chain in chains),
        elements=0,
        bytes=len(render_save(ruleset).encode()),
        first_packet={traffic: summary(ways[traffic]) for traffic in Traffic if traffic in ways},
    )


def summary(found: list[Ways]) -> Walks:
    """Return median, 99th percentile and worst of the ways of several packets."""
    by_count: dict[int, float] = {}
    for ways in found:
        for probability, rules in ways:
            by_count[rules] = by_count.get(rules, 0.0) + probability
    counts = sorted(by_count)
    return Walks(len(found), _quantile(by_count, counts, 0.5), _quantile(by_count, counts, 0.99), counts[-1])


def _quantile(by_count: dict[int, float], counts: list[int], share: float) -> int:
    """Return the smallest count that this share of all packets does not exceed."""
    wanted = share * sum(by_count.values()) - 1e-9
    passed = 0.0
    for count in counts:
        passed += by_count[count]
        if passed >= wanted:
            return count
    return counts[-1]
