"""Statements of nft's JSON as matches and actions.

What has a type becomes one; everything else is an :class:`OpaqueStatement`, with its JSON. So no rule is
refused, and none is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from kproxy_nat.net.addresses import Address, AddressError, Cidr, family_of, parse_address
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import AnyAction, DestinationEntry, Verdict, VerdictEntry
from kproxy_nat.ruleset.keys import DESTINATION_PORTS, Field, Key, KeyPart, KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import FULL_MARK, AnyMatch, OpaqueStatement
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Rule

Json = Any
"""What JSON decodes to."""

FAMILIES = {word: family for family, word in NFT_FAMILIES.items()}
CT_STATES = ("invalid", "established", "related", "new", "untracked")

_VERDICTS: dict[str, type[actions.Accept | actions.Drop | actions.Return]] = {
    "accept": actions.Accept,
    "drop": actions.Drop,
    "return": actions.Return,
}
_JUMPS: dict[str, type[actions.Jump | actions.Goto]] = {"jump": actions.Jump, "goto": actions.Goto}
_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT, *DESTINATION_PORTS.values())
_MARK: Json = {"meta": {"key": "mark"}}
_DEFAULT_REPLIES = (
    None,
    {"type": "icmp", "expr": "port-unreachable"},
    {"type": "icmpv6", "expr": "port-unreachable"},
    {"type": "icmpx", "expr": "port-unreachable"},
)


class _UntypedError(Exception):
    """A statement, or a part of one, that has no type here."""


def parse_rule(statements: Sequence[Json], family: str, comment: str = "") -> Rule:
    """Return the rule of a table of ``family`` with these statements."""
    parsed = [_statement(statement, family) for statement in statements]
    conditions = [position for position, item in enumerate(parsed) if isinstance(item, matches.Match)]
    boundary = conditions[-1] + 1 if conditions else 0
    # What acts before the last condition has no place among the actions.
    found: list[AnyMatch] = [
        item if isinstance(item, matches.Match) else _opaque(statements[position])
        for position, item in enumerate(parsed[:boundary])
    ]
    if comment:
        found.append(matches.Comment(comment))
    acts = [item for item in parsed[boundary:] if not isinstance(item, matches.Match)]
    return Rule(tuple(found), tuple(acts))


def _opaque(statement: Json) -> OpaqueStatement:
    return OpaqueStatement(msgspec.json.encode(statement).decode())


def _statement(statement: Json, family: str) -> AnyMatch | AnyAction:
    try:
        name, body = _only_item(statement)
        return _STATEMENTS[name](name, body, family)
    except (_UntypedError, AttributeError, KeyError, TypeError, ValueError):
        # Not of the shape that a reader expects: no type here, then.
        return _opaque(statement)


def _only_item(value: Json) -> tuple[str, Json]:
    if not isinstance(value, dict) or len(value) != 1:
        raise _UntypedError
    return next(iter(value.items()))


def _fields(value: Json, *names: str) -> Iterator[Json]:
    """Yield the values of exactly these fields."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise _UntypedError
    return (value[name] for name in names)


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise _UntypedError
    return value


def _number(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _UntypedError
    return value


def parse_value(value: Json) -> Value:
    """Return one value: text, number, network or range.

    Raises:
        ValueError: it is of another kind.
    """
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, dict) and value.keys() == {"prefix"}:
        prefix = value["prefix"]
        if isinstance(prefix, dict) and isinstance(prefix.get("addr"), str):
            return f"{prefix['addr']}/{prefix.get('len')}"
    if isinstance(value, dict) and value.keys() == {"range"}:
        ends = value["range"]
        if isinstance(ends, list) and len(ends) == 2:
            return f"{parse_value(ends[0])}-{parse_value(ends[1])}"
    raise ValueError(f"a value cannot be read: {msgspec.json.encode(value).decode()[:80]}")


def parse_key_value(value: Json) -> KeyValue:
    """Return a value or a concatenation of values.

    Raises:
        ValueError: it is of another kind.
    """
    if isinstance(value, dict) and value.keys() == {"concat"} and isinstance(value["concat"], list):
        return tuple(map(parse_value, value["concat"]))
    return (parse_value(value),)


def parse_verdict(value: Json) -> Verdict:
    """Return a verdict.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, dict) and len(value) == 1:
        ((name, body),) = value.items()
        if name in _VERDICTS and body is None:
            return _VERDICTS[name]()
        if name in _JUMPS and isinstance(body, dict) and isinstance(body.get("target"), str):
            return _JUMPS[name](body["target"])
    raise ValueError(f"not a verdict: {msgspec.json.encode(value).decode()[:80]}")


def parse_key(value: Json, family: str) -> Key | None:
    """Return what a set is declared to hold by an expression; ``None`` if a part of it has no type here."""
    try:
        return _key(value, family)
    except (_UntypedError, TypeError, ValueError):
        return None


def _set_name(value: Json) -> str:
    text = _text(value)
    if not text.startswith("@"):
        raise _UntypedError
    return text[1:]


def _key(value: Json, family: str) -> Key:
    if isinstance(value, dict) and value.keys() == {"concat"} and isinstance(value["concat"], list):
        return tuple(_key_part(part, family) for part in value["concat"])
    return (_key_part(value, family),)


def _key_part(value: Json, family: str) -> KeyPart:
    name, body = _only_item(value)
    if name == "payload":
        protocol, field = _fields(body, "protocol", "field")
        if protocol == family and family in FAMILIES and field in (Field.SOURCE, Field.DESTINATION):
            return Field(field)
        if f"{protocol} {field}" in _PORTS:
            return Field(f"{protocol} {field}")
    elif name == "meta" and body == {"key": "l4proto"}:
        return Field.PROTOCOL
    elif name == "numgen":
        mode, modulus, offset = _fields(body, "mode", "mod", "offset")
        return Numgen(_number(modulus), _text(mode), _number(offset))
    raise _UntypedError


def _match(_: str, body: Json, family: str) -> AnyMatch:
    operation, left, right = _fields(body, "op", "left", "right")
    if operation not in ("==", "!=", "in"):
        raise _UntypedError
    negated = operation == "!="
    name, inner = _only_item(left)
    reader = _CONDITIONS.get(name)
    if reader is not None:
        return reader(inner, right, negated)
    if name == "meta" and inner != {"key": "l4proto"}:
        return _meta(inner, right, negated)
    return _key_match(left, right, family, negated=negated)


def _key_match(left: Json, right: Json, family: str, *, negated: bool) -> AnyMatch:
    if isinstance(right, str) and right.startswith("@"):
        return matches.Lookup(_key(left, family), right[1:], negated)
    if isinstance(right, dict) and right.keys() == {"set"}:
        values = tuple(parse_key_value(item) for item in right["set"])
        return matches.OneOf(_key(left, family), values, negated)
    name, body = _only_item(left)
    if name == "payload" and body.get("protocol") in FAMILIES and "range" not in right:
        return _address_match(body, right, negated)
    if name == "meta":
        return matches.Protocol(str(parse_value(right)), negated)
    return matches.OneOf(_key(left, family), (parse_key_value(right),), negated)


def _address_match(payload: Json, right: Json, negated: bool) -> AnyMatch:
    protocol, field = _fields(payload, "protocol", "field")
    if protocol not in FAMILIES or field not in (Field.SOURCE, Field.DESTINATION):
        raise _UntypedError
    text = _text(parse_value(right))
    address, slash, length = text.partition("/")
    checked = _address(address)
    if family_of(checked) is not FAMILIES[protocol] or (slash and not length.isdecimal()):
        raise _UntypedError
    kind = matches.Source if field == Field.SOURCE else matches.Destination
    return kind(Cidr(text), negated)


def _address(text: str) -> Address:
    """Return an address that nft printed; the family of ``::ffff:192.0.2.1`` is IPv6 there."""
    try:
        parsed = parse_address(text)
    except AddressError:
        raise _UntypedError from None
    if (":" in text) is not (":" in parsed):
        raise _UntypedError
    return Address(text)


def _meta(body: Json, right: Json, negated: bool) -> AnyMatch:
    (key,) = _fields(body, "key")
    if key == "mark":
        return matches.Mark(_number(right), FULL_MARK, negated)
    name = _text(right)
    if key not in ("iifname", "oifname") or "\\" in name or name.endswith("+") or name[:-1].count("*"):
        raise _UntypedError
    kind = matches.InInterface if key == "iifname" else matches.OutInterface
    return kind(f"{name[:-1]}+" if name.endswith("*") else name, negated)


def _masked(body: Json, right: Json, negated: bool) -> AnyMatch:
    left, mask = body
    if left != _MARK:
        raise _UntypedError
    return matches.Mark(_number(right), _number(mask), negated)


def _words(value: Json) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list) else (_text(value),)


def _connection(body: Json, right: Json, negated: bool) -> AnyMatch:
    (key,) = _fields(body, "key")
    words = _words(right)
    if key == "status":
        return matches.CtStatus(words, negated)
    if key != "state" or not set(words) <= set(CT_STATES):
        raise _UntypedError
    return matches.CtState(tuple(word.upper() for word in words), negated)


def _address_type(body: Json, right: Json, negated: bool) -> AnyMatch:
    result, flags = _fields(body, "result", "flags")
    if result != "type" or flags not in (["saddr"], ["daddr"], "saddr", "daddr"):
        raise _UntypedError
    types = right["set"] if isinstance(right, dict) else right
    side = "src" if "saddr" in flags else "dst"
    return matches.AddrType(side, tuple(word.upper() for word in _words(types)), negated)


_CONDITIONS: dict[str, Callable[[Json, Json, bool], AnyMatch]] = {
    "&": _masked,
    "ct": _connection,
    "fib": _address_type,
}


def _counter(_: str, body: Json, __: str) -> AnyMatch:
    if body is None:
        return matches.Counter()
    packets, size = _fields(body, "packets", "bytes")
    return matches.Counter(_number(packets), _number(size))


def _verdict(name: str, body: Json, _: str) -> AnyAction:
    return parse_verdict({name: body})


def _reject(_: str, body: Json, __: str) -> AnyAction:
    if body not in _DEFAULT_REPLIES:
        raise _UntypedError
    return actions.Reject()


def _masquerade(_: str, body: Json, __: str) -> AnyAction:
    if body is None:
        return actions.Masquerade()
    (flags,) = _fields(body, "flags")
    if flags not in ("fully-random", ["fully-random"]):
        raise _UntypedError
    return actions.Masquerade(random_fully=True)


def _mangle(_: str, body: Json, __: str) -> AnyAction:
    key, value = _fields(body, "key", "value")
    if key != _MARK:
        raise _UntypedError
    if not isinstance(value, dict):
        return actions.SetMark(_number(value), FULL_MARK)
    operation, (left, right) = _only_item(value)
    number = _number(right)
    if left != _MARK:
        raise _UntypedError
    masks = {"|": (number, number), "^": (number, 0), "&": (0, FULL_MARK & ~number)}
    return actions.SetMark(*masks[operation])


def _update(_: str, body: Json, family: str) -> AnyAction:
    operation, element, name = _fields(body, "op", "elem", "set")
    if operation != "update":
        raise _UntypedError
    return actions.UpdateSet(_set_name(name), _key(element, family))


def _verdict_map(_: str, body: Json, family: str) -> AnyAction:
    key, data = _fields(body, "key", "data")
    if isinstance(data, str):
        return actions.VerdictMap(_key(key, family), _set_name(data))
    (items,) = _fields(data, "set")
    entries = tuple(VerdictEntry(parse_key_value(k), parse_verdict(verdict)) for k, verdict in items)
    return actions.VerdictMap(_key(key, family), entries)


def _dnat(_: str, body: Json, family: str) -> AnyAction:
    if "port" in body:
        address, port = _fields(body, "addr", "port")
        if isinstance(address, dict):
            key, data = _fields(*_fields(address, "map"), "key", "data")
            return actions.DnatMap(_key(key, family), _set_name(data), _number(port))
        checked = _address(_text(address))
        if FAMILIES.get(family) is not family_of(checked):
            raise _UntypedError
        return actions.Dnat(checked, _number(port))
    own_family, address = _fields(body, "family", "addr")
    (mapping,) = _fields(address, "map")
    key, data = _fields(mapping, "key", "data")
    if own_family != family:
        raise _UntypedError
    if isinstance(data, str):
        return actions.DnatMap(_key(key, family), _set_name(data))
    (items,) = _fields(data, "set")
    return actions.DnatMap(_key(key, family), tuple(_destination(*item) for item in items))


def _destination(key: Json, value: Json) -> DestinationEntry:
    (parts,) = _fields(value, "concat")
    address, port = parts
    return DestinationEntry(parse_key_value(key), _address(_text(address)), _number(port))


_STATEMENTS: dict[str, Callable[[str, Json, str], AnyMatch | AnyAction]] = {
    "match": _match,
    "counter": _counter,
    "accept": _verdict,
    "drop": _verdict,
    "return": _verdict,
    "jump": _verdict,
    "goto": _verdict,
    "reject": _reject,
    "masquerade": _masquerade,
    "mangle": _mangle,
    "set": _update,
    "vmap": _verdict_map,
    "dnat": _dnat,
}
