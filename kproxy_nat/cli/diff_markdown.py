"""Differences as Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from kproxy_nat.cli.diff_structure import structure_of
from kproxy_nat.cli.diff_text import (
    grouped,
    heading,
    impact_sentences,
    node_heading,
    place_of,
    summary_lines,
)
from kproxy_nat.diff.facts import Fact
from kproxy_nat.diff.review import FamilyReview, Level, Review

_OPEN = 5
"""So many Services are shown open; more are folded."""

_MAX_BYTES = 60_000
"""A comment on GitHub holds 65,536 characters."""

_CUT = "\n*The rest is left out: this comment is full.*\n"


def review_markdown(review: Review) -> str:
    """Return a comparison as Markdown."""
    text = "".join(f"{line}\n" for line in _lines(review))
    if len(text.encode()) <= _MAX_BYTES:
        return text
    whole = text.encode()[:_MAX_BYTES].decode(errors="ignore")
    kept = whole[: whole.rindex("\n") + 1]
    if kept.count("```") % 2:
        kept += "```\n"
    kept += "</details>\n" * (kept.count("<details>") - kept.count("</details>"))
    return kept + _CUT


def _lines(review: Review) -> Iterator[str]:
    yield f"### kproxy-nat diff: {_code(review.old)} to {_code(review.new)}"
    yield ""
    yield from (f"- {_escaped(line)}" for line in summary_lines(review))
    if review.level is Level.SERVICE:
        yield from _services(review)
        sentences = list(impact_sentences(review.impact)) if review.changed else []
        if sentences:
            yield from ("", "#### Impact", "")
            yield from (f"- {_escaped(sentence)}" for sentence in sentences)
    else:
        for family in review.families:
            yield from _structure(family)


def _services(review: Review) -> Iterator[str]:
    for settings_of, facts in review.settings:
        yield from _section(node_heading(settings_of, review), facts, "", folded=False)
    twice = review.in_both_families
    for family in review.families:
        groups = grouped(family.services)
        for group in groups:
            title = heading(group, family=any(change.key in twice for change in group))
            yield from _section(title, group[0].facts, place_of(group), folded=len(groups) > _OPEN)


def _section(title: str, facts: Iterable[Fact], place: str, *, folded: bool) -> Iterator[str]:
    text = escape(title[2:])
    sign = {"+": "added", "-": "removed", "~": "changed"}[title[0]]
    yield ""
    where = f" <code>{escape(place)}</code>" if place else ""
    yield f"<details{'' if folded else ' open'}><summary><b>{text}</b> ({sign}){where}</summary>"
    yield ""
    yield "```diff"
    for fact in facts:
        mark = {"~": "!"}.get(fact.sign, str(fact.sign))
        yield f"{mark} {fact.text}{f'  ({fact.place})' if fact.place else ''}"
    yield "```"
    yield "</details>"


def _structure(family: FamilyReview) -> Iterator[str]:
    for table, (first, *lines) in structure_of(family, named=True):
        yield ""
        yield f"<details><summary>{table}: {escape(first)}</summary>"
        yield ""
        yield "```diff"
        yield from lines
        yield "```"
        yield "</details>"


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>":
        text = text.replace(character, {"<": "&lt;", ">": "&gt;"}.get(character, f"\\{character}"))
    return text
