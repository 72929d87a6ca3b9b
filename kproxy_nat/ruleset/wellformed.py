"""Whether a rule set is one that the kernel can hold: jumps lead somewhere, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.rules import Chain, Ruleset, Table

MAX_CHAIN_NAME = 28


def faults(ruleset: Ruleset) -> Iterator[str]:
    """Yield a sentence for each fault of structure; none for a sound rule set."""
    for table in ruleset.tables.values():
        for chain in table.chains.values():
            if len(chain.name) > MAX_CHAIN_NAME:
                yield f"{table.name}: chain name {chain.name} is longer than {MAX_CHAIN_NAME} characters"
            for target in targets(chain):
                yield from _target_faults(table, chain, target)
        yield from _circles(table)


def targets(chain: Chain) -> list[str]:
    """Return the chains that the rules of ``chain`` lead to."""
    return [a.chain for rule in chain.rules for a in rule.actions if isinstance(a, Jump | Goto)]


def _target_faults(table: Table, chain: Chain, target: str) -> Iterator[str]:
    found = table.chains.get(target)
    if found is None:
        yield f"{table.name}: {chain.name} jumps to {target}, which is not there"
    elif found.policy is not None:
        yield f"{table.name}: {chain.name} jumps to {target}, which is built in"


def _circles(table: Table) -> Iterator[str]:
    done: set[str] = set()
    for start in table.chains:
        on_the_way: set[str] = set()
        stack = [(start, True)]
        while stack:
            name, entering = stack.pop()
            if not entering:
                on_the_way.discard(name)
                done.add(name)
            elif name in on_the_way:
                yield f"{table.name}: the jumps from {start} go in a circle at {name}"
            elif name not in done and name in table.chains:
                on_the_way.add(name)
                stack.append((name, False))
                stack.extend((target, True) for target in dict.fromkeys(targets(table.chains[name])))
