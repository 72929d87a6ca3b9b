"""Whether a rule set is one that the kernel can hold: jumps lead somewhere, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.ruleset.actions import AnyAction, DnatMap, Goto, Jump, UpdateSet, VerdictMap
from kproxy_nat.ruleset.matches import Lookup
from kproxy_nat.ruleset.rules import Chain, Ruleset, Table

MAX_CHAIN_NAME = 28
MAX_NFT_NAME = 255


def faults(ruleset: Ruleset) -> Iterator[str]:
    """Yield a sentence for each fault of structure; none for a sound rule set."""
    for table in ruleset.tables.values():
        for chain in table.chains.values():
            longest = MAX_NFT_NAME if table.family else MAX_CHAIN_NAME
            if len(chain.name) > longest:
                yield f"{table.name}: chain name {chain.name} is longer than {longest} characters"
            for target in (*targets(chain), *_targets_of_maps(table, chain)):
                yield from _target_faults(table, chain, target)
            for name in sets_used(chain):
                if name not in table.sets:
                    yield f"{table.name}: {chain.name} uses the set {name}, which is not there"
        yield from _circles(table)


def targets(chain: Chain) -> list[str]:
    """Return the chains that the rules of ``chain`` lead to, but for those through maps of the table."""
    return [target for rule in chain.rules for target in _led_to(rule.actions)]


def _led_to(actions: Iterable[AnyAction]) -> Iterator[str]:
    for action in actions:
        if isinstance(action, Jump | Goto):
            yield action.chain
        elif isinstance(action, VerdictMap) and not isinstance(action.map, str):
            yield from _led_to(entry.verdict for entry in action.map)


def _targets_of_maps(table: Table, chain: Chain) -> Iterator[str]:
    """Yield the chains that the rules of ``chain`` lead to through maps of the table."""
    for rule in chain.rules:
        for action in rule.actions:
            if not isinstance(action, VerdictMap) or not isinstance(action.map, str):
                continue
            named = table.sets.get(action.map)
            if named is not None:
                verdicts = (element.value for element in named.elements.values())
                yield from dict.fromkeys(v.chain for v in verdicts if isinstance(v, Jump | Goto))


def sets_used(chain: Chain) -> Iterator[str]:
    """Yield the names of the sets and maps that the rules of ``chain`` look up or add to."""
    for rule in chain.rules:
        yield from (match.name for match in rule.matches if isinstance(match, Lookup))
        for action in rule.actions:
            if isinstance(action, UpdateSet):
                yield action.name
            elif isinstance(action, VerdictMap | DnatMap) and isinstance(action.map, str):
                yield action.map


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
                onward = (*targets(table.chains[name]), *_targets_of_maps(table, table.chains[name]))
                stack.extend((target, True) for target in dict.fromkeys(onward))
