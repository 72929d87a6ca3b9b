"""Dumps as blocks of canonical lines, of which only those are parsed that differ from another dump."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.formats.iptables_difference import differing_chains
from kproxy_nat.formats.iptables_dump import DumpedTable
from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, TABLE_ORDER

Block = tuple[tuple[str, ...], list[str]]


def canonical_blocks(rules: DumpedRules, other: DumpedRules) -> list[Block]:
    """Return the lines of a dump as ``iptables-save`` prints them, each chain a block, tables in its order.

    Chains that are the same text in ``other`` stay as they are written. A table that neither dump holds
    rules in is left out.

    Raises:
        InvalidInputError: a rule is broken.
    """
    names = [*TABLE_ORDER, *sorted((rules.dump.tables.keys() | other.dump.tables.keys()) - set(TABLE_ORDER))]
    return [
        block
        for name in names
        if any(_is_used(dump.table(name)) for dump in (rules.dump, other.dump))
        for block in _table_blocks(name, rules, other)
    ]


def _is_used(table: DumpedTable) -> bool:
    return (
        any(table.chains.values())
        or set(table.policies.values()) != {"ACCEPT"}
        or bool(table.chains.keys() - table.policies.keys())
    )


def _table_blocks(name: str, rules: DumpedRules, other: DumpedRules) -> Iterator[Block]:
    table = rules.dump.table(name)
    differing = set(differing_chains(table, other.dump.table(name)))
    builtin = [chain for chain in BUILTIN_CHAINS.get(name, ()) if chain in table.chains]
    chains = [*builtin, *sorted(table.chains.keys() - set(builtin))]
    yield (name,), [f"*{name}"]
    for chain in chains:
        yield (name, "chain", chain), [f":{chain} {table.policies.get(chain, '-')} [0:0]"]
    for chain in chains:
        yield (name, "rules", chain), _lines(rules, name, chain, parse=chain in differing)
    yield (name, "end"), ["COMMIT"]


def _lines(rules: DumpedRules, table: str, chain: str, *, parse: bool) -> list[str]:
    if not parse:
        return rules.dump.table(table).chains[chain].splitlines()
    family = rules.dump.family
    return [f"-A {chain} {render_rule(rule, family)}" for rule in rules.rules(table, chain)]
