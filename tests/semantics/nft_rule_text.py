"""The tables of ``nft list ruleset`` as chains of statements, sets and maps: a reader for tests only."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

TOKEN = re.compile(r'"[^"]*"|[{},]|[^\s{},]+')
PRIORITIES = {"dstnat": -100, "filter": 0, "srcnat": 100}
PARTS = {"saddr", "daddr", "l4proto", "dport"}

Value = int | str | tuple[int, int]
"""A number (addresses, too), a word, or a range of addresses."""

Key = tuple[str, ...]
"""``saddr``, ``daddr``, ``l4proto``, ``dport``, ``tcp dport`` and the like, or ``numgen N``."""

Entries = dict[tuple[Value, ...], tuple[str, ...]]
"""The elements of a set or map: what each key leads to, in words."""


@dataclass(frozen=True)
class Statement:
    """A condition or action. ``map`` is what is looked up in: a name with ``@``, or entries of its own."""

    kind: str
    words: tuple[str, ...] = ()
    negated: bool = False
    key: Key = ()
    map: str | None = None
    entries: tuple[tuple[tuple[Value, ...], tuple[str, ...]], ...] = ()


Rule = list[Statement]


@dataclass
class NftTable:
    """Chains by name, the base chains of each hook in order of priority, and sets and maps."""

    chains: dict[str, list[Rule]] = field(default_factory=dict)
    hooks: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)
    sets: dict[str, Entries] = field(default_factory=dict)


def read_nft_table(text: str, family: str) -> NftTable:
    """Return the one table that a listing has of a family (``ip`` or ``ip6``)."""
    found = re.search(rf"^table {family} \S+ \{{\n(.*?)^\}}\n", text, re.M | re.S)
    assert found
    table = NftTable()
    for kind, name, body in re.findall(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}\n", found[1], re.M | re.S):
        if kind == "chain":
            table.chains[name] = [_rule(line) for line in body.splitlines() if not _is_property(line)]
            _read_hook(name, body, table)
        else:
            elements = re.search(r"^\t\telements = (\{ .* \})\n", body, re.M | re.S)
            table.sets[name] = dict(_Words(elements[1]).entries()) if elements else {}
    for chains in table.hooks.values():
        chains.sort()
    return table


def _is_property(line: str) -> bool:
    return line.startswith(("\t\ttype ", "\t\tcomment "))


def _read_hook(name: str, body: str, table: NftTable) -> None:
    hook = re.match(r"\t\ttype (\w+) hook (\w+) priority (\S+)(?: ([+-]) (\d+))?; policy accept;", body)
    if hook:
        kind, place, base, sign, distance = hook.groups()
        priority = PRIORITIES[base] if base in PRIORITIES else int(base)
        priority += int(f"{sign}{distance}") if sign else 0
        table.hooks.setdefault(place, []).append((priority, kind, name))


def _rule(line: str) -> Rule:
    words = _Words(line)
    statements = []
    while words.left:
        statements.append(words.statement())
    return statements


def _value(word: str) -> Value:
    if word.isdecimal():
        return int(word)
    if "/" in word:
        network = ipaddress.ip_network(word)
        return int(network[0]), int(network[-1])
    first, dash, last = word.partition("-")
    try:
        low = int(ipaddress.ip_address(first))
    except ValueError:
        return word
    return (low, int(ipaddress.ip_address(last))) if dash else low


class _Words:
    """Words from left to right."""

    def __init__(self, text: str) -> None:
        self.left = TOKEN.findall(text)[::-1]

    def take(self, *expected: str) -> str:
        word: str = self.left.pop()
        assert not expected or word in expected, (word, expected)
        return word

    def accept(self, word: str) -> bool:
        found = bool(self.left) and self.left[-1] == word
        if found:
            self.left.pop()
        return found

    def values(self) -> tuple[str, ...]:
        """Take words that commas join."""
        found = [self.take()]
        while self.accept(","):
            found.append(self.take())
        return tuple(found)

    def statement(self) -> Statement:
        first = self.take()
        if first == "comment":
            self.take()
            return Statement("comment")
        if first == "ct":
            kind = f"ct {self.take('state', 'status')}"
            return Statement(kind, negated=self.accept("!="), words=self.values())
        if first == "fib":
            kind = f"fib {self.take('saddr', 'daddr')}"
            self.take("type")
            return Statement(kind, negated=self.accept("!="), words=self.values())
        if first == "iifname":
            return Statement("iifname", negated=self.accept("!="), words=(self.take().strip('"'),))
        if first == "meta" and self.accept("mark"):
            return self.mark()
        if first == "update":
            name = self.take()
            self.take("{")
            key = self.key(self.take())
            self.take("}")
            return Statement("update", (name[1:],), key=key)
        if first == "dnat":
            return self.dnat()
        if first in ("jump", "goto"):
            return Statement("verdict", (first, self.take()))
        if first in ("accept", "drop", "return", "reject"):
            return Statement("verdict", (first,))
        if first == "masquerade":
            self.accept("fully-random")
            return Statement("masquerade")
        return self.keyed(self.key(first))

    def mark(self) -> Statement:
        if self.accept("set"):
            self.take("meta")
            self.take("mark")
            return Statement("set mark", (self.take("|", "^"), self.take()))
        self.take("&")
        mask = self.take()
        negated = self.take("!=", "==") == "!="
        return Statement("mark", (mask, self.take()), negated)

    def dnat(self) -> Statement:
        if self.accept("to"):
            first = self.take()
            if first != "numgen":
                return Statement("dnat", (first,))
            key = self.key(first)
            self.take("map")
            name, _, port = self.take()[1:].partition(":")
            return Statement("dnat", ("", port), key=key, map=name)
        self.take("ip", "ip6")
        self.take("to")
        key = self.key(self.take())
        self.take("map")
        return self.lookup("dnat", key)

    def key(self, first: str) -> Key:
        parts = [self.part(first)]
        while self.accept("."):
            parts.append(self.part(self.take()))
        return tuple(parts)

    def part(self, first: str) -> str:
        if first == "numgen":
            self.take("random")
            self.take("mod")
            return f"numgen {self.take()}"
        field = self.take(*PARTS)
        return f"{first} {field}" if first in ("tcp", "udp", "sctp") else field

    def keyed(self, key: Key) -> Statement:
        if self.accept("vmap"):
            return self.lookup("vmap", key)
        negated = self.accept("!=")
        if self.left[-1] == "{" or self.left[-1].startswith("@"):
            return self.lookup("lookup", key, negated=negated)
        return Statement("lookup", (), negated, key, None, (((_value(self.take()),), ()),))

    def lookup(self, kind: str, key: Key, *, negated: bool = False) -> Statement:
        if self.left[-1] == "{":
            return Statement(kind, (), negated, key, None, tuple(self.entries()))
        return Statement(kind, (), negated, key, self.take()[1:])

    def entries(self) -> list[tuple[tuple[Value, ...], tuple[str, ...]]]:
        """Take elements in braces."""
        self.take("{")
        found = []
        while True:
            key = [_value(self.take())]
            while self.accept("."):
                key.append(_value(self.take()))
            if self.accept("comment"):
                self.take()
            leads_to = []
            if self.accept(":"):
                while self.left[-1] not in (",", "}"):
                    leads_to.append(self.take())
            found.append((tuple(key), tuple(leads_to)))
            if self.take(",", "}") == "}":
                return found
