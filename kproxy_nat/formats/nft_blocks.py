"""Tables of nftables as blocks of canonical lines, of which only those are parsed that differ."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from kproxy_nat.formats.nft_difference import differing_objects
from kproxy_nat.formats.nft_listing import CHAIN, BlockKey, ListedTable, table_lines
from kproxy_nat.formats.nft_rule_files import NftRules, listed_table
from kproxy_nat.ruleset.rules import Table

T = TypeVar("T", bound=Hashable)

Block = tuple[tuple[str, ...], list[str]]


def canonical_nft_blocks(
    old: NftRules, new: NftRules, labels: Collection[str]
) -> tuple[list[Block], list[Block]]:
    """Return the lines of both sides as nft lists them, each object a block, in one order for both.

    That order is the old one's as far as it goes: nft lists objects in the order in which they were made.
    """
    order = _merged(_ordered(old, labels), _ordered(new, labels))
    sides: tuple[list[Block], list[Block]] = ([], [])
    for label in order:
        keys = _merged(list(old.keys(label)), list(new.keys(label)))
        differing = set(differing_objects(old, new, label))
        for side, rules in zip(sides, (old, new), strict=True):
            if label in rules.listed:
                side.extend(_blocks(rules, label, keys, differing))
    return sides


def canonical_listing(rules: NftRules) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the lines of tables as nft lists them, object by object, with line feeds."""
    for label, table in rules.listed.items():
        bodies = {key: _canonical_body(rules, label, key) for key in table.blocks}
        yield from table_lines(ListedTable(table.family, table.name, table.head, bodies))


def _ordered(rules: NftRules, labels: Collection[str]) -> list[str]:
    return [label for label in rules.listed if label in labels]


def _merged(first: Sequence[T], second: Sequence[T]) -> list[T]:
    """Return all items in the order of the first, others behind the item that they follow in the second."""
    known = set(first)
    following: dict[T | None, list[T]] = {}
    last: T | None = None
    for item in second:
        if item in known:
            last = item
        else:
            following.setdefault(last, []).append(item)
    merged = following.get(None, [])
    for item in first:
        merged += [item, *following.get(item, ())]
    return merged


def _blocks(
    rules: NftRules, label: str, keys: Iterable[BlockKey], differing: Collection[BlockKey]
) -> Iterator[Block]:
    table = rules.listed[label]
    bodies = {
        key: _canonical_body(rules, label, key) if key in differing else table.blocks[key]
        for key in keys
        if key in table.blocks
    }
    for key, lines in table_lines(ListedTable(table.family, table.name, table.head, bodies)):
        yield (label, *key), [line.rstrip("\n") for line in lines]


def _canonical_body(rules: NftRules, label: str, key: BlockKey) -> str:
    """Return an object as we would list it; as it is, where it holds what is foreign."""
    kind, name = key
    table = rules.listed[label]
    alone = Table(table.name, family=table.family)
    if kind == CHAIN:
        chain = rules.chain(label, name)
        alone.chains |= {name: chain} if chain else {}
    else:
        named = rules.named_set(label, name)
        alone.sets |= {name: named} if named and not named.other else {}
    return listed_table(alone).blocks.get(key, table.blocks[key])
