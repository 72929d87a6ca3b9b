"""Differences for a terminal: a summary first, then Service by Service, or chain by chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.cli.diff_structure import structure_of
from kproxy_nat.diff.edits import Counts
from kproxy_nat.diff.facts import Change, Fact, ServiceChange
from kproxy_nat.diff.impact import Impact
from kproxy_nat.diff.review import FamilyReview, Level, Review
from kproxy_nat.net.addresses import IpFamily

_RED, _GREEN, _YELLOW, _BOLD, _DIM, _PLAIN = (f"\x1b[{n}m" for n in (31, 32, 33, 1, 2, 0))
_STYLES = {"+": _GREEN, "-": _RED, "~": _YELLOW}
_SIGNS = {Change.ADDED: "+", Change.REMOVED: "-", Change.MODIFIED: "~"}
_ALIKE_LISTED = 5
_LISTED = 12

Group = list[ServiceChange]
"""Services to which the same happened."""


def review_text(review: Review, *, color: bool) -> str:
    """Return a comparison as text."""
    lines = [*summary_lines(review), *_body(review)]
    return "".join(f"{_painted(line) if color else line}\n" for line in lines)


def summary_lines(review: Review) -> Iterator[str]:
    """Yield what matters most, a line each."""
    if review.level is Level.SERVICE:
        yield from _service_summary(review)
    elif not review.changed:
        yield "no difference"
    if any(family.rules for family in review.families):
        yield from rules_lines(review)
    if review.hidden:
        yield f"{_number(review.hidden, 'other difference')} not shown"


def _service_summary(review: Review) -> Iterator[str]:
    kinds = [change.change for change in review.services]
    if kinds:
        parts = [f"{kinds.count(kind)} {kind}" for kind in Change if kind in kinds]
        yield f"{_number(len(kinds), 'service port')}: {', '.join(parts)}"
    else:
        yield "nothing that was asked for differs" if review.hidden else "no Service differs"
    if review.without_effect:
        yield f"{_without_effect(review)} without changing any Service"
    if review.foreign:
        text = _number(review.foreign, "rule that is not ours differs", "rules that are not ours differ")
        yield f"{text}: --level structural shows them"


def _without_effect(review: Review) -> str:
    if any(family.rules.sets for family in review.families):
        nouns = ("rule, chain or element differs", "rules, chains or elements differ")
    else:
        nouns = ("rule or chain differs", "rules or chains differ")
    return _number(review.without_effect, *nouns)


def rules_lines(review: Review) -> Iterator[str]:
    """Yield how many rules differ, in one line, and how many elements of sets, in another."""
    counts = review.counts
    elements = (counts.elements_added, counts.elements_removed, counts.elements_updated)
    if any(family.rules.chains for family in review.families):
        yield _rules_line(counts)
    if any(elements):
        words = ("added", "removed", "updated")
        parts = [f"{n} {word}" for n, word in zip(elements, words, strict=True) if n or word != "updated"]
        yield f"elements of sets and maps: {', '.join(parts)}"


def _rules_line(counts: Counts) -> str:
    parts = [f"{counts.added} added", f"{counts.removed} removed"]
    if counts.updated:
        follow_ups = counts.endpoint_count_updates
        note = f" ({follow_ups} only because the number of endpoints changed)" if follow_ups else ""
        parts.append(f"{counts.updated} updated{note}")
    if counts.moved:
        note = f" ({counts.harmless_moves} harmless)" if counts.harmless_moves else ""
        parts.append(f"{counts.moved} moved{note}")
    return f"rules: {', '.join(parts)}"


def _body(review: Review) -> Iterator[str]:
    if review.level is Level.SERVICE:
        yield from _settings_lines(review)
    for family in review.families:
        if review.level is Level.SERVICE:
            yield from _service_lines(family, review)
        else:
            yield from _structural_lines(family, named=review.several_families)
    if review.level is Level.SERVICE and review.changed:
        yield from _impact_lines(review.impact)


def _settings_lines(review: Review) -> Iterator[str]:
    for family, facts in review.settings:
        yield ""
        yield node_heading(family, review)
        yield from map(_fact_line, facts)


def _service_lines(family: FamilyReview, review: Review) -> Iterator[str]:
    twice = review.in_both_families
    for group in grouped(family.services):
        yield ""
        place = f"  {place_of(group)}" if place_of(group) else ""
        yield heading(group, family=any(change.key in twice for change in group)) + place
        yield from map(_fact_line, group[0].facts)


def node_heading(family: IpFamily | None, review: Review) -> str:
    """Return the line above what differs for the node; it names the family, if the other is not alike."""
    return f"~ node ({family})" if family and review.several_families else "~ node"


def grouped(changes: Iterable[ServiceChange]) -> list[Group]:
    """Put Services together to which the same happened; those that came or went stand alone."""
    groups: dict[object, Group] = {}
    for change in changes:
        said = tuple((fact.sign, fact.text) for fact in change.facts)
        key = said if change.change is Change.MODIFIED else change.key
        groups.setdefault(key, []).append(change)
    return list(groups.values())


def heading(group: Group, *, family: bool) -> str:
    """Return the line above what happened to a group of Services; with ``family``, it says which."""
    first = group[0]
    sign = _SIGNS[first.change]
    which = f" ({first.family})" if family else ""
    if len(group) > 1:
        names = [str(change.key) for change in group[:_ALIKE_LISTED]]
        more = f" and {len(group) - _ALIKE_LISTED} more" if len(group) > _ALIKE_LISTED else ""
        return f"{sign} {_number(len(group), 'service port')} alike: {', '.join(names)}{more}{which}"
    where = f" at {first.addresses[0]}" if first.addresses and first.change is Change.MODIFIED else ""
    return f"{sign} {first.key}{which}{where}"


def place_of(group: Group) -> str:
    """Return where the manifests define the Service of a group, if it is one alone."""
    return group[0].place if len(group) == 1 else ""


def _fact_line(fact: Fact) -> str:
    place = f"  {fact.place}" if fact.place else ""
    return f"    {fact.sign} {fact.text}{place}"


def _impact_lines(impact: Impact) -> Iterator[str]:
    lines = list(impact_sentences(impact))
    if lines:
        yield ""
        yield "impact"
        yield from (f"    {line}" for line in lines)


def impact_sentences(impact: Impact) -> Iterator[str]:
    """Yield what a change does to traffic, and what it costs; of long lists, the beginning."""
    for text, items in impact_parts(impact):
        yield f"{text}: {listing(items, _LISTED)}" if items else text


def impact_parts(impact: Impact) -> Iterator[tuple[str, list[str]]]:
    """Yield the same as sentences, those with a list without it, and the whole list."""
    if impact.stopped:
        yield "no longer served", impact.stopped
    if impact.started:
        yield "newly served", impact.started
    if impact.shares:
        largest = max(impact.shares, key=lambda share: abs(share.points))
        count = _number(len(impact.shares), "endpoint")
        by = f"{abs(largest.points):.2f}".rstrip("0").rstrip(".")
        most = "by" if len(impact.shares) == 1 else "by at most"
        yield f"share of new connections moves for {count}, {most} {by} percentage points", []
    if impact.stale_udp:
        flows = [f"{flow.to} to {flow.endpoint}" for flow in impact.stale_udp]
        yield "UDP flows that conntrack keeps with a former endpoint", flows
    if impact.affinity_lost:
        lost = [
            f"{one.service} {one.endpoint} ({one.reason})"
            if one.endpoint
            else f"{one.service} ({one.reason})"
            for one in impact.affinity_lost
        ]
        yield "clients lose the endpoint they were kept with", lost
    writes = impact.writes
    if writes.bytes or writes.deleted_chains:
        chains = f", {_number(writes.deleted_chains, 'chain')} to delete" if writes.deleted_chains else ""
        elements = f"{_number(writes.elements, 'element')}, " if writes.elements else ""
        yield f"{_number(writes.rules, 'rule')}, {elements}{writes.bytes:,} bytes to write{chains}", []


def listing(items: list[str], most: int) -> str:
    """Return items joined by commas; of more than ``most``, the first, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _structural_lines(family: FamilyReview, *, named: bool) -> Iterator[str]:
    last = ""
    for table, (first, *lines) in structure_of(family, named=named):
        if table != last:
            last = table
            yield ""
            yield table
        yield f"  {first}"
        yield from (f"      {line}" for line in lines)


def _number(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def _painted(line: str) -> str:
    word = line.lstrip()[:2]
    if word in ("+ ", "- ", "~ "):
        style = _STYLES[word[0]]
        return f"{style}{_BOLD if line[0] != ' ' else ''}{line}{_PLAIN}"
    return f"{_BOLD}{line}{_PLAIN}" if line and line[0] != " " else f"{_DIM}{line}{_PLAIN}" if line else line
