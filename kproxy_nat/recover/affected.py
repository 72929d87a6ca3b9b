"""Which Services a difference between two dumps can concern; all others need not be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kproxy_nat.formats.iptables_difference import differing_chains
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.recover.sources import is_dispatch, owner_of

_TARGET = re.compile(r" -[jg] ((?:KUBE|KPN)-\S+)$", re.MULTILINE)
_TABLES = ("nat", "filter")
_FEW = 50


def affected_services(old: Dump, new: Dump) -> set[str]:
    """Return the names of service ports with a rule that differs, or that leads to a chain which differs."""
    differing = {table: differing_chains(old.table(table), new.table(table)) for table in _TABLES}
    changed = {chain for chain in differing["nat"] if not is_dispatch("nat", chain)}
    reaching = _leading_to(changed, (old, new)) if changed else set()
    found: set[str] = set()
    for table, chains in differing.items():
        for chain in chains:
            if is_dispatch(table, chain):
                before = old.table(table).chains.get(chain, "")
                found.update(_owners(before, new.table(table).chains.get(chain, "")))
    if reaching:
        found.update(_owners_leading_to(reaching, (old, new)))
    return found


def _leading_to(changed: set[str], dumps: Iterable[Dump]) -> set[str]:
    """Return the chains, with the changed ones, from which a packet may come into a changed one."""
    blocks = _own_blocks(dumps)
    found: set[str] = set()
    last = changed
    while last:
        found |= last
        last = _users(last, blocks) - found
    return found


def _own_blocks(dumps: Iterable[Dump]) -> set[tuple[str, str]]:
    """Return the chains of Services, with their names; what is the same in all dumps once."""
    return {
        (name, block)
        for dump in dumps
        for name, block in dump.table("nat").chains.items()
        if block and not is_dispatch("nat", name)
    }


def _users(chains: set[str], blocks: Iterable[tuple[str, str]]) -> set[str]:
    """Return the chains that lead to one of these; few are looked for as text, as that is much faster."""
    if len(chains) > _FEW:
        return {name for name, block in blocks if not chains.isdisjoint(_TARGET.findall(block))}
    ends = [f" {chain}\n" for chain in chains]
    return {name for name, block in blocks if any(end in block for end in ends)}


def _owners(before: str, after: str) -> Iterator[str]:
    for line in set(before.splitlines()) ^ set(after.splitlines()):
        yield owner_of(line)


def _owners_leading_to(reaching: set[str], dumps: Iterable[Dump]) -> Iterator[str]:
    for dump in dumps:
        for chain, block in dump.table("nat").chains.items():
            if is_dispatch("nat", chain):
                for line in block.splitlines():
                    if line.rpartition(" ")[2] in reaching:
                        yield owner_of(line)
