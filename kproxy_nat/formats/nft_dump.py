"""Tables of nftables cut into blocks of lines: chains, sets and maps, without parsing their rules.

The form is the one of ``formats.iptables_dump``: a :class:`DumpedTable` has a block for each object, under a
key such as ``chain services`` or ``map service-ips``. The first line of a set or map, and of a base chain,
declares it (``type ...``, ``typeof ...``); each line after it is an element or a rule, in the words of nft.
Written with :func:`join_listing`, the blocks are a script for ``nft -f``.

Comments of tables and objects are kept apart, by the same keys (the table's under the empty one): they mean
nothing to the kernel, and ``nft -j`` 1.0.6 leaves most of them out. Elements of dynamic sets are left out:
they are state, which rules make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from kproxy_nat.formats.iptables_dump import Dump, DumpedTable
from kproxy_nat.formats.nft_render import (
    duration_text,
    element_text,
    hook_text,
    listed_rule,
    types_text,
)
from kproxy_nat.formats.nft_words import NotWritableError, identifier, quoted
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_canonical import canonical_set
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Chain, Table
from kproxy_nat.ruleset.sets import DYNAMIC, NamedSet

_CHAIN = "chain"
DECLARATIONS = ("type ", "typeof ")
"""How lines begin that declare a set, a map or a base chain."""

_BLOCK = re.compile(r"^\t((?:chain|set|map) \S+) \{\n((?:\t\t.*\n|\n)*)\t\}$", re.MULTILINE)
_TABLE = re.compile(r"^table \S+ (\S+) \{\n((?:\t.*\n|\n)*)\}$", re.MULTILINE)
_TABLE_COMMENT = re.compile(r'^\tcomment "(.*)"$', re.MULTILINE)
_COMMENT = re.compile(r'^\t\tcomment "(.*)"\n', re.MULTILINE)
_ELEMENTS = "\t\telements = {\n"


def chain_block(chain: Chain, table: Table) -> str:
    """Return the lines of a chain.

    Raises:
        NotWritableError: a rule has no form in nft's text.
    """
    lines = [listed_rule(rule, table) for rule in chain.rules]
    if chain.hook:
        policy = (chain.policy or "ACCEPT").lower()
        lines.insert(0, f"{hook_text(chain.hook, str(chain.hook.priority))}; policy {policy};")
    return "".join(f"{line}\n" for line in lines)


def set_block(named: NamedSet) -> str:
    """Return the lines of a set or map.

    Raises:
        NotWritableError: it has properties without a form in nft's text.
    """
    listed = canonical_set(named)
    if listed.other:
        raise NotWritableError(f"it has properties without a form in text: {listed.other}")
    properties = [f"{types_text(listed)};"]
    properties += [f"size {listed.size};"] if listed.size else []
    properties += [f"flags {','.join(listed.flags)};"] if listed.flags else []
    properties += [f"timeout {duration_text(listed.timeout)};"] if listed.timeout else []
    lines = [" ".join(properties)]
    if DYNAMIC not in listed.flags:
        lines += (element_text(element, listed.key_types) for element in listed.elements.values())
    return "".join(f"{line}\n" for line in lines)


def declaration(block: str) -> str:
    """Return the line that declares a set, a map or a base chain; nothing for other chains."""
    first = block.partition("\n")[0]
    return first if first.startswith(DECLARATIONS) else ""


def dump_tables(
    tables: Iterable[Table], family: IpFamily, block_of: Callable[[Chain, Table], str] = chain_block
) -> Dump:
    """Return tables, all of one family, cut into blocks; ``block_of`` makes those of chains.

    Raises:
        NotWritableError: something has no form in nft's text.
    """
    return Dump(family, {table.name: _dumped(table, block_of) for table in tables})


def _dumped(table: Table, block_of: Callable[[Chain, Table], str]) -> DumpedTable:
    objects = {f"{set_kind(named)} {identifier(named.name)}": named for named in table.sets.values()}
    chains = {f"{_CHAIN} {identifier(chain.name)}": chain for chain in table.chains.values()}
    blocks = {key: set_block(named) for key, named in objects.items()}
    blocks |= {key: block_of(chain, table) for key, chain in chains.items()}
    comments = {"": table.comment} | {key: named.comment for key, named in objects.items()}
    comments |= {key: chain.comment for key, chain in chains.items()}
    return DumpedTable(table.name, {}, blocks, {key: text for key, text in comments.items() if text})


def is_chain(key: str) -> bool:
    """Tell the key of a chain from those of sets and maps."""
    return key.startswith(f"{_CHAIN} ")


def set_kind(named: NamedSet) -> str:
    """Return nft's word for a set or map."""
    return "map" if named.value_types else "set"


def join_listing(dump: Dump) -> str:
    """Return the tables as text that ``nft -f`` loads, and :func:`split_listing` reads."""
    return "".join(
        f"table {NFT_FAMILIES[dump.family]} {name} {{\n{''.join(_table_lines(table))}}}\n"
        for name, table in sorted(dump.tables.items())
    )


def _table_lines(table: DumpedTable) -> Iterator[str]:
    yield from _comment_lines(table.comments, "", "\t")
    for key in table.chains:
        yield f"\t{key} {{\n"
        yield from _comment_lines(table.comments, key, "\t\t")
        lines = table.chains[key].splitlines()
        if is_chain(key):
            yield from (f"\t\t{line}\n" for line in lines)
        else:
            yield f"\t\t{lines[0]}\n"
            yield from _element_lines(lines[1:])
        yield "\t}\n"


def _comment_lines(comments: Mapping[str, str], key: str, indent: str) -> Iterator[str]:
    if key in comments:
        yield f"{indent}comment {quoted(comments[key])}\n"


def _element_lines(elements: list[str]) -> Iterator[str]:
    if elements:
        yield _ELEMENTS
        yield from (f"\t\t\t{element},\n" for element in elements)
        yield "\t\t}\n"


def split_listing(text: str, family: IpFamily) -> Dump:
    """Cut what :func:`join_listing` wrote; its inverse. Anything else in the text is passed over."""
    tables = {}
    for name, body in _TABLE.findall(text):
        blocks = {key: _unlisted(block) for key, block in _BLOCK.findall(body)}
        tables[name] = DumpedTable(name, {}, blocks, find_comments(body))
    return Dump(family, tables)


def find_comments(body: str) -> dict[str, str]:
    """Return the comments in the text of one table, as here or as ``nft list table`` prints it."""
    found = _TABLE_COMMENT.search(body)
    comments = {"": found[1]} if found else {}
    for key, block in _BLOCK.findall(body):
        comment = _COMMENT.search(block)
        if comment:
            comments[key] = comment[1]
    return comments


def _unlisted(block: str) -> str:
    """Return the lines of a block without comment, indentation and braces."""
    head, marker, elements = _COMMENT.sub("", block, count=1).partition(_ELEMENTS)
    lines = [line[2:] for line in head.splitlines()]
    if marker:
        lines += (line[3:-1] for line in elements.splitlines()[:-1])
    return "".join(f"{line}\n" for line in lines)
