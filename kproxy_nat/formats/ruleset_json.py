"""Rule sets as JSON: a documented, versioned form for other programs.

The form is described in ``docs/ruleset-json.md``; its JSON Schema is ``docs/ruleset.schema.json``. Fields
may be added within a version; nothing is renamed or removed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kproxy_nat.formats.iptables_render import listed_chains, render_rule, sorted_tables
from kproxy_nat.formats.nft_render import family_of_table, listed_rule
from kproxy_nat.formats.nft_words import NotWritableError
from kproxy_nat.json_text import json_text
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import AnyAction
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.matches import AnyMatch
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.rules import Chain, Hook, Rule, RuleOrigin, Ruleset, Table
from kproxy_nat.ruleset.sets import Element, NamedSet

FORMAT = "kproxy-nat/ruleset"
VERSION = 1


class JsonRule(msgspec.Struct, omit_defaults=True):
    """A rule in canonical order. ``text`` is the same as iptables-save prints it, without ``-A CHAIN``.

    For nftables it is as nft lists it; empty if the rule holds statements that are known as JSON only.
    """

    matches: tuple[AnyMatch, ...]
    actions: tuple[AnyAction, ...]
    text: str
    origin: RuleOrigin | None = None


class JsonChain(msgspec.Struct, omit_defaults=True):
    """A chain; built-in and base chains have a policy, those of nftables a hook."""

    name: str
    rules: list[JsonRule]
    policy: str | None = None
    hook: Hook | None = None
    comment: str = ""


class JsonSet(msgspec.Struct, omit_defaults=True):
    """A set of nftables, or a map, which has ``value_types``. Times are in seconds."""

    name: str
    key_types: tuple[str, ...]
    elements: list[Element]
    value_types: tuple[str, ...] = ()
    comment: str = ""
    flags: tuple[str, ...] = ()
    timeout: int = 0
    size: int = 0
    other: str = ""
    transport: str = ""


class JsonTable(msgspec.Struct, omit_defaults=True):
    """A table; those of nftables have a ``family``: ip, ip6, inet."""

    name: str
    chains: list[JsonChain]
    family: str = ""
    comment: str = ""
    sets: list[JsonSet] = []


class JsonRuleset(msgspec.Struct):
    """The tables of one family."""

    family: IpFamily
    tables: list[JsonTable]


class JsonAssumption(msgspec.Struct):
    """Something that the input leaves open and its maker assumed; rules depend on it."""

    subject: str
    text: str
    source: str
    line: int


class JsonDocument(msgspec.Struct, omit_defaults=True):
    """The whole: one rule set for each family, and what was assumed to make them."""

    format: str
    version: int
    rulesets: list[JsonRuleset]
    assumptions: list[JsonAssumption] = []


def render_json(rulesets: Iterable[Ruleset], assumptions: Sequence[JsonAssumption] = ()) -> str:
    """Return the rule sets as indented JSON, with a line feed at the end."""
    document = JsonDocument(FORMAT, VERSION, [_ruleset(r) for r in rulesets], list(assumptions))
    return json_text(document)


def parse_json(text: str | bytes) -> list[Ruleset]:
    """Return the rule sets of a JSON document of this form.

    Raises:
        msgspec.ValidationError: the document is of another form or version.
    """
    document = msgspec.json.decode(text, type=JsonDocument)
    if (document.format, document.version) != (FORMAT, VERSION):
        raise msgspec.ValidationError(f"not {FORMAT} of version {VERSION}")
    return [_parsed(ruleset) for ruleset in document.rulesets]


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of the form."""
    encoded = msgspec.json.encode(msgspec.json.schema(JsonDocument))
    schema: dict[str, object] = _with_clean_descriptions(msgspec.json.decode(encoded))
    return schema


def _with_clean_descriptions(part: Any) -> Any:
    """Take the indentation from descriptions, which are docstrings, as only some versions of msgspec do."""
    if isinstance(part, list):
        return [_with_clean_descriptions(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {name: _with_clean_descriptions(value) for name, value in part.items()}
    if isinstance(found.get("description"), str):
        found["description"] = inspect.cleandoc(found["description"])
    return found


def _ruleset(ruleset: Ruleset) -> JsonRuleset:
    is_nft = any(table.family for table in ruleset.tables.values())
    tables = list(ruleset.tables.values()) if is_nft else sorted_tables(ruleset)
    return JsonRuleset(ruleset.family, [_table(table, ruleset.family) for table in tables])


def _table(table: Table, family: IpFamily) -> JsonTable:
    if not table.family:
        return JsonTable(table.name, [_chain(c, table, family) for c in listed_chains(table)])
    chains = [_chain(chain, table, family) for chain in table.chains.values()]
    sets = [_set(named) for named in table.sets.values()]
    return JsonTable(table.name, chains, table.family, table.comment, sets)


def _chain(chain: Chain, table: Table, family: IpFamily) -> JsonChain:
    make = _nft_rule if table.family else _rule
    rules = [make(rule, table, family) for rule in chain.rules]
    return JsonChain(chain.name, rules, chain.policy, chain.hook, chain.comment)


def _rule(rule: Rule, _: Table, family: IpFamily) -> JsonRule:
    canonical = canonical_rule(rule)
    return JsonRule(canonical.matches, canonical.actions, render_rule(rule, family), rule.origin)


def _nft_rule(rule: Rule, table: Table, _: IpFamily) -> JsonRule:
    canonical = canonical_nft_rule(rule, family_of_table(table))
    try:
        text = listed_rule(rule, table)
    except NotWritableError:
        text = ""
    return JsonRule(canonical.matches, canonical.actions, text, rule.origin)


def _set(named: NamedSet) -> JsonSet:
    listed = canonical_set(named)
    fields = {name: getattr(listed, name) for name in _SET_FIELDS}
    return JsonSet(elements=list(listed.elements.values()), **fields)


_SET_FIELDS = tuple(name for name in JsonSet.__struct_fields__ if name != "elements")


def _parsed(ruleset: JsonRuleset) -> Ruleset:
    tables = map(_parsed_table, ruleset.tables)
    return Ruleset(ruleset.family, {table.key: table for table in tables})


def _parsed_table(table: JsonTable) -> Table:
    chains = {
        chain.name: Chain(
            chain.name,
            [Rule(r.matches, r.actions, r.origin) for r in chain.rules],
            chain.policy,
            hook=chain.hook,
            comment=chain.comment,
        )
        for chain in table.chains
    }
    sets = {named.name: _parsed_set(named) for named in table.sets}
    return Table(table.name, chains, table.family, table.comment, sets)


def _parsed_set(named: JsonSet) -> NamedSet:
    fields = {name: getattr(named, name) for name in _SET_FIELDS}
    return NamedSet(elements={element.key: element for element in named.elements}, **fields)
