"""A change as scripts for ``nft -f``, each of which the kernel takes whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kproxy_nat.apply.changes import ChainChange, FamilyChange, Lines, TableChange
from kproxy_nat.apply.nft_planning import body
from kproxy_nat.apply.nft_standby import STANDBY
from kproxy_nat.formats.nft_dump import declaration, is_chain
from kproxy_nat.formats.nft_words import quoted
from kproxy_nat.ruleset.rules import NFT_FAMILIES

_KEY = re.compile(r'(.+?)(?: timeout \S+)?(?: expires \S+)?(?: comment ".*")?(?: : .+)?')


def nft_script(change: FamilyChange) -> str:
    """Return the transaction: with it the new rules are in force, and nothing refers to chains that go.

    Rules go before the elements and sets that they name, and come after them; so no step in between is one
    that nft refuses.
    """
    return "".join(f"{line}\n" for part in change.tables for line in _table_lines(part, change))


def nft_standby(change: FamilyChange) -> str:
    """Return the transaction before it, that makes the second table, if there has to be one.

    The kernel removes that table when the program ends that has made it (since Linux 5.12).
    """
    return "".join(
        f"{line}\n"
        for part in change.tables
        if part.standby
        for line in _second_table_lines(TableChange(STANDBY, part.standby), change)
    )


def nft_removal(change: FamilyChange) -> str:
    """Return the transaction after it, that removes the chains which the first one has emptied.

    Kernels before 6.2 hold a chain for a moment after the last element that led to it has gone, and would
    refuse the first transaction because of that; kube-proxy removes chains later, too.
    """
    return "".join(
        f"delete {block.name.replace(' ', f' {_place(change, part)} ', 1)}\n"
        for part in change.tables
        for block in part.chains
        if is_chain(block.name) and block.after is None and not part.gone
    )


def _place(change: FamilyChange, part: TableChange) -> str:
    return f"{NFT_FAMILIES[change.family]} {part.table}"


def _table_lines(part: TableChange, change: FamilyChange) -> Iterator[str]:
    place = _place(change, part)
    if part.gone:
        yield f"delete table {place}"
        return
    yield f"add table {place}{_comment(part.comment)}"
    yield from _object_lines(part, place)


def _second_table_lines(part: TableChange, change: FamilyChange) -> Iterator[str]:
    place = _place(change, part)
    yield f"create table {place} {{ flags owner; }}"
    yield from _object_lines(part, place)


def _object_lines(part: TableChange, place: str) -> Iterator[str]:
    chains = [_Block(block, place) for block in part.chains if is_chain(block.name)]
    sets = [_Block(block, place) for block in part.chains if not is_chain(block.name)]
    yield from (f"flush {block.target}" for block in chains if block.change.before is not None)
    for block in sets:
        yield from block.removed_elements()
    yield from (f"delete {block.target}" for block in sets if block.goes)
    yield from (f"delete {block.target}" for block in chains if block.goes and block.change.after is not None)
    for block in (*sets, *chains):
        yield from block.declared()
    for block in chains:
        rules = body(block.change.after)
        yield from (f"add rule {place} {block.name} {rule}" for rule in rules)
    for block in sets:
        yield from block.added_elements()


class _Block:
    """An object of a table, before and after."""

    def __init__(self, change: ChainChange, place: str) -> None:
        self.change = change
        self.kind, self.name = change.name.split(" ", 1)
        self.target = f"{self.kind} {place} {self.name}"
        self._place = place
        self._old, self._new = (_declaration(lines) for lines in (change.before, change.after))

    @property
    def goes(self) -> bool:
        """Whether it has to go, perhaps to be made anew."""
        return self.change.before is not None and (self.change.after is None or self._old != self._new)

    def declared(self) -> Iterator[str]:
        """Yield the command that makes it, if it has to be made."""
        if self.change.after is not None and (self.change.before is None or self._old != self._new):
            yield f"add {self.target}{_comment(self.change.comment, self._new)}"

    def removed_elements(self) -> Iterator[str]:
        """Yield the command that removes what has to go from a set that stays."""
        if not self.goes:
            kept = set(body(self.change.after))
            keys = (_key(line) for line in body(self.change.before) if line not in kept)
            yield from _elements("delete", self._place, self.name, keys)

    def added_elements(self) -> Iterator[str]:
        """Yield the command that adds what is not there."""
        there: Lines = () if self.goes else body(self.change.before)
        yield from _elements("add", self._place, self.name, _without(body(self.change.after), there))


def _declaration(lines: Lines | None) -> str:
    return declaration(lines[0]) if lines else ""


def _without(lines: Lines, others: Lines) -> Iterator[str]:
    known = set(others)
    return (line for line in lines if line not in known)


def _elements(verb: str, place: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    """Yield one command, an element a line: nft says of which line it complains."""
    listed = list(elements)
    if listed:
        yield f"{verb} element {place} {name} {{"
        yield from (f"{element}," for element in listed)
        yield "}"


def _comment(text: str, declared: str = "") -> str:
    """Return what an object is made with, in braces; nothing if there is nothing."""
    inner = f"{declared} comment {quoted(text)};" if text else declared
    return f" {{ {inner.strip()} }}" if inner else ""


def _key(element: str) -> str:
    found = _KEY.fullmatch(element)
    assert found is not None
    return found[1]
