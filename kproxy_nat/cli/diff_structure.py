"""Edits of tables, chains, rules, sets and elements as lines, for every output that shows text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.diff.edits import (
    Cause,
    ChainEdit,
    EditKind,
    ElementEdit,
    MapEntry,
    RuleEdit,
    SetEdit,
    TableEdit,
)
from kproxy_nat.diff.review import FamilyReview
from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.formats.nft_priorities import priority_text
from kproxy_nat.formats.nft_render import hook_text
from kproxy_nat.formats.nft_shown import shown_element, shown_rule
from kproxy_nat.formats.nft_words import verdict_text
from kproxy_nat.net.addresses import IpFamily, join_host_port
from kproxy_nat.ruleset.actions import VerdictEntry
from kproxy_nat.ruleset.rules import Hook, Rule
from kproxy_nat.ruleset.sets import NamedSet

Group = tuple[str, list[str]]
"""The table that edits belong to, as headings name it, and lines: the first names the object."""

_SIGNS = {EditKind.INSERT: "+", EditKind.REMOVE: "-"}
_CAUSES: dict[Cause | None, str] = {
    Cause.ENDPOINT_COUNT: "only the number of endpoints changed",
    Cause.ENDPOINT_ORDER: "only the order of endpoints changed",
    Cause.COMMENT: "only the comment changed",
}


def structure_of(review: FamilyReview, *, named: bool) -> Iterator[Group]:
    """Yield what differs, table by table: sets before chains, as nft lists them.

    With ``named``, tables of iptables are told apart by family; those of nftables have it in their name.
    """
    tables = {edit.table: edit for edit in review.rules.tables}
    changed: dict[str, list[list[str]]] = {}
    rules = review.rules
    labels = {*tables, *(edit.table for edit in rules.sets), *(edit.table for edit in rules.chains)}
    for label in sorted(labels):
        groups = changed.setdefault(label, [])
        groups += [list(_table_lines(tables[label]))] if label in tables else []
        groups += [list(set_lines(e)) for e in review.rules.sets if e.table == label]
        groups += [list(chain_lines(e, review.family)) for e in review.rules.chains if e.table == label]
    for label, groups in changed.items():
        heading = f"{review.family} {label}" if named and " " not in label else label
        yield from ((heading, lines) for lines in groups)


def _table_lines(edit: TableEdit) -> Iterator[str]:
    yield f"{_SIGNS.get(edit.kind, '~')} table {edit.table}"
    if edit.kind is EditKind.UPDATE:
        yield from _replaced("comment", *edit.comments)


def set_lines(edit: SetEdit) -> Iterator[str]:
    """Yield the lines about one set or map."""
    kind = "map" if edit.is_map else "set"
    yield f"{_SIGNS.get(edit.kind, '~')} {kind} {_name(edit.name, edit.old_name)}"
    before, after = edit.before, edit.after
    if before is not None and after is not None:
        yield from _property_lines(before, after)
    for element in edit.elements:
        yield from _element_lines(element, (after or before or NamedSet("", ())).key_types)


def _property_lines(before: NamedSet, after: NamedSet) -> Iterator[str]:
    for name, (old, new) in changed_properties(before, after).items():
        yield from _replaced(name.replace("_", " "), _property(old), _property(new))


def changed_properties(before: NamedSet, after: NamedSet) -> dict[str, tuple[object, object]]:
    """Return what differs between two sets but for their elements: by the name of the field, old and new."""
    names = ("key_types", "value_types", "flags", "timeout", "size", "comment", "other")
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in names)
    return {name: (old, new) for name, old, new in pairs if old != new}


def _property(value: object) -> str:
    return " . ".join(value) if isinstance(value, tuple) else str(value or "")


def _replaced(what: str, old: str, new: str) -> Iterator[str]:
    yield f"~ {what} {old or 'none'} -> {new or 'none'}"


def _element_lines(edit: ElementEdit, types: tuple[str, ...]) -> Iterator[str]:
    if edit.old is not None:
        yield f"- {shown_element(edit.old, types)}"
    if edit.new is not None:
        yield f"+ {shown_element(edit.new, types)}"


def chain_lines(edit: ChainEdit, family: IpFamily) -> Iterator[str]:
    """Yield the lines about one chain."""
    kind = "chain " if " " in edit.table else ""
    yield f"{_SIGNS.get(edit.kind, '~')} {kind}{_name(edit.name, edit.old_name)}"
    before, after = edit.policies
    if before != after and before and after:
        yield f"~ policy {before} -> {after}"
    yield from _hook_lines(*edit.hooks)
    if edit.kind is EditKind.UPDATE and edit.comments[0] != edit.comments[1]:
        yield from _replaced("comment", *edit.comments)
    for rule in edit.rules:
        yield from edit_lines(rule, edit.table, family)


def _hook_lines(old: Hook | None, new: Hook | None) -> Iterator[str]:
    before, after = (hook_text(hook, priority_text(hook)) if hook else "" for hook in (old, new))
    if before and after and before != after:
        yield f"~ {before} -> {after}"
    elif before != after:
        yield f"+ {after}" if after else f"- {before}"


def _name(name: str, old_name: str) -> str:
    return name if name == old_name else f"{name}, was {old_name}"


def rule_text(rule: Rule | None, table: str, family: IpFamily) -> str:
    """Return a rule as the tools of its table list it; nothing for none."""
    if rule is None:
        return ""
    nft_family, blank, _ = table.partition(" ")
    return shown_rule(rule, nft_family) if blank else render_rule(rule, family)


def edit_lines(edit: RuleEdit, table: str, family: IpFamily) -> Iterator[str]:
    """Yield one edit: a line, or several for an update."""
    old, new = rule_text(edit.old, table, family), rule_text(edit.new, table, family)
    if edit.kind is EditKind.INSERT:
        yield f"+ {new}"
    elif edit.kind is EditKind.REMOVE:
        yield f"- {old}"
    elif edit.kind is EditKind.MOVE:
        places = f"{(edit.old_place or 0) + 1} -> {(edit.new_place or 0) + 1}"
        yield f"~ moved {places}{', harmless' if edit.harmless else ''}: {new}"
    elif edit.cause is Cause.ENDPOINTS:
        yield from _draw_lines(edit, old, new)
    else:
        note = f"  # {_CAUSES[edit.cause]}" if edit.cause in _CAUSES else ""
        yield f"- {old}"
        yield f"+ {new}{note}"


def _draw_lines(edit: RuleEdit, old: str, new: str) -> Iterator[str]:
    """Say who comes and goes among the endpoints that a rule draws, in the place of two long maps."""
    was, is_now = old.partition("{")[0].strip(), new.partition("{")[0].strip()
    yield f"~ {was} -> {_draw(is_now)}" if was != is_now else f"~ {is_now}"
    yield from (f"- {text}" for text in entry_texts(edit.gone))
    yield from (f"+ {text}" for text in entry_texts(edit.come))


def _draw(words: str) -> str:
    """Return the words from the drawing on, where two rules differ."""
    return words[words.index("numgen") :] if "numgen" in words else words


def entry_texts(entries: Iterable[MapEntry]) -> list[str]:
    """Return what entries of a map lead to; their numbers mean nothing."""
    return [
        verdict_text(e.verdict) if isinstance(e, VerdictEntry) else join_host_port(e.address, e.port)
        for e in entries
    ]
