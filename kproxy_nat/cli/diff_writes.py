"""What is handed to the kernel to get to the new rules."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.apply.ownership import NFT_TABLES
from kproxy_nat.cli.diff_parts import Parts
from kproxy_nat.cli.diff_structure import changed_properties
from kproxy_nat.diff.edits import ChainEdit, EditKind, RulesetDiff, SetEdit
from kproxy_nat.diff.impact import Writes
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_render import render_script
from kproxy_nat.formats.nft_words import NotWritableError
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddElement,
    AddRule,
    AddSet,
    DeleteChain,
    DeleteElement,
    DeleteSet,
    FlushChain,
    NftCommand,
    NftTableTransaction,
)
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, Chain, Ruleset, Table
from kproxy_nat.ruleset.sets import NamedSet


def writes_of(new: Ruleset, rules: RulesetDiff, parts: Parts) -> Writes:
    """Return what is written: every chain that differs as a whole, and elements one by one."""
    return _iptables(new, rules, parts) + _nftables(new, rules)


def _iptables(new: Ruleset, rules: RulesetDiff, parts: Parts) -> Writes:
    part = Ruleset(new.family)
    deleted = 0
    for edit in rules.chains:
        if edit.table not in BUILTIN_CHAINS:
            continue
        table = new.tables.get(edit.table)
        chain = table.chains.get(edit.name) if table else None
        if chain is None:
            deleted += 1
            continue
        rest = parts.same_rules(edit.table, edit.name)
        kept = part.tables.setdefault(edit.table, Table(edit.table))
        kept.chains[edit.name] = Chain(chain.name, [*chain.rules, *rest], chain.policy)
        deleted += edit.is_renamed
    text = render_save(part)
    return Writes(text.count("\n-A "), len(text.encode()), deleted)


def _nftables(new: Ruleset, rules: RulesetDiff) -> Writes:
    """Return what is written to tables of ours; others nobody writes."""
    total = Writes()
    tables = {table.label: table for table in new.tables.values() if table.family}
    for label in sorted(NFT_TABLES):
        family, _, name = label.partition(" ")
        sets = [edit for edit in rules.sets if edit.table == label]
        chains = [edit for edit in rules.chains if edit.table == label]
        commands = [command for edit in sets for command in _set_commands(edit)]
        commands += [command for edit in chains for command in _chain_commands(edit, tables.get(label))]
        total += _counted(NftTableTransaction(family, name, commands))
    return total


def _set_commands(edit: SetEdit) -> Iterator[NftCommand]:
    if edit.after is None:
        yield DeleteSet(edit.name)
        return
    is_made_anew = edit.before is not None and _is_declared_otherwise(edit.before, edit.after)
    if is_made_anew:
        yield DeleteSet(edit.name)
    if is_made_anew or edit.before is None or edit.old_name != edit.name:
        yield AddSet(edit.after)
    for element in edit.elements:
        if element.old is not None:
            yield DeleteElement(edit.name, element.old.key)
        if element.new is not None:
            yield AddElement(edit.name, element.new)


def _is_declared_otherwise(before: NamedSet, after: NamedSet) -> bool:
    """Whether nothing but making a set anew leads from one declaration to the other; a comment is none."""
    return bool(changed_properties(before, after).keys() - {"comment"})


def _chain_commands(edit: ChainEdit, table: Table | None) -> Iterator[NftCommand]:
    chain = table.chains.get(edit.name) if table else None
    if chain is None or edit.kind is EditKind.REMOVE:
        yield DeleteChain(edit.name)
        return
    if edit.is_renamed:
        yield DeleteChain(edit.old_name)
    yield AddChain(chain.name, chain.hook, chain.comment)
    yield FlushChain(chain.name)
    yield from (AddRule(chain.name, rule) for rule in chain.rules)


def _counted(part: NftTableTransaction) -> Writes:
    kinds = [type(command) for command in part.commands]
    try:
        size = len(render_script([part]).encode())
    except NotWritableError:
        size = 0
    elements = kinds.count(AddElement) + kinds.count(DeleteElement)
    return Writes(kinds.count(AddRule), size, kinds.count(DeleteChain), elements)
