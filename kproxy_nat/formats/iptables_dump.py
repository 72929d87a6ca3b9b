"""Dumps of iptables-save cut into chains, without parsing their rules.

In this form two rule sets of hundreds of thousands of lines are compared at once, and foreign rules stay the
bytes that they are. ``formats.iptables_parse`` is for those who need to know what a rule says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, TABLE_ORDER

_TABLE = re.compile(r"^\*(\S+)$", re.MULTILINE)
_CHAIN = re.compile(r"^:(\S+) (\S+)", re.MULTILINE)
_RULES = re.compile(r"\n(?:-A |\[)")
_COUNTERS = re.compile(r"^\[\d+:\d+\] ", re.MULTILINE)
_USER_CHAIN = " - [0:0]\n"
"""How the line of a user chain ends."""

_START = re.compile(r"^-A (\S+) ", re.MULTILINE)
_BLOCK = re.compile(r"^-A (\S+).*\n(?:-A \1 .*\n)*", re.MULTILINE)
_FEW_CHAINS = 50
"""As many names fit into a pattern that is still fast."""


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """A table: the policy of each built-in chain, and the text of each chain's rules, all lines ended.

    A rule's line is ``-A CHAIN ...``; a chain without rules has the empty text. For tables of nftables see
    ``formats.nft_dump``; only these have comments.
    """

    name: str
    policies: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, str] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    def user_chains(self) -> list[str]:
        """Return the names of the chains that are not built in, sorted."""
        return sorted([chain for chain in self.chains if chain not in self.policies])


@dataclass(frozen=True, slots=True)
class Dump:
    """The tables of one family."""

    family: IpFamily
    tables: Mapping[str, DumpedTable] = field(default_factory=dict)

    def table(self, name: str) -> DumpedTable:
        """Return a table; an empty one where the kernel has not made it yet."""
        return self.tables.get(name) or _untouched(name)


def split_dump(text: str, family: IpFamily, like: Dump | None = None) -> Dump:
    """Cut the output of ``iptables-save``, with or without ``--counters``, into chains; counters are dropped.

    What is not in the form of that output, as broken lines, belongs to no chain. A dump that the text is
    expected to be ``like`` changes nothing but time and memory: chains that are the same text are taken from
    there.
    """
    known = like or Dump(family)
    tables = {name: _table(name, text, start, end, known.table(name)) for name, start, end in _sections(text)}
    return Dump(family, tables)


def rule_counters(text: str, table: str, chains: Collection[str]) -> dict[str, str]:
    """Return the counters of rules in these chains, ``"12:3456"``, by line, where they are not zero.

    Of equal rules of a chain, the first's.
    """
    names = "|".join(map(re.escape, chains)) if len(chains) <= _FEW_CHAINS else r"\S+"
    pattern = re.compile(rf"\n\[(?!0:0\])(\d+:\d+)\] (-A ({names}) .*)")
    counters: dict[str, str] = {}
    for name, start, end in _sections(text) if chains else ():
        found = pattern.finditer(text, start - 1, end) if name == table else ()
        for rule in found:
            if rule[3] in chains:
                counters.setdefault(rule[2], rule[1])
    return counters


def join_dump(dump: Dump) -> str:
    """Return the dump as ``iptables-save`` prints it, with all counters at zero and without comments."""
    parts: list[str] = []
    for name in sorted(dump.tables, key=_table_rank):
        table = dump.tables[name]
        builtin, user = _builtin_chains(table), table.user_chains()
        parts.append(f"*{name}\n")
        parts += [f":{chain} {table.policies[chain]} [0:0]\n" for chain in builtin]
        parts.append(_declared(user))
        parts += map(table.chains.__getitem__, builtin)
        parts += map(table.chains.__getitem__, user)
        parts.append("COMMIT\n")
    return "".join(parts)


def _sections(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each table, and where its text begins and ends (before COMMIT)."""
    found = _TABLE.search(text)
    while found:
        end = text.find("\nCOMMIT\n", found.end())
        if end < 0:
            return
        yield found[1], found.end() + 1, end + 1
        found = _TABLE.search(text, end)


def _table(name: str, text: str, start: int, end: int, like: DumpedTable) -> DumpedTable:
    """Cut a table's part of a text, which can be large: it is copied as seldom as possible."""
    found = _RULES.search(text, start - 1, end)
    first = found.start() if found else end - 1
    chains, policies = _declarations(text[start : first + 1], like)
    rules = _without_counters(text[first:end])
    if list(chains) == list(like.chains) and _is_listed(like.chains, rules):
        return DumpedTable(name, policies, like.chains)
    for chain, block in _blocks(rules, like.chains):
        chains[chain] = chains[chain] + block if chains.get(chain) else block
    return DumpedTable(name, policies, chains)


def _is_listed(chains: Mapping[str, str], rules: str) -> bool:
    """Tell whether a text is that of all chains, in their order, after a line feed."""
    return sum(map(len, chains.values())) == len(rules) - 1 and rules.endswith("".join(chains.values()))


def _without_counters(rules: str) -> str:
    """Return lines, of which each follows a line feed, without counters; most are zero."""
    if "\n[" not in rules:
        return rules
    rules = rules.replace("\n[0:0] ", "\n")
    return _COUNTERS.sub("", rules) if "\n[" in rules else rules


def _declarations(declared: str, like: DumpedTable) -> tuple[dict[str, str], dict[str, str]]:
    """Return all chains, without rules, and the policies of the built-in ones, which are listed first."""
    first, others = _user_chains(declared, [chain for chain in like.chains if chain not in like.policies])
    found = _CHAIN.findall(first)
    chains = dict.fromkeys([*(chain for chain, _ in found), *others], "")
    return chains, {chain: policy for chain, policy in found if policy != "-"}


def _user_chains(declared: str, expected: list[str]) -> tuple[str, list[str]]:
    """Return the chains that are listed last, as user chains are, and what is before them."""
    last = _declared(expected)
    if expected and f"\n{declared}".endswith(f"\n{last}"):
        return declared.removesuffix(last), expected
    first, *others = declared.split(f"{_USER_CHAIN}:")
    if others:
        first += _USER_CHAIN
        others[-1] = others[-1].removesuffix(_USER_CHAIN)
    if "\n" in "".join(others):  # They are not listed as expected.
        return declared, []
    return first, others


def _declared(user: list[str]) -> str:
    """Return the lines of user chains."""
    return f":{f'{_USER_CHAIN}:'.join(user)}{_USER_CHAIN}" if user else ""


def _blocks(rules: str, like: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield rules that follow each other in a chain as one text, with the chain; a line feed is before them.

    Both are walked through side by side; a chain that is not in its turn ends what they have in common.
    """
    position = 1
    for expected in like.items():
        chain, block = expected
        while not rules.startswith(block, position):
            start = _START.match(rules, position)
            if start is None or (start[1] != chain and start[1] in like):
                break
            found = _BLOCK.match(rules, position)
            assert found is not None
            yield start[1], found[0]
            position = found.end()
            if start[1] == chain:
                break
        else:
            if block:
                yield expected
                position += len(block)
    for found in _BLOCK.finditer(rules, position):
        yield found[1], found[0]


def _untouched(name: str) -> DumpedTable:
    builtin = BUILTIN_CHAINS.get(name, ())
    return DumpedTable(name, dict.fromkeys(builtin, "ACCEPT"), dict.fromkeys(builtin, ""))


def _builtin_chains(table: DumpedTable) -> list[str]:
    known = BUILTIN_CHAINS.get(table.name, ())
    return [*(c for c in known if c in table.policies), *sorted(table.policies.keys() - set(known))]


def _table_rank(name: str) -> tuple[int, str]:
    return (TABLE_ORDER.index(name) if name in TABLE_ORDER else len(TABLE_ORDER)), name
