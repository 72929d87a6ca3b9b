"""Listings of ``nft list ruleset`` cut into sets and chains, without parsing what these hold.

As with dumps of iptables, two rule sets of hundreds of thousands of lines are compared so, and what is
foreign stays the text that it is. ``nft_script_parse`` is for those who need to know what our own rules say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kproxy_nat.ruleset.rules import BOTH_FAMILIES

CHAIN, SET, MAP = "chain", "set", "map"

BlockKey = tuple[str, str]
"""The kind of an object of a table, in nft's word, and its name."""

_TABLE_BEGIN = re.compile(r"^table (\S+) (\S+) \{\n", re.MULTILINE)
_TABLE_END = "\n}\n"
_BLOCK_END = "\n\t}\n"
_FIRST_BLOCK = re.compile(r"^\t[a-z][a-z ]*? \S+ \{\n", re.MULTILINE)
_BLOCK = re.compile(r"\n?\t([a-z][a-z ]*?) (\S+) \{\n")
_OUTSIDE = re.compile(r"(?:[ \t]*(?:#.*)?\n)*")
_COUNTER = re.compile(
    r'"[^"\n]*"|\b(counter packets) \d+ bytes \d+|^(\t\tpackets) \d+ bytes \d+', re.MULTILINE
)
_TIME_LEFT = re.compile(r'"[^"\n]*"| expires \w+')
_HANDLE = re.compile(r" # handle \d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table as listed: what stands before its objects, and the text of each of these, without braces."""

    family: str
    name: str
    head: str = ""
    blocks: Mapping[BlockKey, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The table's family and name, which together are unique."""
        return f"{self.family} {self.name}"

    @property
    def serves_both(self) -> bool:
        """Whether the table is for packets of both IP families."""
        return self.family == BOTH_FAMILIES


def split_listing(text: str) -> list[ListedTable] | None:
    """Return the tables of a listing; ``None`` if the text has another form.

    Handles, the figures of counters, and the time that is left to elements, are left out.
    """
    text = _without_figures(text if text.endswith("\n") else f"{text}\n")
    tables: list[ListedTable] = []
    position = 0
    while True:
        outside = _OUTSIDE.match(text, position)
        position = outside.end() if outside else position
        if position == len(text):
            return tables
        begin = _TABLE_BEGIN.match(text, position)
        # The line feed at the end of the first line may be the one before the closing brace.
        end = text.find(_TABLE_END, begin.end() - 1) if begin else -1
        if begin is None or end < 0:
            return None
        table = _table(begin[1], begin[2], text[begin.end() : end + 1])
        if table is None:
            return None
        tables.append(table)
        position = end + len(_TABLE_END)


def join_listing(tables: Mapping[str, ListedTable] | list[ListedTable]) -> str:
    """Return the tables as nft lists them."""
    listed = tables.values() if isinstance(tables, Mapping) else tables
    return "".join("".join(lines) for table in listed for _, lines in table_lines(table))


def table_lines(table: ListedTable) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the lines of a table, each with its line feed, in blocks with a key."""
    yield ("begin",), [f"table {table.label} {{\n", *table.head.splitlines(keepends=True)]
    for position, ((kind, name), body) in enumerate(table.blocks.items()):
        blank = ["\n"] if position else []
        yield (kind, name), [*blank, f"\t{kind} {name} {{\n", *body.splitlines(keepends=True), "\t}\n"]
    yield ("end",), ["}\n"]


def _without_figures(text: str) -> str:
    if " # handle " in text:
        text = _HANDLE.sub("", text)
    if "packets" in text:
        text = _COUNTER.sub(_zeroed, text)
    if " expires " in text:
        text = _TIME_LEFT.sub(lambda found: found[0] if found[0][0] == '"' else "", text)
    return text


def _zeroed(found: re.Match[str]) -> str:
    words = found[1] or found[2]
    return f"{words} 0 bytes 0" if words else found[0]


def _table(family: str, name: str, body: str) -> ListedTable | None:
    first = _FIRST_BLOCK.search(body)
    if first is None:
        return ListedTable(family, name, body) if _is_indented(body) else None
    blocks: dict[BlockKey, str] = {}
    position = first.start()
    while position < len(body):
        begin = _BLOCK.match(body, position)
        if begin is None:
            return None
        # An object without content ends right after its first line.
        end = body.find(_BLOCK_END, begin.end() - 1)
        if end < 0:
            return None
        blocks[begin[1], begin[2]] = body[begin.end() : end + 1]
        position = end + len(_BLOCK_END)
    return ListedTable(family, name, body[: first.start()], blocks)


def _is_indented(body: str) -> bool:
    return all(line.startswith("\t") for line in body.splitlines())
