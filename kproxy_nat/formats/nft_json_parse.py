"""Parsing ``nft -j list ruleset``.

Every listing is accepted: statements and properties that have no type here are kept as JSON. Objects that
only statements name (counters, quotas, flowtables, ...) are passed over. nft 1.0.6 leaves comments of tables
and chains out of its JSON, and the flag ``dynamic``, which sets get back that rules add to. Sets that
expressions declare have the types of these in the JSON of nft 1.0.6, and the expressions in that of 1.1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from kproxy_nat.errors import Code, InvalidInputError, Location, Problem
from kproxy_nat.formats.nft_json_statements import (
    FAMILIES,
    Json,
    parse_key,
    parse_key_value,
    parse_rule,
    parse_verdict,
)
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddRule,
    AddSet,
    AddTable,
    NftCommand,
    NftTableTransaction,
    evaluate_nft,
)
from kproxy_nat.ruleset.nft_values import key_types, transport_of
from kproxy_nat.ruleset.rules import BOTH_FAMILIES, NFT_FAMILIES, Hook, Ruleset, Table
from kproxy_nat.ruleset.sets import VERDICT, Element, NamedSet, ordered_flags
from kproxy_nat.ruleset.transactions import TransactionError

T = TypeVar("T")

TYPEOF = "typeof"
_SET_FIELDS = frozenset("family name table handle type map comment flags timeout size elem".split())
_ELEMENT_FIELDS = frozenset("val comment timeout expires".split())


class _JsonTable(msgspec.Struct):
    family: str
    name: str
    comment: str = ""


class _JsonChain(msgspec.Struct):
    family: str
    table: str
    name: str
    type: str | None = None
    hook: str | None = None
    prio: int = 0
    policy: str | None = None
    dev: str | list[str] = []
    comment: str = ""


class _JsonRule(msgspec.Struct):
    family: str
    table: str
    chain: str
    expr: list[Any]
    comment: str = ""


class _JsonSet(msgspec.Struct):
    family: str
    table: str
    name: str
    type: str | list[str] | dict[str, Any]
    map: str | list[str] | dict[str, Any] = ""
    comment: str = ""
    flags: str | list[str] = []
    timeout: int = 0
    size: int = 0
    elem: list[Any] = []


class _JsonElement(msgspec.Struct):
    val: Any
    comment: str = ""
    timeout: int = 0
    expires: int = 0


def parse_nft_json(text: str | bytes, source: str = "nft -j") -> list[Table]:
    """Return the tables of ``nft -j list ruleset``, in the order of listing.

    Raises:
        InvalidInputError: the text is no such listing, or contradicts itself.
    """
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        hint = "the text may have been cut off" if "truncated" in str(error) else ""
        raise _problem(Code.JSON_SYNTAX, f"not JSON: {error}", source, hint) from None
    entries = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        hint = "nft -j list ruleset prints an object with the one field nftables"
        raise _problem(Code.RULES_SYNTAX, "not a listing of nft", source, hint)
    parts: dict[tuple[str, str], NftTableTransaction] = {}
    for position, entry in enumerate(entries):
        try:
            _add(entry, position, parts)
        except (msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
            raise _problem(Code.RULES_SYNTAX, f"nftables[{position}]: {error}", source) from None
    return _evaluated(parts.values(), source)


def rulesets_of(tables: Iterable[Table]) -> list[Ruleset]:
    """Return one rule set for each IP family, with its own tables and those that serve both families.

    Tables of arp, bridge and netdev are outside of the IP layer, and left out.
    """
    listed = list(tables)
    return [
        Ruleset(family, {table.key: table for table in listed if table.family in (own, BOTH_FAMILIES)})
        for family, own in NFT_FAMILIES.items()
    ]


def _problem(code: Code, message: str, source: str, hint: str = "") -> InvalidInputError:
    return InvalidInputError(Problem(code, message, location=Location(source), hint=hint))


def _evaluated(parts: Iterable[NftTableTransaction], source: str) -> list[Table]:
    try:
        return evaluate_nft(parts)
    except TransactionError as error:
        message = f"nftables[{error.line}]: {error.message}"
        raise _problem(Code.RULES_UNKNOWN_CHAIN, message, source) from None


def _add(entry: Json, position: int, parts: dict[tuple[str, str], NftTableTransaction]) -> None:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError("an object with one field is expected")
    ((kind, body),) = entry.items()
    reader = _READERS.get(kind)
    if reader is None:
        return
    family, table, command = reader(body)
    part = parts.setdefault((family, table), NftTableTransaction(family, table))
    part.commands.append(command)
    part.lines.append(position)


_Read = tuple[str, str, NftCommand]


def _table(body: Json) -> _Read:
    table = msgspec.convert(body, _JsonTable)
    return table.family, table.name, AddTable(table.comment)


def _chain(body: Json) -> _Read:
    chain = msgspec.convert(body, _JsonChain)
    hook = None
    if chain.type is not None and chain.hook is not None:
        hook = Hook(chain.type, chain.hook, chain.prio, _names(chain.dev))
    policy = chain.policy.upper() if chain.policy else None
    return chain.family, chain.table, AddChain(chain.name, hook, chain.comment, policy)


def _rule(body: Json) -> _Read:
    rule = msgspec.convert(body, _JsonRule)
    return rule.family, rule.table, AddRule(rule.chain, parse_rule(rule.expr, rule.family, rule.comment))


def _set(body: Json) -> _Read:
    found = msgspec.convert(body, _JsonSet)
    (keys, transport), (values, other) = (_declared(part, found.family) for part in (found.type, found.map))
    elements = [_element(element, values) for element in found.elem]
    known = {name: value for name, value in body.items() if name not in _SET_FIELDS}
    untyped = {"type": keys, "map": values}
    known |= {name: body[name] for name, types in untyped.items() if types == (TYPEOF,)}
    named = NamedSet(
        found.name,
        keys,
        values,
        found.comment,
        ordered_flags(_names(found.flags)),
        found.timeout,
        found.size,
        {element.key: element for element in elements},
        _json(known),
        transport or other,
    )
    return found.family, found.table, AddSet(named)


def _json(fields: dict[str, Json]) -> str:
    return msgspec.json.encode(fields).decode() if fields else ""


def _names(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _declared(value: str | list[str] | dict[str, Any], family: str) -> tuple[tuple[str, ...], str]:
    """Return the types of keys or values, and the protocol of an expression that declares them.

    The only type is ``typeof`` where an expression does that is not known here.
    """
    if not isinstance(value, dict):
        return tuple(value.split(" . ")) if isinstance(value, str) and value else tuple(value), ""
    key = parse_key(value.get(TYPEOF), family)
    if not key:
        return (TYPEOF,), ""
    # A table of another family has no addresses in its keys that are known here.
    return key_types(key, FAMILIES.get(family, IpFamily.IPV4)), transport_of(key)


def _element(entry: Json, value_types: tuple[str, ...]) -> Element:
    if not value_types:
        return _element_key(entry)
    if not isinstance(entry, list) or len(entry) != 2:
        raise ValueError("an element of a map is a pair")
    element = _element_key(entry[0])
    value = parse_verdict(entry[1]) if value_types == (VERDICT,) else parse_key_value(entry[1])
    return msgspec.structs.replace(element, value=value)


def _element_key(entry: Json) -> Element:
    if not isinstance(entry, dict) or "elem" not in entry:
        return Element(parse_key_value(entry))
    found = msgspec.convert(entry["elem"], _JsonElement)
    known = {name: value for name, value in entry["elem"].items() if name not in _ELEMENT_FIELDS}
    key = parse_key_value(found.val)
    return Element(key, None, found.comment, found.timeout, found.expires, _json(known))


_READERS: dict[str, Callable[[Json], _Read]] = {
    "table": _table,
    "chain": _chain,
    "rule": _rule,
    "set": _set,
    "map": _set,
}
