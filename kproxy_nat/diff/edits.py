"""Edit scripts: what turns one rule set into another."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import DestinationEntry, VerdictEntry
from kproxy_nat.ruleset.rules import Hook, Rule
from kproxy_nat.ruleset.sets import Element, NamedSet

MapEntry = VerdictEntry | DestinationEntry
"""An element of a map that stands in a rule."""


class EditKind(enum.StrEnum):
    """What happens to a table, chain, rule, set or element. What is kept is not listed."""

    INSERT = "insert"
    REMOVE = "remove"
    MOVE = "move"
    UPDATE = "update"


class Cause(enum.StrEnum):
    """What an update changes in a rule."""

    ENDPOINT_COUNT = "endpoint count"
    ENDPOINTS = "endpoints"
    ENDPOINT_ORDER = "endpoint order"
    PROBABILITY = "probability"
    COMMENT = "comment"
    ACTION = "action"
    CONDITIONS = "conditions"


class RuleEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one rule.

    Attributes:
        old_place: its place in the old chain, from 0; ``None`` for an insertion.
        new_place: its place in the new chain; ``None`` for a removal.
        harmless: of a move: no packet can meet both this rule and one that it changed places with.
        cause: of an update.
        gone: of an update with the cause ENDPOINTS: entries of the rule's map that only the old one has, but
            for their numbers, which follow from how many there are.
        come: those that only the new one has.
    """

    kind: EditKind
    old_place: int | None
    new_place: int | None
    old: Rule | None
    new: Rule | None
    harmless: bool = False
    cause: Cause | None = None
    gone: tuple[MapEntry, ...] = ()
    come: tuple[MapEntry, ...] = ()


class ElementEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one element of a set or map: INSERT, REMOVE, or UPDATE of what its key leads to."""

    kind: EditKind
    old: Element | None
    new: Element | None


class SetEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one set or map of nftables: INSERT, REMOVE, or UPDATE.

    Attributes:
        table: as of :attr:`ChainEdit.table`.
        name: its new name; that of a removed set is its old one.
        old_name: its old name, which differs if it is the same set under another name.
        before: the old set without its elements.
        after: the new one without its elements.
    """

    kind: EditKind
    table: str
    name: str
    old_name: str
    before: NamedSet | None
    after: NamedSet | None
    elements: tuple[ElementEdit, ...]

    @property
    def is_map(self) -> bool:
        """Whether it is a map."""
        named = self.after or self.before
        return named is not None and bool(named.value_types)


class TableEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one table of nftables: INSERT, REMOVE, or UPDATE of its comment."""

    kind: EditKind
    table: str
    comments: tuple[str, str]


class ChainEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one chain: INSERT, REMOVE, or UPDATE.

    Attributes:
        table: its table's :attr:`~kproxy_nat.ruleset.rules.Table.label`.
        name: its new name; that of a removed chain is its old one.
        old_name: its old name, which differs if it is the same chain under another name.
        policies: of a built-in or base chain, before and after.
        rules: edits of its rules.
        size: how many rules it had and has.
        hooks: of a base chain of nftables, before and after.
        comments: of a chain of nftables, before and after.
    """

    kind: EditKind
    table: str
    name: str
    old_name: str
    policies: tuple[str | None, str | None]
    rules: tuple[RuleEdit, ...]
    size: tuple[int, int]
    hooks: tuple[Hook | None, Hook | None] = (None, None)
    comments: tuple[str, str] = ("", "")

    @property
    def is_renamed(self) -> bool:
        """Whether it is the same chain under another name."""
        return self.name != self.old_name


class Counts(msgspec.Struct, frozen=True):
    """How many rules are added, removed, moved (and of these, how many without effect), and updated.

    The same of elements of sets and maps; these have no order.
    """

    added: int = 0
    removed: int = 0
    moved: int = 0
    harmless_moves: int = 0
    updated: int = 0
    endpoint_count_updates: int = 0
    elements_added: int = 0
    elements_removed: int = 0
    elements_updated: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Counts(*(a + b for a, b in zip(mine, theirs, strict=True)))


class RulesetDiff(msgspec.Struct, frozen=True):
    """The edit script of one family: chains, sets and tables that differ, by table and name."""

    family: IpFamily
    chains: tuple[ChainEdit, ...]
    sets: tuple[SetEdit, ...] = ()
    tables: tuple[TableEdit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.chains or self.sets or self.tables)

    def elements(self) -> Iterator[ElementEdit]:
        """Yield the edits of all elements."""
        for edit in self.sets:
            yield from edit.elements

    def rules(self) -> Iterator[RuleEdit]:
        """Yield the edits of all rules."""
        for chain in self.chains:
            yield from chain.rules

    def counts(self) -> Counts:
        """Count the edits of rules."""
        kinds: dict[EditKind, int] = dict.fromkeys(EditKind, 0)
        harmless = follow_ups = 0
        for edit in self.rules():
            kinds[edit.kind] += 1
            harmless += edit.harmless
            follow_ups += edit.cause is Cause.ENDPOINT_COUNT
        elements: dict[EditKind, int] = dict.fromkeys(EditKind, 0)
        for element in self.elements():
            elements[element.kind] += 1
        return Counts(
            kinds[EditKind.INSERT],
            kinds[EditKind.REMOVE],
            kinds[EditKind.MOVE],
            harmless,
            kinds[EditKind.UPDATE],
            follow_ups,
            elements[EditKind.INSERT],
            elements[EditKind.REMOVE],
            elements[EditKind.UPDATE],
        )
