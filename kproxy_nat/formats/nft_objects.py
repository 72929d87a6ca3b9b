"""Single objects of a listing, parsed: what we do not write is kept as the text that it is."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import msgspec

from kproxy_nat.errors import InvalidInputError
from kproxy_nat.formats.nft_rule_parse import parse_rule
from kproxy_nat.formats.nft_script_parse import FAMILIES, parse_script
from kproxy_nat.formats.nft_tokens import Cursor, NftSyntaxError, tokens_of
from kproxy_nat.ruleset.actions import OpaqueAction
from kproxy_nat.ruleset.keys import KeyValue
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.nft_transactions import AddChain, AddSet, NftCommand
from kproxy_nat.ruleset.rules import BOTH_FAMILIES, NFT_FAMILIES, Chain, Rule
from kproxy_nat.ruleset.sets import DYNAMIC, Element, NamedSet

_RULE_BEGIN = re.compile(r"^\t\t(?!\t)", re.MULTILINE)
_PROPERTY = re.compile(r"type \S+ hook |policy \w|comment \"|flags offload")
_ELEMENTS = "\t\telements = { "
_ELEMENT_SEPARATOR = re.compile(r',\s*(?=(?:[^"]*"[^"]*")*[^"]*$)')
_BREAK = re.compile(r",\n\s*")
_REMARK = re.compile(r'^(?:[^"#]|"[^"]*")*#')
_READING_FAMILIES = {nft: family for family, nft in NFT_FAMILIES.items()}


def parse_listed_chain(name: str, body: str, family: str) -> Chain:
    """Return a chain in canonical form; rules of other kinds than ours are opaque."""
    properties = ""
    rules: list[Rule] = []
    for part in _RULE_BEGIN.split(body)[1:]:
        statement = part.lstrip(" ")
        if not rules and _PROPERTY.match(statement):
            properties += f"\t\t{statement}"
        else:
            rules.append(parse_listed_rule(" ".join(statement.split("\n")).rstrip(), family))
    made = _command("chain", name, properties, family)
    if isinstance(made, AddChain):
        policy = (made.policy or "ACCEPT") if made.hook else None
        return Chain(name, rules, policy, hook=made.hook, comment=made.comment)
    return Chain(name, [_opaque(properties.strip()), *rules], None)


def parse_listed_rule(text: str, family: str) -> Rule:
    """Return a rule in canonical form; one that we would not write is opaque as a whole."""
    if "#" in text and _REMARK.match(text):
        # What iptables put into the kernel and nft cannot print.
        return _opaque(text)
    try:
        cursor = Cursor(tokens_of(text))
        rule = parse_rule(cursor, family)
    except NftSyntaxError:
        return _opaque(text)
    if cursor.token is not None:
        return _opaque(text)
    return canonical_nft_rule(rule, _READING_FAMILIES.get(family, _READING_FAMILIES["ip"]))


def _opaque(text: str) -> Rule:
    return Rule((), (OpaqueAction(text),))


def parse_listed_set(kind: str, name: str, body: str, family: str, without: Collection[str] = ()) -> NamedSet:
    """Return a set or map in canonical form, but for elements in lines of the text that are in ``without``.

    Elements that rules add while packets pass are no part of it, nor are the times that are left to them.
    """
    properties, lines = element_lines(body)
    wanted = [line for line in lines if line not in without] if without else lines
    elements = f"{_ELEMENTS}{', '.join(wanted)} }}\n" if wanted and DYNAMIC not in _flags(properties) else ""
    made = _command(kind, name, properties + elements, family)
    if isinstance(made, AddSet):
        return canonical_set(made.set)
    texts = [text for line in wanted if elements for text in _ELEMENT_SEPARATOR.split(line)]
    found: dict[KeyValue, Element] = {(text,): Element((text,), other=text) for text in texts}
    value_types = ("",) if kind == "map" else ()
    return NamedSet(name, (), value_types, other=properties.strip(), elements=found)


def element_lines(body: str) -> tuple[str, list[str]]:
    """Return the properties of a set, and its elements as nft breaks them into lines."""
    properties, found, rest = body.partition(_ELEMENTS)
    if not found:
        return body, []
    return properties, _BREAK.split(rest.removesuffix(" }\n"))


def _flags(properties: str) -> Sequence[str]:
    found = re.search(r"^\t\tflags (.*)$", properties, re.MULTILINE)
    return found[1].split(",") if found else ()


def _command(kind: str, name: str, body: str, family: str) -> NftCommand | None:
    """Return the command that makes an object of our own kinds; ``None`` for any other."""
    known = family if family in FAMILIES else BOTH_FAMILIES
    try:
        (part,) = parse_script(f"table {known} t {{\n\t{kind} {name} {{\n{body}\t}}\n}}\n")
    except InvalidInputError:
        return None
    return part.commands[-1]


def without_progress(named: NamedSet) -> NamedSet:
    """Return a set without what packets made of it."""
    if DYNAMIC not in named.flags:
        return named
    return msgspec.structs.replace(named, elements={})
