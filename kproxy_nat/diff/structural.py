"""The edit script between two rule sets, and its application.

Rules are compared in canonical form; counters and origins do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from kproxy_nat.diff.chains import Renamed, renamed_objects, retargeted
from kproxy_nat.diff.edits import ChainEdit, EditKind, RuleEdit, RulesetDiff, SetEdit, TableEdit
from kproxy_nat.diff.rules import diff_rules
from kproxy_nat.diff.sets import apply_to_sets, diff_sets
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Chain, Rule, Ruleset, Table, empty_table

IsOurs = Callable[[str, str], bool]
"""Whether a user chain of a table, which is named by its label, is one of those to look at."""

_FAMILIES = {nft: family for family, nft in NFT_FAMILIES.items()}


def diff_rulesets(old: Ruleset, new: Ruleset) -> RulesetDiff:
    """Return what turns ``old`` into ``new``; a table of iptables that one side lacks is untouched there."""
    chains: list[ChainEdit] = []
    sets: list[SetEdit] = []
    tables: list[TableEdit] = []
    before, after = _by_label(old), _by_label(new)
    for label in sorted(before.keys() | after.keys()):
        one, other = before.get(label), after.get(label)
        tables += _diff_existence(label, one, other)
        mine = _canonical(one or _without_objects(other))
        theirs = _canonical(other or _without_objects(one))
        renamed = renamed_objects(mine, theirs)
        chains += _diff_chains(mine, theirs, renamed)
        sets += diff_sets(mine, theirs, renamed)
    return RulesetDiff(new.family, tuple(chains), tuple(sets), tuple(tables))


def in_scope(ruleset: Ruleset, is_ours: IsOurs) -> Ruleset:
    """Return the chains to look at, and of the built-in chains the rules that lead to them.

    A table of nftables is ours with all that it holds, or not at all.
    """
    tables = {}
    for key, table in ruleset.tables.items():
        if not table.family:
            tables[key] = _part_in_scope(table, is_ours)
        elif is_ours(table.label, ""):
            tables[key] = table
    return Ruleset(ruleset.family, tables)


def _part_in_scope(table: Table, is_ours: IsOurs) -> Table:
    chains = {c.name: c for c in table.chains.values() if is_ours(table.name, c.name)}
    for chain in table.chains.values():
        if chain.policy is not None:
            rules = [rule for rule in chain.rules if _leads_to_ours(table.name, rule, is_ours)]
            chains[chain.name] = Chain(chain.name, rules, "ACCEPT")
    return Table(table.name, chains)


def _leads_to_ours(table: str, rule: Rule, is_ours: IsOurs) -> bool:
    return any(isinstance(a, Jump | Goto) and is_ours(table, a.chain) for a in rule.actions)


def apply_diff(ruleset: Ruleset, diff: RulesetDiff) -> Ruleset:
    """Return what the edits make of a rule set: canonical, by labels, without tables that hold nothing."""
    tables = _by_label(ruleset)
    for change in diff.tables:
        if change.kind is EditKind.REMOVE:
            del tables[change.table]
            continue
        family, _, name = change.table.partition(" ")
        held = tables.get(change.table) or Table(name, family=family)
        tables[change.table] = replace(held, comment=change.comments[1])
    labels = tables.keys() | {edit.table for edit in diff.chains if edit.table not in _removed_tables(diff)}
    made = {label: _apply_to_table(tables.get(label) or empty_table(label), label, diff) for label in labels}
    return Ruleset(ruleset.family, made)


def _removed_tables(diff: RulesetDiff) -> set[str]:
    return {change.table for change in diff.tables if change.kind is EditKind.REMOVE}


def _by_label(ruleset: Ruleset) -> dict[str, Table]:
    return {table.label: table for table in ruleset.tables.values()}


def _without_objects(table: Table | None) -> Table:
    assert table is not None
    return Table(table.name, family=table.family) if table.family else empty_table(table.name)


def _diff_existence(label: str, old: Table | None, new: Table | None) -> Iterator[TableEdit]:
    """Yield what happens to a table of nftables as such."""
    if not (old or new or _NO_TABLE).family:
        return
    if old is None or new is None:
        kind = EditKind.INSERT if old is None else EditKind.REMOVE
        yield TableEdit(kind, label, (old.comment if old else "", new.comment if new else ""))
    elif old.comment != new.comment:
        yield TableEdit(EditKind.UPDATE, label, (old.comment, new.comment))


_NO_TABLE = Table("")


def _canonical(table: Table) -> Table:
    chains = {c.name: replace(c, rules=_canonical_rules(c, table)) for c in table.chains.values()}
    sets = {name: canonical_set(named) for name, named in table.sets.items()}
    return Table(table.name, chains, table.family, table.comment, sets)


def _canonical_rules(chain: Chain, table: Table) -> list[Rule]:
    if not table.family:
        return [canonical_rule(rule) for rule in chain.rules]
    family = _FAMILIES.get(table.family, IpFamily.IPV4)
    return [canonical_nft_rule(rule, family) for rule in chain.rules]


def _diff_chains(old: Table, new: Table, renamed: Renamed) -> Iterator[ChainEdit]:
    """Yield the edits of the chains of two tables in canonical form."""
    old_names = {after: before for before, after in renamed.chains.items()}
    for name in sorted(old.chains.keys() - new.chains.keys() - renamed.chains.keys()):
        yield _removed(old.label, old.chains[name], renamed)
    for name in sorted(new.chains):
        before = old.chains.get(old_names.get(name, name))
        edit = _diff_chain(new.label, before, new.chains[name], renamed)
        if edit is not None:
            yield edit


def _removed(table: str, chain: Chain, renamed: Renamed) -> ChainEdit:
    rules = retargeted(chain.rules, renamed)
    edits = tuple(RuleEdit(EditKind.REMOVE, i, None, rule, None) for i, rule in enumerate(rules))
    hooks, comments = (chain.hook, None), (chain.comment, "")
    size = (len(rules), 0)
    return ChainEdit(
        EditKind.REMOVE, table, chain.name, chain.name, (None, None), edits, size, hooks, comments
    )


def _diff_chain(table: str, old: Chain | None, new: Chain, renamed: Renamed) -> ChainEdit | None:
    if old is None:
        return _inserted(table, new)
    before = retargeted(old.rules, renamed)
    changes = tuple(diff_rules(before, new.rules))
    if not changes and _properties(old) == _properties(new):
        return None
    policies, size = (old.policy, new.policy), (len(before), len(new.rules))
    hooks, comments = (old.hook, new.hook), (old.comment, new.comment)
    return ChainEdit(EditKind.UPDATE, table, new.name, old.name, policies, changes, size, hooks, comments)


def _inserted(table: str, chain: Chain) -> ChainEdit:
    edits = tuple(RuleEdit(EditKind.INSERT, None, j, None, rule) for j, rule in enumerate(chain.rules))
    size, hooks, comments = (0, len(edits)), (None, chain.hook), ("", chain.comment)
    policies = (None, chain.policy)
    return ChainEdit(EditKind.INSERT, table, chain.name, chain.name, policies, edits, size, hooks, comments)


def _properties(chain: Chain) -> tuple[object, ...]:
    return chain.name, chain.policy, chain.hook, chain.comment


def _apply_to_table(table: Table, label: str, diff: RulesetDiff) -> Table:
    edits = [edit for edit in diff.chains if edit.table == label]
    sets = [edit for edit in diff.sets if edit.table == label]
    renamed = Renamed(
        {edit.old_name: edit.name for edit in edits if edit.is_renamed},
        {edit.old_name: edit.name for edit in sets if edit.old_name != edit.name},
    )
    held = _canonical(table)
    removed = {edit.name for edit in edits if edit.kind is EditKind.REMOVE}
    chains: dict[str, Chain] = {}
    for chain in held.chains.values():
        if chain.name not in removed:
            name = renamed.chains.get(chain.name, chain.name)
            chains[name] = replace(chain, name=name, rules=retargeted(chain.rules, renamed))
    for edit in edits:
        if edit.kind is not EditKind.REMOVE:
            rules = chains[edit.name].rules if edit.name in chains else []
            made = _apply_to_rules(rules, edit)
            chains[edit.name] = Chain(
                edit.name, made, edit.policies[1], hook=edit.hooks[1], comment=edit.comments[1]
            )
    return Table(table.name, chains, table.family, table.comment, apply_to_sets(held, sets, renamed))


def _apply_to_rules(rules: list[Rule], chain: ChainEdit) -> list[Rule]:
    gone = {edit.old_place for edit in chain.rules}
    kept = iter([rule for place, rule in enumerate(rules) if place not in gone])
    placed = {edit.new_place: edit.new for edit in chain.rules if edit.new_place is not None}
    made: list[Rule] = []
    for place in range(chain.size[1]):
        rule = placed.get(place)
        made.append(next(kept) if rule is None else rule)
    return made
