"""The edit script of sets and maps of nftables: these have no order, and each element its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from kproxy_nat.diff.chains import Renamed, retargeted_element
from kproxy_nat.diff.edits import EditKind, ElementEdit, SetEdit
from kproxy_nat.ruleset.keys import KeyValue
from kproxy_nat.ruleset.rules import Table
from kproxy_nat.ruleset.sets import Element, NamedSet

Elements = dict[KeyValue, Element]


def diff_sets(old: Table, new: Table, renamed: Renamed) -> Iterator[SetEdit]:
    """Yield the edits of the sets and maps of two tables in canonical form."""
    old_names = {after: before for before, after in renamed.sets.items()}
    for name in sorted(old.sets.keys() - new.sets.keys() - renamed.sets.keys()):
        elements = _diff_elements(_retargeted(old.sets[name], renamed), {})
        yield SetEdit(
            EditKind.REMOVE, old.label, name, name, _properties(old.sets[name]), None, tuple(elements)
        )
    for name in sorted(new.sets):
        before = old.sets.get(old_names.get(name, name))
        edit = _diff_set(new.label, before, new.sets[name], renamed)
        if edit is not None:
            yield edit


def _diff_set(table: str, old: NamedSet | None, new: NamedSet, renamed: Renamed) -> SetEdit | None:
    after = _properties(new)
    elements = tuple(_diff_elements(_retargeted(old, renamed) if old else {}, new.elements))
    if old is None:
        return SetEdit(EditKind.INSERT, table, new.name, new.name, None, after, elements)
    before = _properties(old)
    if before == after and not elements:
        return None
    return SetEdit(EditKind.UPDATE, table, new.name, old.name, before, after, elements)


def _properties(named: NamedSet) -> NamedSet:
    return replace(named, elements={})


def _retargeted(named: NamedSet, renamed: Renamed) -> Elements:
    if not renamed.chains:
        return named.elements
    return {key: retargeted_element(element, renamed) for key, element in named.elements.items()}


def _diff_elements(old: Elements, new: Elements) -> Iterator[ElementEdit]:
    """Yield removals first, then the rest in the order of the new set."""
    for key, element in old.items():
        if key not in new:
            yield ElementEdit(EditKind.REMOVE, element, None)
    for key, element in new.items():
        before = old.get(key)
        if before is None:
            yield ElementEdit(EditKind.INSERT, None, element)
        elif _held(before) != _held(element):
            yield ElementEdit(EditKind.UPDATE, before, element)


def _held(element: Element) -> Element:
    """Return an element without the time that is left to it."""
    return replace(element, expires=0) if element.expires else element


def apply_to_sets(table: Table, edits: Iterable[SetEdit], renamed: Renamed) -> dict[str, NamedSet]:
    """Return what edits make of the sets of a table; chains that they lead to have new names, too."""
    made = {}
    for named in table.sets.values():
        name = renamed.sets.get(named.name, named.name)
        made[name] = replace(named, name=name, elements=_retargeted(named, renamed))
    for edit in edits:
        if edit.after is None:
            del made[edit.name]
            continue
        elements = dict(made[edit.name].elements) if edit.name in made else {}
        for element in edit.elements:
            if element.new is None and element.old is not None:
                del elements[element.old.key]
            elif element.new is not None:
                elements[element.new.key] = element.new
        made[edit.name] = replace(edit.after, elements=elements)
    return made
