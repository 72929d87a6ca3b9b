"""The part of two dumps that differs, as rule sets: chains that are the same text are never parsed."""

from __future__ import annotations

from kproxy_nat.formats.iptables_dump import DumpedTable
from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.ruleset.rules import Chain, Ruleset, Table


def differing_chains(old: DumpedTable, new: DumpedTable) -> list[str]:
    """Return the names of the chains whose text or policy differs, or which one side lacks, sorted."""
    names = [
        name
        for name in old.chains.keys() | new.chains.keys()
        if old.chains.get(name) != new.chains.get(name) or old.policies.get(name) != new.policies.get(name)
    ]
    return sorted(names)


def differing_rulesets(old: DumpedRules, new: DumpedRules) -> tuple[Ruleset, Ruleset]:
    """Return the chains that differ, parsed, of both sides.

    Raises:
        InvalidInputError: one of their rules is broken.
    """
    family = old.dump.family
    sides = (Ruleset(family), Ruleset(family))
    for name in sorted(old.dump.tables.keys() | new.dump.tables.keys()):
        chains = differing_chains(old.dump.table(name), new.dump.table(name))
        for side, rules in zip(sides, (old, new), strict=True):
            side.tables[name] = _table(rules, name, chains)
    return sides


def _table(rules: DumpedRules, name: str, chains: list[str]) -> Table:
    table = rules.dump.table(name)
    there = [chain for chain in chains if chain in table.chains]
    return Table(name, {c: Chain(c, list(rules.rules(name, c)), table.policies.get(c)) for c in there})
