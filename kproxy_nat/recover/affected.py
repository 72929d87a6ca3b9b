"""Which Services a difference between two dumps can concern; all others need not be read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from kproxy_nat.formats.iptables_difference import differing_chains
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.recover.sources import DISPATCH_CHAINS, owner_of

_TARGET = re.compile(r" -[jg] (KUBE-\S+)$", re.MULTILINE)


def affected_services(old: Dump, new: Dump) -> set[str]:
    """Return the names of service ports with a rule that differs, or that leads to a chain which differs."""
    changed = set(differing_chains(old.table("nat"), new.table("nat"))) - set(DISPATCH_CHAINS["nat"])
    reaching = _leading_to(changed, (old, new)) if changed else set()
    found: set[str] = set()
    for table, chains in DISPATCH_CHAINS.items():
        for chain in chains:
            before = old.table(table).chains.get(chain, "")
            after = new.table(table).chains.get(chain, "")
            found.update(_owners(before, after, reaching if table == "nat" else set()))
    return found


def _leading_to(changed: set[str], dumps: Iterable[Dump]) -> set[str]:
    """Return the chains, with the changed ones, from which a packet may come into a changed one."""
    users: dict[str, set[str]] = defaultdict(set)
    for dump in dumps:
        for name, block in dump.table("nat").chains.items():
            if name not in DISPATCH_CHAINS["nat"]:
                for target in _TARGET.findall(block):
                    users[target].add(name)
    found: set[str] = set()
    waiting = list(changed)
    while waiting:
        chain = waiting.pop()
        if chain not in found:
            found.add(chain)
            waiting += users.get(chain, ())
    return found


def _owners(before: str, after: str, reaching: set[str]) -> Iterator[str]:
    if before != after:
        for line in set(before.splitlines()) ^ set(after.splitlines()):
            yield owner_of(line)
    if reaching:
        for text in (before, after) if before != after else (before,):
            for line in text.splitlines():
                if line.rpartition(" ")[2] in reaching:
                    yield owner_of(line)
