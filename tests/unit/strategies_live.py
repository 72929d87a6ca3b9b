"""What a namespace may hold: our chains and jumps, or a part of them, among rules of others.

Rule sets are drawn as the seed of a generator: choosing each of their lines one by one is slow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from kproxy_nat.apply.ownership import jump_lines
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.formats.iptables_dump import Dump, DumpedTable, join_dump, split_dump
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS

TABLES = ("nat", "filter")
FIXED = {
    "nat": ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"),
    "filter": (
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
        "KUBE-FIREWALL",
    ),
}
OF_SERVICES = {"nat": ("KUBE-SVC-AAAAAAAAAAAAAAAA", "KUBE-SEP-BBBBBBBBBBBBBBBB"), "filter": ()}
FOREIGN = ("DOCKER", "KUBE-PROXY-CANARY", "KUBE-SVC-short")
CONDITIONS = ("-s 10.0.0.1/32", "-s 10.0.0.2/32", '-p tcp -m comment --comment "a \\"b\\" KUBE-SERVICES"')
VERDICTS = {"nat": ("ACCEPT", "RETURN"), "filter": ("ACCEPT", "DROP")}
COUNTERS = ("[0:0]", "[1:40]", "[23:4567]")

Lines = list[str]


@functools.cache
def jumps_of(table: str, chain: str) -> tuple[str, ...]:
    """Return our jumps from a built-in chain."""
    found = [line for line in sorted(jump_lines(IpFamily.IPV4)) if line.split()[1] == chain]
    if chain in ("POSTROUTING", "PREROUTING"):
        return tuple(found) if table == "nat" else ()
    of_nat = [line for line in found if line.endswith("-j KUBE-SERVICES") and "ctstate" not in line]
    return tuple(of_nat if table == "nat" else (line for line in found if line not in of_nat))


def normal(dump: Dump) -> str:
    """Return a text for a dump, the same for all that hold the same rules."""
    return join_dump(Dump(dump.family, {name: dump.table(name) for name in ("filter", "nat")}))


def blocks_of(dump: Dump, table: str, chosen: Callable[[str], bool]) -> dict[str, str]:
    """Return the rules of the chains that are chosen by name."""
    return {name: block for name, block in dump.table(table).chains.items() if chosen(name)}


def read_back(dump: Dump) -> LiveRules:
    """Return live rules as they are listed for a dump, with counters at zero."""
    text = join_dump(dump)
    return LiveRules(text, split_dump(text, dump.family))


@dataclass
class Generator:
    """Makes rule sets of all kinds.

    Attributes:
        random: where its choices come from.
        foreign: whether rules of others may be there.
        edited: whether somebody may have moved jumps of ours, or removed them.
    """

    random: Random
    foreign: bool = True
    edited: bool = True

    def dump(self) -> Dump:
        """Return a dump of some tables."""
        ours = self.random.random() < 0.7
        policy = self.random.choice(("ACCEPT", "DROP")) if self.foreign else "ACCEPT"
        tables = {}
        for name in self.random.sample(TABLES, self.random.randint(0, 2)):
            policies = dict.fromkeys(BUILTIN_CHAINS[name], policy if name == "filter" else "ACCEPT")
            blocks = self._chains(name, ours=ours)
            chains = {chain: _block(lines) for chain, lines in blocks.items()}
            tables[name] = DumpedTable(name, policies, chains)
        return Dump(IpFamily.IPV4, tables)

    def interleaved(self, jumps: Sequence[str], others: Lines) -> Lines:
        """Return both in one list, the others in their order."""
        merged = list(others)
        for jump in jumps:
            merged.insert(self.random.randint(0, len(merged)), jump)
        return merged

    def some(self, jumps: Sequence[str]) -> Lines:
        """Return some of the jumps in any order."""
        return self.random.sample(jumps, self.random.randint(0, len(jumps)))

    def _chains(self, table: str, *, ours: bool) -> dict[str, Lines]:
        blocks: dict[str, Lines] = {}
        for chain in BUILTIN_CHAINS[table]:
            others = self._lines(chain, VERDICTS[table]) if self.foreign else []
            jumps = jumps_of(table, chain) if ours else ()
            moved = self.edited and self.random.random() < 0.5
            blocks[chain] = self.interleaved(self.some(jumps), others) if moved else [*jumps, *others]
        if ours:
            names = [*FIXED[table], *self.some(OF_SERVICES[table])]
            for at, name in enumerate(names):  # Jumps to later chains only, so that there are no circles.
                blocks[name] = self._lines(name, (*VERDICTS[table], *names[at + 1 :]))
        if self.foreign:
            blocks |= {name: self._lines(name, VERDICTS[table]) for name in self.some(FOREIGN)}
        return blocks

    def _lines(self, chain: str, targets: Sequence[str]) -> Lines:
        choose = self.random.choice
        count = self.random.randint(0, 4)
        return [f"-A {chain} {choose(CONDITIONS)} -j {choose(targets)}" for _ in range(count)]


def _block(lines: Lines) -> str:
    return "".join(f"{line}\n" for line in lines)


def _counted(dump: Dump, random: Random) -> LiveRules:
    text = "".join(
        f"{random.choice(COUNTERS)} {line}" if line.startswith("-A ") else line
        for line in join_dump(dump).splitlines(keepends=True)
    )
    return LiveRules(text, split_dump(text, dump.family))


def _live(seed: int) -> LiveRules:
    random = Random(seed)
    return _counted(Generator(random).dump(), random)


def _edited(seed: int) -> tuple[LiveRules, Dump]:
    """Return live rules, and the same with our jumps in other places."""
    random = Random(seed)
    rules = _counted(Generator(random).dump(), random)
    generator = Generator(random)
    tables = {}
    for name, table in rules.dump.tables.items():
        chains = dict(table.chains)
        for chain in table.policies if "KUBE-SERVICES" in chains else ():
            known = jumps_of(name, chain)
            others = [line for line in chains[chain].splitlines() if line not in known]
            chains[chain] = _block(generator.interleaved(generator.some(known), others))
        tables[name] = DumpedTable(name, table.policies, chains)
    return rules, Dump(rules.dump.family, tables)


SEEDS = st.integers(0, (1 << 32) - 1)

LIVE = SEEDS.map(_live)
"""Live rules that somebody may have edited."""

WANTED = SEEDS.map(lambda seed: Generator(Random(seed), foreign=False, edited=False).dump())
"""What is compiled: all our chains and jumps and nothing else, or nothing."""

LIVE_AND_EDITED = SEEDS.map(_edited)
"""Live rules, and a dump of the same with some of our jumps, in other places."""
