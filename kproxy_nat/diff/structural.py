"""The edit script between two rule sets, and its application.

Rules are compared in canonical form; counters and origins do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kproxy_nat.diff.chains import renamed_chains, retargeted
from kproxy_nat.diff.edits import ChainEdit, EditKind, RuleEdit, RulesetDiff
from kproxy_nat.diff.rules import diff_rules
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset, Table, empty_table

IsOurs = Callable[[str, str], bool]
"""Whether a user chain of a table is one of those to look at."""


def diff_rulesets(old: Ruleset, new: Ruleset) -> RulesetDiff:
    """Return what turns ``old`` into ``new``; a table that one side lacks counts as untouched there."""
    chains: list[ChainEdit] = []
    for name in sorted(old.tables.keys() | new.tables.keys()):
        before = old.tables.get(name) or empty_table(name)
        after = new.tables.get(name) or empty_table(name)
        chains += _diff_tables(before, after)
    return RulesetDiff(new.family, tuple(chains))


def in_scope(ruleset: Ruleset, is_ours: IsOurs) -> Ruleset:
    """Return the chains to look at, and of the built-in chains the rules that lead to them."""
    tables = {}
    for table in ruleset.tables.values():
        chains = {c.name: c for c in table.chains.values() if is_ours(table.name, c.name)}
        for chain in table.chains.values():
            if chain.policy is not None:
                rules = [rule for rule in chain.rules if _leads_to_ours(table.name, rule, is_ours)]
                chains[chain.name] = Chain(chain.name, rules, "ACCEPT")
        tables[table.name] = Table(table.name, chains)
    return Ruleset(ruleset.family, tables)


def _leads_to_ours(table: str, rule: Rule, is_ours: IsOurs) -> bool:
    return any(isinstance(a, Jump | Goto) and is_ours(table, a.chain) for a in rule.actions)


def apply_diff(ruleset: Ruleset, diff: RulesetDiff) -> Ruleset:
    """Return what the edits make of a rule set: canonical, and without tables that hold nothing."""
    by_table: dict[str, list[ChainEdit]] = {}
    for edit in diff.chains:
        by_table.setdefault(edit.table, []).append(edit)
    tables = {
        name: _apply_to_table(ruleset.tables.get(name) or empty_table(name), by_table.get(name, []))
        for name in ruleset.tables.keys() | by_table.keys()
    }
    return Ruleset(ruleset.family, tables)


def _diff_tables(old: Table, new: Table) -> Iterator[ChainEdit]:
    renamed = renamed_chains(_canonical(old), _canonical(new))
    old_names = {after: before for before, after in renamed.items()}
    for name in sorted(old.chains.keys() - new.chains.keys() - renamed.keys()):
        yield _removed(old.name, old.chains[name], renamed)
    for name in sorted(new.chains):
        before = old.chains.get(old_names.get(name, name))
        edit = _diff_chains(new.name, before, new.chains[name], renamed)
        if edit is not None:
            yield edit


def _canonical(table: Table) -> Table:
    return Table(
        table.name,
        {c.name: Chain(c.name, _canonical_rules(c), c.policy) for c in table.chains.values()},
    )


def _canonical_rules(chain: Chain) -> list[Rule]:
    return [canonical_rule(rule) for rule in chain.rules]


def _removed(table: str, chain: Chain, renamed: Mapping[str, str]) -> ChainEdit:
    rules = retargeted(_canonical_rules(chain), renamed)
    edits = tuple(RuleEdit(EditKind.REMOVE, i, None, rule, None) for i, rule in enumerate(rules))
    return ChainEdit(EditKind.REMOVE, table, chain.name, chain.name, (None, None), edits, (len(rules), 0))


def _diff_chains(table: str, old: Chain | None, new: Chain, renamed: Mapping[str, str]) -> ChainEdit | None:
    after = _canonical_rules(new)
    if old is None:
        edits = tuple(RuleEdit(EditKind.INSERT, None, j, None, rule) for j, rule in enumerate(after))
        return ChainEdit(
            EditKind.INSERT, table, new.name, new.name, (None, new.policy), edits, (0, len(after))
        )
    before = retargeted(_canonical_rules(old), renamed)
    changes = tuple(diff_rules(before, after))
    if not changes and old.policy == new.policy and old.name == new.name:
        return None
    policies = (old.policy, new.policy)
    size = (len(before), len(after))
    return ChainEdit(EditKind.UPDATE, table, new.name, old.name, policies, changes, size)


def _apply_to_table(table: Table, edits: list[ChainEdit]) -> Table:
    renamed = {edit.old_name: edit.name for edit in edits if edit.is_renamed}
    removed = {edit.name for edit in edits if edit.kind is EditKind.REMOVE}
    chains: dict[str, Chain] = {}
    for chain in table.chains.values():
        if chain.name not in removed:
            name = renamed.get(chain.name, chain.name)
            chains[name] = Chain(name, retargeted(_canonical_rules(chain), renamed), chain.policy)
    for edit in edits:
        if edit.kind is not EditKind.REMOVE:
            held = chains.get(edit.name) or Chain(edit.name)
            chains[edit.name] = Chain(edit.name, _apply_to_rules(held.rules, edit), edit.policies[1])
    return Table(table.name, chains)


def _apply_to_rules(rules: list[Rule], chain: ChainEdit) -> list[Rule]:
    gone = {edit.old_place for edit in chain.rules}
    kept = iter([rule for place, rule in enumerate(rules) if place not in gone])
    placed = {edit.new_place: edit.new for edit in chain.rules if edit.new_place is not None}
    made: list[Rule] = []
    for place in range(chain.size[1]):
        rule = placed.get(place)
        made.append(next(kept) if rule is None else rule)
    return made
