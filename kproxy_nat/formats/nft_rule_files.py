"""Rule files of nftables: recognised, brought to one form, and parsed object by object when asked for.

A listing is cut up and not parsed. Scripts, which commands make up, and ``nft -j`` are evaluated first, and
printed in that form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from msgspec.structs import replace as replace_fields

from kproxy_nat.errors import Code, InvalidInputError, Location, Problem
from kproxy_nat.formats.nft_json_parse import parse_nft_json
from kproxy_nat.formats.nft_listing import CHAIN, MAP, SET, BlockKey, ListedTable, split_listing
from kproxy_nat.formats.nft_objects import (
    element_lines,
    parse_listed_chain,
    parse_listed_set,
    without_progress,
)
from kproxy_nat.formats.nft_render import family_of_table, render_listing
from kproxy_nat.formats.nft_script_parse import parse_tables
from kproxy_nat.formats.nft_shown import shown_element, shown_rule
from kproxy_nat.formats.nft_words import NotWritableError, value_text
from kproxy_nat.ruleset.keys import KeyValue
from kproxy_nat.ruleset.matches import Counter
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.nft_values import listed_value
from kproxy_nat.ruleset.rules import Chain, Rule, Table
from kproxy_nat.ruleset.sets import NamedSet

_NFT = re.compile(
    r"(?:\s|#.*\n)*(?:(?:add|create|delete|destroy|flush|insert|list|replace)\s+)?"
    r"(?:table|chain|rule|set|map|element|ruleset)\s"
)
_JSON = re.compile(r'\s*\{\s*"nftables"\s*:')
_JSON_COUNTER = re.compile(r'"packets":\s*\d+,\s*"bytes":\s*\d+')
_BEGUN_LISTING = re.compile(r"^table \S+ \S+ \{(?: # handle \d+)?\n\t", re.MULTILINE)
_COMMENT = re.compile(r'\tcomment "([^"\n]*)"\n')


def is_nft(text: str) -> bool:
    """Tell nft's text and JSON from rule files of iptables."""
    return bool(_NFT.match(text) or _JSON.match(text))


@dataclass(frozen=True, slots=True)
class NftRules:
    """Tables of nftables, by label, whose objects are parsed when somebody asks for them.

    Attributes:
        listed: the tables as text.
        source: how they are named in messages.
        tells_comments: whether comments of tables and chains can be seen; nft 1.0.6 leaves them out of JSON.
    """

    listed: Mapping[str, ListedTable]
    source: str = "rules"
    tells_comments: bool = True
    _tables: Mapping[str, Table] = field(default_factory=dict)
    _chains: dict[tuple[str, str], Chain] = field(default_factory=dict)
    _sets: dict[tuple[str, str], NamedSet] = field(default_factory=dict)
    _keys: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def without(self, labels: Collection[str]) -> NftRules:
        """Return the tables but for those with these labels."""
        return replace(self, listed={k: table for k, table in self.listed.items() if k not in labels})

    def joined(self, other: NftRules) -> NftRules:
        """Return these tables and those of another file, which are other ones."""
        comments = self.tells_comments and other.tells_comments
        tables = {**self._tables, **other._tables}
        return NftRules({**self.listed, **other.listed}, self.source, comments, tables)

    def keys(self, label: str) -> Collection[BlockKey]:
        """Return the objects of a table."""
        table = self.listed.get(label)
        return table.blocks.keys() if table else ()

    def chain(self, label: str, name: str) -> Chain | None:
        """Return a chain in canonical form."""
        known = self._chains.get((label, name))
        table = self.listed.get(label)
        if known is not None or table is None or (CHAIN, name) not in table.blocks:
            return known
        held = self._tables.get(label)
        if held is not None:
            known = _canonical_chain(held.chains[name], held)
        else:
            known = parse_listed_chain(name, table.blocks[CHAIN, name], table.family)
        self._chains[label, name] = known
        return known

    def named_set(self, label: str, name: str, without: Collection[str] = ()) -> NamedSet | None:
        """Return a set or map in canonical form; without the elements in the lines ``without``."""
        known = None if without else self._sets.get((label, name))
        table = self.listed.get(label)
        kind = next((k for k in (SET, MAP) if table and (k, name) in table.blocks), None)
        if known is not None or table is None or kind is None:
            return known
        held = self._tables.get(label)
        if held is not None and not without:
            known = canonical_set(without_progress(held.sets[name]))
        else:
            known = parse_listed_set(kind, name, table.blocks[kind, name], table.family, without)
        if not without:
            self._sets[label, name] = known
        return known

    def lines(self, label: str, name: str) -> list[str]:
        """Return the elements of a set or map as text, some in one line; none of what is not there."""
        table = self.listed.get(label)
        bodies = [body for kind in (SET, MAP) if table and (body := table.blocks.get((kind, name)))]
        return element_lines(bodies[0])[1] if bodies else []

    def holds(self, label: str, name: str, key: KeyValue) -> bool:
        """Whether a set holds a key; it is looked for as text, as a set may be large."""
        known = self._keys.get((label, name))
        if known is None:
            known = {text for line in self.lines(label, name) for text in line.split(", ")}
            self._keys[label, name] = known
        return value_text(tuple(map(listed_value, key))) in known

    def comment(self, label: str) -> str:
        """Return the comment of a table."""
        table = self.listed.get(label)
        found = _COMMENT.search(table.head) if table else None
        return found[1] if found else ""


def load_nft(text: str, source: str = "nft") -> NftRules:
    """Return the tables of a listing, a script as we write it, or the JSON of nft.

    Raises:
        InvalidInputError: the text is broken, cut off, or a script with more than we write.
    """
    if _JSON.match(text):
        uncounted = _JSON_COUNTER.sub('"packets":0,"bytes":0', text)
        return from_tables(parse_nft_json(uncounted, source), source, is_json=True)
    listed = split_listing(text)
    if listed is not None:
        return NftRules({table.label: table for table in listed}, source)
    if _BEGUN_LISTING.search(text) and split_listing(f"{text.rstrip()}\n\t}}\n}}\n") is not None:
        hint = "the text may have been cut off"
        location = Location(source, text.count("\n"))
        problem = Problem(Code.RULES_UNFINISHED, "the last table does not end", location=location, hint=hint)
        raise InvalidInputError(problem)
    try:
        return from_tables(parse_tables(text, source), source)
    except InvalidInputError as error:
        hint = "rules of any kind are taken as nft list ruleset prints them"
        raise InvalidInputError(*(_hinted(problem, hint) for problem in error.problems)) from None


def _hinted(problem: Problem, hint: str) -> Problem:
    return problem if problem.hint else replace(problem, hint=hint)


def from_tables(tables: Iterable[Table], source: str, *, is_json: bool = False) -> NftRules:
    """Return tables in memory as if they had been listed."""
    held = {f"{table.family} {table.name}": table for table in tables}
    listed = {label: listed_table(table) for label, table in held.items()}
    comments = any(t.comment or any(c.comment for c in t.chains.values()) for t in held.values())
    return NftRules(listed, source, comments or not is_json, held)


def listed_table(table: Table) -> ListedTable:
    """Return a table in memory as if it had been listed; what nft's text has no form for, in one of ours."""
    try:
        (made,) = split_listing(render_listing([table])) or (None,)
    except NotWritableError:
        made = None
    return made or ListedTable(table.family, table.name, "", dict(_shown_objects(table)))


def _shown_objects(table: Table) -> Iterator[tuple[BlockKey, str]]:
    """Yield the objects of a table, some of which nft's text has no form for."""
    for named in table.sets.values():
        kind = MAP if named.value_types else SET
        texts = [shown_element(element, named.key_types) for element in named.elements.values()]
        properties = replace_fields(named, elements={})
        elements = f"\t\telements = {{ {', '.join(texts)} }}\n" if texts else ""
        yield (kind, named.name), f"\t\t{msgspec.json.encode(properties).decode()}\n{elements}"
    for chain in table.chains.values():
        hook = [f"\t\t{msgspec.json.encode(chain.hook).decode()} {chain.policy}\n"] if chain.hook else []
        family = family_of_table(table)
        rules = (shown_rule(canonical_nft_rule(rule, family), table.family) for rule in chain.rules)
        yield (CHAIN, chain.name), "".join([*hook, *(f"\t\t{text}\n" for text in rules)])


def _canonical_chain(chain: Chain, table: Table) -> Chain:
    family = family_of_table(table)
    rules = [_uncounted(canonical_nft_rule(rule, family)) for rule in chain.rules]
    return replace_fields(chain, rules=rules)


def _uncounted(rule: Rule) -> Rule:
    """Return a rule with its counter at zero, as in listings."""
    if not any(isinstance(match, Counter) for match in rule.matches):
        return rule
    matches = tuple(Counter() if isinstance(match, Counter) else match for match in rule.matches)
    return Rule(matches, rule.actions, rule.origin)
