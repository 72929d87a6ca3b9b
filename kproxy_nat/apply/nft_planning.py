"""The smallest change that makes the tables of nftables that are ours what they should be.

A table is ours as a whole, by its name, as kube-proxy sees it, too; all other tables are foreign, and no
command names them. What is compared are the blocks of ``formats.nft_dump``, without their comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kproxy_nat.apply.changes import ChainChange, FamilyChange, Lines, TableChange
from kproxy_nat.apply.nft_standby import standby_blocks
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.formats.iptables_dump import Dump, DumpedTable
from kproxy_nat.formats.nft_dump import DECLARATIONS, declaration, is_chain
from kproxy_nat.lowering.nftables_names import TABLE

_SET_REFERENCE = re.compile(r"@([^\s,;}]+)")


def plan_change(live: LiveRules, wanted: Dump, _counted: str | None = None) -> FamilyChange:
    """Return the change from ``live`` to ``wanted``; rules of nftables have no counters of ours.

    A set whose declaration changes has to be made anew. Chains with rules that refer to it are then among
    those that are written, even if their rules stay.
    """
    there = TABLE in live.dump.tables or TABLE in wanted.tables
    part = _table_change(live.dump, wanted, TABLE) if there else None
    return FamilyChange(wanted.family, (part,) if part else ())


def predict(dump: Dump, change: FamilyChange) -> Dump:
    """Return what a dump is after the change."""
    tables = dict(dump.tables)
    for part in change.tables:
        table = dump.table(part.table)
        blocks, comments = dict(table.chains), dict(table.comments)
        for block in part.chains:
            if block.after is None:
                del blocks[block.name]
                comments.pop(block.name, None)
            else:
                blocks[block.name] = "".join(f"{line}\n" for line in block.after)
            if block.before is None and block.comment:
                comments[block.name] = block.comment
        if part.comment:
            comments[""] = part.comment
        tables[part.table] = DumpedTable(part.table, {}, blocks, comments)
        if part.gone:
            del tables[part.table]
    return Dump(dump.family, tables)


def owned_part(dump: Dump) -> Dump:
    """Return our table, if it is there."""
    return Dump(dump.family, {name: table for name, table in dump.tables.items() if name == TABLE})


def owned_rules(dump: Dump) -> list[str]:
    """Return the name of our table, if it is there."""
    return [f"table {name}" for name in owned_part(dump).tables]


def _table_change(live: Dump, wanted: Dump, name: str) -> TableChange | None:
    old, new = live.table(name), wanted.table(name)
    blocks = tuple(_block_changes(old, new))
    if name not in wanted.tables:
        return TableChange(name, blocks, gone=True)
    if not blocks and name in live.tables:
        return None
    comment = "" if name in live.tables else new.comments.get("", "")
    return TableChange(name, blocks, comment=comment, standby=standby_blocks(old, new))


def _block_changes(old: DumpedTable, new: DumpedTable) -> Iterator[ChainChange]:
    """Yield the changes in the order in which the table has its objects, what goes first."""
    recreated = {
        key.split(" ", 1)[1]
        for key in old.chains.keys() & new.chains.keys()
        if not is_chain(key) and declaration(old.chains[key]) != declaration(new.chains[key])
    }
    for key in (*(key for key in old.chains if key not in new.chains), *new.chains):
        before, after = old.chains.get(key), new.chains.get(key)
        if before != after or (is_chain(key) and recreated and _refers(before or "", recreated)):
            comment = new.comments.get(key, "") if before is None else ""
            yield ChainChange(key, _lines(before), _lines(after), comment=comment)


def _refers(block: str, names: set[str]) -> bool:
    return not names.isdisjoint(_SET_REFERENCE.findall(block))


def _lines(block: str | None) -> Lines | None:
    return None if block is None else tuple(block.splitlines())


def body(lines: Sequence[str] | None) -> Lines:
    """Return a block's elements or rules, without the line that declares it."""
    some = tuple(lines or ())
    return some[1:] if some and some[0].startswith(DECLARATIONS) else some
