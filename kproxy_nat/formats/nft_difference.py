"""The part of two sets of nftables' tables that differs: objects that are the same text are never parsed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec.structs import replace

from kproxy_nat.formats.nft_listing import CHAIN, BlockKey
from kproxy_nat.formats.nft_objects import element_lines
from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Table

SET_KINDS = ("set", "map")


def labels_of(rules: NftRules, family: IpFamily, *, others: bool) -> Iterator[str]:
    """Yield the labels of the tables of an IP family; with ``others``, of those for none or both, too."""
    for label, table in rules.listed.items():
        if table.family == NFT_FAMILIES[family] or (others and table.family not in NFT_FAMILIES.values()):
            yield label


def differing_objects(old: NftRules, new: NftRules, label: str) -> list[BlockKey]:
    """Return the objects of a table whose text differs, or which one side lacks, sorted."""
    before, after = old.listed.get(label), new.listed.get(label)
    mine, theirs = before.blocks if before else {}, after.blocks if after else {}
    return sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))


def differing_tables(
    old: NftRules, new: NftRules, labels: Collection[str]
) -> tuple[list[Table], list[Table]]:
    """Return the objects that differ, parsed, of both sides.

    Of sets and maps, only elements in lines that differ are there.
    """
    comments = old.tells_comments and new.tells_comments
    sides: tuple[list[Table], list[Table]] = ([], [])
    for label in sorted(labels):
        keys = differing_objects(old, new, label)
        for side, rules, other in zip(sides, (old, new), (new, old), strict=True):
            if label in rules.listed:
                side.append(_part(rules, other, label, keys, comments=comments))
    return sides


def _part(
    rules: NftRules, other: NftRules, label: str, keys: Collection[BlockKey], *, comments: bool
) -> Table:
    listed = rules.listed[label]
    table = Table(listed.name, family=listed.family, comment=rules.comment(label) if comments else "")
    for kind, name in keys:
        if kind == CHAIN:
            chain = rules.chain(label, name)
            if chain is not None:
                table.chains[name] = chain if comments else replace(chain, comment="")
        elif kind in SET_KINDS and (kind, name) in listed.blocks:
            named = rules.named_set(label, name, _common_lines(rules, other, label, (kind, name)))
            if named is not None:
                table.sets[name] = named
    return table


def _common_lines(rules: NftRules, other: NftRules, label: str, key: BlockKey) -> Collection[str]:
    theirs = other.listed.get(label)
    if theirs is None or key not in theirs.blocks:
        return ()
    _, mine = element_lines(rules.listed[label].blocks[key])
    return set(mine).intersection(element_lines(theirs.blocks[key])[1])
