"""Differences as one HTML page that needs nothing else: searchable, folded by Service, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files

from kproxy_nat.cli.diff_structure import structure_of
from kproxy_nat.cli.diff_text import (
    grouped,
    heading,
    impact_parts,
    listing,
    node_heading,
    place_of,
    summary_lines,
)
from kproxy_nat.diff.facts import Fact, ServiceChange
from kproxy_nat.diff.flows import FlowChange, Outcome
from kproxy_nat.diff.review import FamilyReview, Level, Review

_KINDS = {"+": "added", "-": "removed", "~": "changed"}
_BLANK = re.compile(r"\{\{(\w+)\}\}")
_SEARCHED = {True: "Services, addresses, endpoints", False: "chains, sets, rules, elements"}
_OPEN = 20
_FLOW_ROWS = 40
"""So many rows a table of flows has at most; a page of 5,000 Services has to load fast."""

_LISTED = 4
"""So many items a list has at most that is not folded."""


def review_html(review: Review) -> str:
    """Return a comparison as a page."""
    template = files("kproxy_nat.cli").joinpath("diff_page.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(f"{review.old} to {review.new}"),
        "summary": "".join(f"<li>{escape(line)}</li>" for line in summary_lines(review)),
        "search": f"Search {_SEARCHED[review.level is Level.SERVICE]}",
        "body": "".join(_body(review)),
    }
    return _BLANK.sub(lambda blank: parts[blank[1]], template)


def _body(review: Review) -> Iterator[str]:
    if review.level is not Level.SERVICE:
        for family in review.families:
            yield from _structure(family)
        return
    parts = "".join(_impact(*part) for part in impact_parts(review.impact)) if review.changed else ""
    if parts:
        yield f'<section class="impact"><h2>Impact</h2><ul>{parts}</ul></section>'
    groups = [(family, group) for family in review.families for group in grouped(family.services)]
    for settings_of, settings in review.settings:
        yield _card(node_heading(settings_of, review), list(map(_fact, settings)), "", "", opened=True)
    twice = review.in_both_families
    for _, group in groups:
        title = heading(group, family=any(change.key in twice for change in group))
        facts = list(map(_fact, group[0].facts))
        yield _card(
            title, facts, _members(group) + _flows(group[0]), place_of(group), opened=len(groups) <= _OPEN
        )


def _impact(text: str, items: list[str]) -> str:
    """Return one thing that the change does; a long list is folded behind its beginning."""
    if len(items) <= _LISTED:
        return f"<li>{escape(f'{text}: {listing(items, _LISTED)}' if items else text)}</li>"
    summary = escape(f"{text}: {listing(items, 1)}")
    return f"<li><details><summary>{summary}</summary><p>{escape(', '.join(items))}</p></details></li>"


def _card(title: str, facts: list[str], more: str, place: str, *, opened: bool) -> str:
    """Return what is said of one thing, folded or opened; if there is only a title, nothing is to open."""
    kind = _KINDS[title[0]]
    where = f' <span class="place">{escape(place)}</span>' if place else ""
    head = f'<span class="badge">{kind}</span> <span>{escape(title[2:])}</span>{where}'
    if not (facts or more):
        return f'<div class="card {kind}"><div class="head">{head}</div></div>'
    head = f'<summary class="head">{head}</summary>'
    return (
        f'<details class="card {kind}"{" open" if opened else ""}>{head}'
        f'<ul class="facts">{"".join(facts)}</ul>{more}</details>'
    )


def _fact(fact: Fact) -> str:
    place = f'<span class="place">{escape(fact.place)}</span>' if fact.place else ""
    return f'<li class="{_KINDS[fact.sign]}"><b>{fact.sign}</b><span>{escape(fact.text)}</span>{place}</li>'


def _members(group: list[ServiceChange]) -> str:
    """Name all Services of a group, so that a search finds them."""
    if len(group) == 1:
        return ""
    names = ", ".join(escape(str(change.key)) for change in group)
    return f'<details class="members"><summary>all {len(group)}</summary><p>{names}</p></details>'


def _flows(change: ServiceChange) -> str:
    rows = "".join(row for flow in change.flows for row in _rows(flow))
    if not rows:
        return ""
    head = "<tr><th>endpoint</th><th>before</th><th>after</th></tr>"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    return f'<details class="flows"><summary>shares of new connections</summary>{table}</details>'


def _rows(flow: FlowChange) -> Iterator[str]:
    """Yield where new connections go that come from one kind of clients; above them, which these are."""
    yield f'<tr><th colspan="3" class="to">{escape(f"{flow.to} from {flow.source}")}</th></tr>'
    endpoints = list(dict.fromkeys((*(flow.old or {}), *(flow.new or {}))))
    for endpoint in endpoints[:_FLOW_ROWS]:
        cells = (endpoint or "none", _share(flow.old, endpoint), _share(flow.new, endpoint))
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    if len(endpoints) > _FLOW_ROWS:
        yield f'<tr><td colspan="3">and {len(endpoints) - _FLOW_ROWS} more</td></tr>'


def _share(outcome: Outcome | None, endpoint: str) -> str:
    share = (outcome or {}).get(endpoint)
    return "" if share is None else f"{float(share) * 100:.2f} %"


def _structure(family: FamilyReview) -> Iterator[str]:
    groups = list(structure_of(family, named=True))
    for table, (first, *lines) in groups:
        facts = [
            f'<li class="{_KINDS[line[0]]}"><b>{line[0]}</b><code>{escape(line[2:])}</code></li>'
            for line in lines
        ]
        title = f"{first[0]} {table}: {first[2:]}"
        yield _card(title, facts, "", "", opened=len(groups) <= _OPEN)
