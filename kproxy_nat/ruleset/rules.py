"""Rules, chains, tables, and a whole family's rule set."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import AnyAction
from kproxy_nat.ruleset.matches import AnyMatch
from kproxy_nat.ruleset.sets import NamedSet

NFT_FAMILIES = {IpFamily.IPV4: "ip", IpFamily.IPV6: "ip6"}
"""nft's names of the IP families."""

BOTH_FAMILIES = "inet"
"""nft's family of tables that see the packets of both IP families."""

Counters = tuple[int, int]
"""Packets and bytes."""


class RuleOrigin(msgspec.Struct, frozen=True, gc=False):
    """What a rule was made for: a subject in the words of its maker, and the line of input that names it."""

    subject: str
    source: str
    line: int


class Rule(msgspec.Struct, frozen=True, gc=False, eq=False, omit_defaults=True):
    """One rule. Two rules are equal when they match and act alike; origin and counters do not count.

    A rule without an action only counts packets. iptables allows one action, nftables several.
    """

    matches: tuple[AnyMatch, ...]
    actions: tuple[AnyAction, ...]
    origin: RuleOrigin | None = None
    counters: Counters | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rule):
            return NotImplemented
        return self.matches == other.matches and self.actions == other.actions

    def __hash__(self) -> int:
        return hash((self.matches, self.actions))


class Hook(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where the kernel calls a base chain of nftables: ``type nat hook output priority -100``.

    ``devices`` are those of an ingress or egress hook.
    """

    type: str
    name: str
    priority: int
    devices: tuple[str, ...] = ()


class Chain(msgspec.Struct):
    """A chain. ``policy`` is that of a built-in or base chain, ``None`` for others.

    Only chains of nftables have a ``hook`` (base chains) and a ``comment``.
    """

    name: str
    rules: list[Rule] = []
    policy: str | None = None
    counters: Counters = (0, 0)
    hook: Hook | None = None
    comment: str = ""


class Table(msgspec.Struct):
    """A table and its chains, by name.

    ``family`` is that of nft (``ip``, ``ip6``, ``inet``, ...), empty for a table of iptables, which has
    neither sets nor a comment.
    """

    name: str
    chains: dict[str, Chain] = {}
    family: str = ""
    comment: str = ""
    sets: dict[str, NamedSet] = {}

    @property
    def key(self) -> str:
        """The table's key in a rule set: its name, with the family before it if it serves both."""
        return f"{BOTH_FAMILIES} {self.name}" if self.family == BOTH_FAMILIES else self.name

    @property
    def label(self) -> str:
        """What the table is called among all tables: its name, with nft's family before it, if it has one."""
        return f"{self.family} {self.name}" if self.family else self.name


class Ruleset(msgspec.Struct):
    """The tables of one IP family, by :attr:`Table.key`."""

    family: IpFamily
    tables: dict[str, Table] = {}

    def rules(self) -> Iterator[tuple[Table, Chain, Rule]]:
        """Yield every rule with where it stands."""
        for table in self.tables.values():
            for chain in table.chains.values():
                for rule in chain.rules:
                    yield table, chain, rule


TABLE_ORDER = ("mangle", "security", "raw", "filter", "nat")
"""The order in which ``iptables-save`` (nf_tables variant) lists tables."""

BUILTIN_CHAINS: dict[str, tuple[str, ...]] = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
    "raw": ("PREROUTING", "OUTPUT"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
"""The built-in chains of iptables' tables, in the order in which they are listed."""


def empty_table(name: str) -> Table:
    """Return a table as the kernel creates it: built-in chains that accept everything."""
    return Table(name, {chain: Chain(chain, policy="ACCEPT") for chain in BUILTIN_CHAINS.get(name, ())})
