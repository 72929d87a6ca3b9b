"""The figures of one layout for one view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import DnatMap, VerdictMap
from kproxy_nat.ruleset.matches import OneOf
from kproxy_nat.ruleset.rules import Rule, Ruleset
from kproxy_nat.stats.nft_walks import NftWalker
from kproxy_nat.stats.packets import FirstPacket, Ways
from kproxy_nat.stats.traffic import Traffic, first_packets
from kproxy_nat.stats.walks import Walker

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
        chains: without built-in and base chains.
        sets: and maps, with or without a name; iptables has none.
        elements: of these sets and maps.
        first_packet: by kind of traffic; without those that the view does not have.
    """

    mode: str
    layout: str
    rules: int
    chains: int
    sets: int
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
    """Return the figures of every layout for every view; those of a family's views stand side by side."""
    families: dict[IpFamily, FamilyStats] = {}
    for view in views:
        empty = FamilyStats(view.family, len(view.services), view.endpoint_count, [])
        found = families.setdefault(view.family, empty)
        found.layouts.extend(measure(view, Layout(name, hairpin)) for name in LayoutName)
    return StatsDocument(FORMAT, VERSION, node, list(families.values()))


def measure(view: NodeView, layout: Layout) -> LayoutStats:
    """Return the figures of a layout for the mode of a view."""
    is_nftables = view.options.mode is ProxyMode.NFTABLES
    return measure_nftables(view, layout) if is_nftables else measure_iptables(view, layout)


def measure_iptables(view: NodeView, layout: Layout) -> LayoutStats:
    """Return the figures of a layout for iptables."""
    ruleset = layout.ruleset(view)
    walker = Walker(ruleset, frozenset(view.options.local_addresses))
    return _stats(view, layout, ruleset, render_save(ruleset), walker.walk)


def measure_nftables(view: NodeView, layout: Layout) -> LayoutStats:
    """Return the figures of a layout for nftables."""
    ruleset = layout.nft_ruleset(view)
    (table,) = ruleset.tables.values()
    walker = NftWalker(table, frozenset(view.options.local_addresses))
    return _stats(view, layout, ruleset, render_listing([table]), walker.walk)


def _stats(
    view: NodeView, layout: Layout, ruleset: Ruleset, text: str, walk: Callable[[FirstPacket], Ways]
) -> LayoutStats:
    chains = [chain for table in ruleset.tables.values() for chain in table.chains.values()]
    sets = [len(named.elements) for table in ruleset.tables.values() for named in table.sets.values()]
    sets += _anonymous_sets(rule for _, _, rule in ruleset.rules())
    ways: dict[Traffic, list[Ways]] = {}
    for traffic, packet in first_packets(view):
        ways.setdefault(traffic, []).append(walk(packet))
    return LayoutStats(
        mode=view.options.mode,
        layout=layout.name,
        rules=sum(len(chain.rules) for chain in chains),
        chains=sum(chain.policy is None for chain in chains),
        sets=len(sets),
        elements=sum(sets),
        bytes=len(text.encode()),
        first_packet={traffic: summary(ways[traffic]) for traffic in Traffic if traffic in ways},
    )


def _anonymous_sets(rules: Iterable[Rule]) -> Iterator[int]:
    """Yield the sizes of the sets and maps that stand in rules themselves."""
    for rule in rules:
        for match in rule.matches:
            # Of a single value a rule makes no set.
            if isinstance(match, OneOf) and len(match.values) > 1:
                yield len(match.values)
        for action in rule.actions:
            if isinstance(action, VerdictMap | DnatMap) and not isinstance(action.map, str):
                yield len(action.map)


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
