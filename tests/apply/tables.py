"""Rules as text, and what they must be: written for these tests, with nothing of the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BUILTIN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


@dataclass
class Table:
    """A table: policies of built-in chains, and the rules of all chains."""

    policies: dict[str, str] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)


Tables = dict[str, Table]


def parse(text: str) -> Tables:
    """Return the tables of a dump without counters."""
    tables: Tables = {}
    table = Table()
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], Table())
        elif line.startswith(":"):
            name, policy, _ = line[1:].split(" ")
            table.chains[name] = []
            if policy != "-":
                table.policies[name] = policy
        elif line.startswith("-A "):
            table.chains[line.split(" ")[1]].append(line)
    return tables


def render(tables: Tables) -> str:
    """Return the dump of these tables as :func:`normal` gives it."""
    return normal("".join(_table_text(name, table) for name, table in tables.items()))


def merged(foreign: str, compiled: str) -> Tables:
    """Return the rules of a namespace with ``foreign`` rules after a first apply of ``compiled`` ones."""
    tables = parse(foreign)
    for name, ours in parse(compiled).items():
        table = tables.setdefault(name, Table())
        for chain in BUILTIN[name]:
            table.policies.setdefault(chain, "ACCEPT")
            table.chains.setdefault(chain, [])
        for chain, rules in ours.chains.items():
            here = table.chains.get(chain, []) if chain in BUILTIN[name] else []
            table.chains[chain] = [*rules, *(rule for rule in here if rule not in rules)]
    return tables


def normal(dump: str) -> str:
    """Return a dump without comments, tables by name, without those that hold nothing."""
    blocks = re.findall(r"^\*.*?^COMMIT\n", re.sub(r"(?m)^#.*\n", "", dump), re.MULTILINE | re.DOTALL)
    return "".join(sorted(block for block in blocks if _holds_something(block)))


def numbered(counted: str) -> str:
    """Return a dump with a different counter for each rule."""
    numbers = iter(range(1, 100000))
    return re.sub(r"(?m)^\[\d+:\d+\] -A", lambda _: f"[{(n := next(numbers))}:{n * 100}] -A", counted)


def counters(counted: str) -> dict[tuple[str, str], str]:
    """Return the counter of each rule, by table and line, of a dump with counters."""
    return {(table, line): count for table, count, line in _counted_lines(counted)}


def without_counters(counted: str) -> str:
    """Return a dump as it would be without counters."""
    return re.sub(r"(?m)^(:\S+ \S+) \[\d+:\d+\]", r"\1 [0:0]", re.sub(r"(?m)^\[\d+:\d+\] ", "", counted))


def _counted_lines(counted: str) -> Iterator[tuple[str, str, str]]:
    table = ""
    for line in counted.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("["):
            count, _, rule = line.partition(" ")
            yield table, count, rule


def _holds_something(block: str) -> bool:
    lines = block.splitlines()[1:-1]
    return any(not re.fullmatch(r":\S+ ACCEPT \[\d+:\d+\]", line) for line in lines)


def _table_text(name: str, table: Table) -> str:
    own = sorted(table.chains.keys() - table.policies.keys())
    chains = [*(chain for chain in BUILTIN[name] if chain in table.policies), *own]
    declared = [f":{chain} {table.policies.get(chain, '-')} [0:0]\n" for chain in chains]
    rules = [f"{rule}\n" for chain in chains for rule in table.chains[chain]]
    return "".join([f"*{name}\n", *declared, *rules, "COMMIT\n"])
