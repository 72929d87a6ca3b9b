"""Rule sets as JSON: a documented, versioned form for other programs.

The form is described in ``docs/ruleset-json.md``; its JSON Schema is ``docs/ruleset.schema.json``. Fields
may be added within a version; nothing is renamed or removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kproxy_nat.formats.iptables_render import listed_chains, render_rule, sorted_tables
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import AnyAction
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.matches import AnyMatch
from kproxy_nat.ruleset.rules import Chain, Rule, RuleOrigin, Ruleset, Table

FORMAT = "kproxy-nat/ruleset"
VERSION = 1


class JsonRule(msgspec.Struct, omit_defaults=True):
    """A rule in canonical order. ``text`` is the same as iptables-save prints it, without ``-A CHAIN``."""

    matches: tuple[AnyMatch, ...]
    actions: tuple[AnyAction, ...]
    text: str
    origin: RuleOrigin | None = None


class JsonChain(msgspec.Struct, omit_defaults=True):
    """A chain; built-in chains have a policy."""

    name: str
    rules: list[JsonRule]
    policy: str | None = None


class JsonTable(msgspec.Struct):
    """A table."""

    name: str
    chains: list[JsonChain]


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
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


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
    return msgspec.json.schema(JsonDocument)


def _ruleset(ruleset: Ruleset) -> JsonRuleset:
    tables = [
        JsonTable(t.name, [_chain(c, ruleset.family) for c in listed_chains(t)])
        for t in sorted_tables(ruleset)
    ]
    return JsonRuleset(ruleset.family, tables)


def _chain(chain: Chain, family: IpFamily) -> JsonChain:
    return JsonChain(chain.name, [_rule(rule, family) for rule in chain.rules], chain.policy)


def _rule(rule: Rule, family: IpFamily) -> JsonRule:
    canonical = canonical_rule(rule)
    return JsonRule(canonical.matches, canonical.actions, render_rule(rule, family), rule.origin)


def _parsed(ruleset: JsonRuleset) -> Ruleset:
    tables = {}
    for table in ruleset.tables:
        chains = {
            chain.name: Chain(
                chain.name, [Rule(r.matches, r.actions, r.origin) for r in chain.rules], chain.policy
            )
            for chain in table.chains
        }
        tables[table.name] = Table(table.name, chains)
    return Ruleset(ruleset.family, tables)
