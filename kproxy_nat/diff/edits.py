"""Edit scripts: what turns one rule set into another."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import Rule


class EditKind(enum.StrEnum):
    """What happens to a chain or rule. What is kept is not listed."""

    INSERT = "insert"
    REMOVE = "remove"
    MOVE = "move"
    UPDATE = "update"


class Cause(enum.StrEnum):
    """What an update changes in a rule."""

    ENDPOINT_COUNT = "endpoint count"
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
    """

    kind: EditKind
    old_place: int | None
    new_place: int | None
    old: Rule | None
    new: Rule | None
    harmless: bool = False
    cause: Cause | None = None


class ChainEdit(msgspec.Struct, frozen=True, gc=False):
    """What happens to one chain: INSERT, REMOVE, or UPDATE.

    Attributes:
        name: its new name; that of a removed chain is its old one.
        old_name: its old name, which differs if it is the same chain under another name.
        policies: of a built-in chain, before and after.
        rules: edits of its rules.
        size: how many rules it had and has.
    """

    kind: EditKind
    table: str
    name: str
    old_name: str
    policies: tuple[str | None, str | None]
    rules: tuple[RuleEdit, ...]
    size: tuple[int, int]

    @property
    def is_renamed(self) -> bool:
        """Whether it is the same chain under another name."""
        return self.name != self.old_name


class Counts(msgspec.Struct, frozen=True):
    """How many rules are added, removed, moved (and of these, how many without effect), and updated."""

    added: int = 0
    removed: int = 0
    moved: int = 0
    harmless_moves: int = 0
    updated: int = 0
    endpoint_count_updates: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Counts(*(a + b for a, b in zip(mine, theirs, strict=True)))


class RulesetDiff(msgspec.Struct, frozen=True):
    """The edit script of one family: chains that differ, by table and name."""

    family: IpFamily
    chains: tuple[ChainEdit, ...]

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
        return Counts(
            kinds[EditKind.INSERT],
            kinds[EditKind.REMOVE],
            kinds[EditKind.MOVE],
            harmless,
            kinds[EditKind.UPDATE],
            follow_ups,
        )
