"""Figures as a table for people: a column for each layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kproxy_nat.stats.measures import FamilyStats, LayoutStats, StatsDocument, Walks
from kproxy_nat.stats.traffic import Traffic

_SIZES: tuple[tuple[str, Callable[[LayoutStats], int]], ...] = (
    ("rules", lambda stats: stats.rules),
    ("chains", lambda stats: stats.chains),
    ("sets and maps", lambda stats: stats.sets),
    ("elements", lambda stats: stats.elements),
    ("bytes", lambda stats: stats.bytes),
)
_HEADING = "rules on the way of a first packet: median / 99th percentile / worst"

Row = tuple[str, list[str]]


def stats_text(document: StatsDocument) -> str:
    """Return the tables of all families."""
    blocks = ("".join(f"{line}\n" for line in _family(family)) for family in document.families)
    return "\n".join(blocks)


def _family(stats: FamilyStats) -> Iterator[str]:
    ports, endpoints = _counted(stats.services, "service port"), _counted(stats.endpoints, "endpoint")
    yield f"{stats.family}: {ports}, {endpoints}"
    head = ("", [f"{layout.mode} {layout.layout}" for layout in stats.layouts])
    sizes = [
        (title, [f"{value(layout):,}" for layout in stats.layouts])
        for title, value in _SIZES
        if any(map(value, stats.layouts))
    ]
    walks = [
        (f"{traffic} ({frontends:,})", [_walks(layout.first_packet.get(traffic)) for layout in stats.layouts])
        for traffic in Traffic
        if (frontends := _frontends(stats, traffic))
    ]
    widths = [max(len(row[1][n]) for row in (head, *sizes, *walks)) for n in range(len(stats.layouts))]
    first = max(len(title) for title, _ in (*sizes, *walks))
    yield from (_line(row, first, widths) for row in (head, *sizes))
    yield _HEADING
    yield from (_line(row, first, widths) for row in walks)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _frontends(stats: FamilyStats, traffic: Traffic) -> int:
    found = (layout.first_packet.get(traffic) for layout in stats.layouts)
    return max((walks.frontends for walks in found if walks), default=0)


def _walks(walks: Walks | None) -> str:
    return f"{walks.median:,} / {walks.p99:,} / {walks.worst:,}" if walks else "-"


def _line(row: Row, first: int, widths: list[int]) -> str:
    title, cells = row
    columns = "".join(f"   {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"  {title:<{first}}{columns}".rstrip()
