"""Trees over the leading bits of numbers: few comparisons to one entry among many.

A node lists its entries, or leads on to children by the bits after those that its entries have in common.
Both are decided by the entries below the node alone, never by the order in which they came, so one entry
more or less changes nodes on its own path only, unless the depth runs out: a node that is pushed down to the
last level keeps its entries together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

Entry = tuple[int, T]
"""A number and what it stands for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a tree is built.

    Attributes:
        width: the length of the numbers in bits.
        levels: the prefix lengths at which nodes may be divided, ascending.
        bucket: up to how many entries stay together in one node.
        depth: how many nodes may follow each other, whatever becomes of the bucket.
    """

    width: int
    levels: Sequence[int]
    bucket: int
    depth: int


@dataclass(frozen=True, slots=True)
class Node(Generic[T]):
    """All entries whose numbers begin with the ``length`` bits of ``value``; members go by number."""

    value: int
    length: int
    members: list[Entry[T] | Node[T]]


def build_tree(entries: Sequence[Entry[T]], shape: Shape) -> Node[T]:
    """Return the tree of ``entries``, which are sorted; equal numbers stay together in their order."""
    return _node(entries, shape, 0, 0, shape.depth)


def _node(entries: Sequence[Entry[T]], shape: Shape, value: int, length: int, depth: int) -> Node[T]:
    level = _dividing_level(entries, shape) if len(entries) > shape.bucket and depth > 1 else None
    if level is None:
        return Node(value, length, list(entries))
    below = shape.width - level
    members: list[Entry[T] | Node[T]] = []
    for prefix, group in itertools.groupby(entries, key=lambda entry: entry[0] >> below):
        found = list(group)
        # A child with a single entry would only be a detour.
        members.append(
            found[0] if len(found) == 1 else _node(found, shape, prefix << below, level, depth - 1)
        )
    return Node(value, length, members)


def _dividing_level(entries: Sequence[Entry[T]], shape: Shape) -> int | None:
    """Return the first level at which the entries differ; ``None`` where all are equal."""
    common = shape.width - (entries[0][0] ^ entries[-1][0]).bit_length()
    return next((level for level in shape.levels if level > common), None)
