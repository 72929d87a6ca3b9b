"""Parsing a rule, an element or a verdict as we write it, in either style of ``nft_words``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from kproxy_nat.formats.nft_tokens import NEW_LINE, Cursor, NftSyntaxError
from kproxy_nat.net.addresses import Address, AddressError, Cidr, parse_address
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import AnyAction, DestinationEntry, Verdict, VerdictEntry
from kproxy_nat.ruleset.keys import Field, Key, KeyPart, KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import FULL_MARK, AnyMatch
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.sets import VERDICT, Element

T = TypeVar("T")

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_DURATION = re.compile(r"(?:\d{1,9}[dhms])+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+)([dhms])", re.ASCII)
_ADDRESS = re.compile(r"[0-9a-fA-F:.]+(?:/\d{1,3}|-[0-9a-fA-F:.]+)?", re.ASCII)
_DESTINATION = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-fA-F:.]+)\]):(?P<port>\d{1,5})", re.ASCII)
_PORTS = {"th": ("sport", "dport"), "tcp": ("dport",), "udp": ("dport",), "sctp": ("dport",)}
_KEY_WORDS = ("ip", "ip6", "meta", "numgen", *_PORTS)
_PLAIN_VERDICTS: dict[str, type[actions.Accept | actions.Drop | actions.Return]] = {
    "accept": actions.Accept,
    "drop": actions.Drop,
    "return": actions.Return,
}
_OPERATORS = {"and": "&", "or": "|", "xor": "^"}


def parse_rule(cursor: Cursor, family: str) -> Rule:
    """Return the rule from here to the end of the statement.

    Raises:
        NftSyntaxError: it is not as we write rules.
    """
    return _RuleParser(cursor, family).parse()


def parse_key(cursor: Cursor, family: str) -> Key:
    """Return the key here: fields and generated numbers, joined by dots.

    Raises:
        NftSyntaxError: it is not as we write keys.
    """
    return _RuleParser(cursor, family).key()


def parse_element(cursor: Cursor, types: tuple[str, ...]) -> Element:
    """Return the element here; ``types`` are those of its value, if it is a map's.

    Raises:
        NftSyntaxError: it is not as we write elements.
    """
    key = _key_value(cursor)
    timeout = parse_duration(cursor) if cursor.accept("timeout") else 0
    expires = parse_duration(cursor) if cursor.accept("expires") else 0
    comment = cursor.take_quoted() if cursor.accept("comment") else ""
    value: Verdict | KeyValue | None = None
    if cursor.accept(":"):
        is_verdict = cursor.peek() in (*_PLAIN_VERDICTS, "jump", "goto") and types in ((), (VERDICT,))
        value = _verdict(cursor) if is_verdict else _key_value(cursor)
    return Element(key, value, comment, timeout, expires)


def parse_duration(cursor: Cursor) -> int:
    """Return a time in seconds: ``1h30m``, ``600s``.

    Raises:
        NftSyntaxError: it is none.
    """
    text = cursor.peek()
    if not _DURATION.fullmatch(text):
        cursor.fail(f"{text!r} is not a time such as 1h30m")
    cursor.take()
    return sum(int(number) * UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def _value(cursor: Cursor) -> Value:
    token = cursor.token
    text = cursor.take_any()
    if token is not None and token.is_quoted:
        return text
    if text.isascii() and text.isdecimal() and len(text) <= 10:
        return int(text)
    return int(text, 16) if re.fullmatch(r"0x[0-9a-f]{8}", text) else text


def _key_value(cursor: Cursor) -> KeyValue:
    parts = [_value(cursor)]
    while cursor.accept("."):
        parts.append(_value(cursor))
    return tuple(parts)


def _verdict(cursor: Cursor) -> Verdict:
    word = cursor.take(*_PLAIN_VERDICTS, "jump", "goto")
    if word in _PLAIN_VERDICTS:
        return _PLAIN_VERDICTS[word]()
    return (actions.Jump if word == "jump" else actions.Goto)(cursor.take())


class _RuleParser:
    def __init__(self, cursor: Cursor, family: str) -> None:
        self.cursor = cursor
        self.family = family
        self.matches: list[AnyMatch] = []
        self.actions: list[AnyAction] = []

    def parse(self) -> Rule:
        while not self.cursor.is_at_end():
            start = self.cursor.token
            item = self._statement()
            if not isinstance(item, matches.Match):
                self.actions.append(item)
            elif self.actions and not isinstance(item, matches.Comment):
                raise NftSyntaxError("a condition stands after an action", start)
            else:
                self.matches.append(item)
        return Rule(tuple(self.matches), tuple(self.actions))

    def _statement(self) -> AnyMatch | AnyAction:
        word = self.cursor.peek()
        if word == "mark" or (word == "meta" and self.cursor.peek(1) == "mark"):
            return self._mark()
        if word in _KEY_WORDS:
            return self._keyed()
        reader = _STATEMENTS.get(word)
        if reader is None:
            self.cursor.fail(f"no statement that we write begins with {word!r}")
        return reader(self)

    def _negation(self) -> bool:
        return self.cursor.accept("!=")

    def key(self) -> Key:
        """Read a key."""
        parts = [self._key_part()]
        while self.cursor.accept("."):
            parts.append(self._key_part())
        return tuple(parts)

    def _key_part(self) -> KeyPart:
        cursor = self.cursor
        word = cursor.take(*_KEY_WORDS)
        if word in ("ip", "ip6"):
            return Field(cursor.take(Field.SOURCE, Field.DESTINATION))
        if word == "meta":
            cursor.take("l4proto")
            return Field.PROTOCOL
        if word in _PORTS:
            return Field(f"{word} {cursor.take(*_PORTS[word])}")
        mode = cursor.take("random", "inc")
        cursor.take("mod")
        modulus = cursor.take_number()
        return Numgen(modulus, mode, cursor.take_number() if cursor.accept("offset") else 0)

    def _keyed(self) -> AnyMatch | AnyAction:
        key = self.key()
        if self.cursor.accept("vmap"):
            return actions.VerdictMap(key, self._map(self._verdict_entry))
        negated = self._negation()
        if self.cursor.peek().startswith("@"):
            return matches.Lookup(key, self.cursor.take()[1:], negated)
        if self.cursor.peek() == "{":
            return matches.OneOf(key, self._list(lambda: _key_value(self.cursor)), negated)
        return self._literal(key, negated)

    def _literal(self, key: Key, negated: bool) -> AnyMatch:
        text = self.cursor.peek()
        if key == (Field.PROTOCOL,):
            return matches.Protocol(self.cursor.take(), negated)
        is_address = key in ((Field.SOURCE,), (Field.DESTINATION,))
        if is_address and not _ADDRESS.fullmatch(text):
            self.cursor.fail(f"{text!r} is not an address")
        if not is_address or "-" in text:
            return matches.OneOf(key, (_key_value(self.cursor),), negated)
        self.cursor.take()
        kind = matches.Source if key == (Field.SOURCE,) else matches.Destination
        return kind(Cidr(text), negated)

    def _list(self, item: Callable[[], T]) -> tuple[T, ...]:
        cursor = self.cursor
        cursor.take("{")
        items = [item()]
        while cursor.accept(","):
            cursor.skip(NEW_LINE)
            items.append(item())
        cursor.take("}")
        return tuple(items)

    def _map(self, entry: Callable[[], T]) -> str | tuple[T, ...]:
        if self.cursor.peek().startswith("@"):
            return self.cursor.take()[1:]
        return self._list(entry)

    def _verdict_entry(self) -> VerdictEntry:
        key = _key_value(self.cursor)
        self.cursor.take(":")
        return VerdictEntry(key, _verdict(self.cursor))

    def _destination_entry(self) -> DestinationEntry:
        key = _key_value(self.cursor)
        self.cursor.take(":")
        address = self._address(self.cursor.peek())
        self.cursor.take()
        self.cursor.take(".")
        return DestinationEntry(key, address, self.cursor.take_number())

    def _address(self, text: str) -> Address:
        try:
            parse_address(text)
        except AddressError as error:
            self.cursor.fail(str(error))
        return Address(text)

    def _mark(self) -> AnyMatch | AnyAction:
        cursor = self.cursor
        cursor.accept("meta")
        cursor.take("mark")
        if cursor.accept("set"):
            return self._set_mark()
        mask = FULL_MARK
        if cursor.accept("and") or cursor.accept("&"):
            mask = cursor.take_number()
        negated = self._negation()
        if not negated:
            cursor.accept("==")
        return matches.Mark(cursor.take_number(), mask, negated)

    def _set_mark(self) -> AnyAction:
        cursor = self.cursor
        cursor.accept("meta")
        if not cursor.accept("mark"):
            return actions.SetMark(cursor.take_number(), FULL_MARK)
        word = cursor.take(*_OPERATORS, *_OPERATORS.values())
        number = cursor.take_number()
        operation = _OPERATORS.get(word, word)
        if operation == "&":
            return actions.SetMark(0, FULL_MARK & ~number)
        return actions.SetMark(number, number if operation == "|" else 0)

    def interface(self) -> AnyMatch:
        """Read ``iifname`` or ``oifname``."""
        word = self.cursor.take()
        negated = self._negation()
        name = self.cursor.take_any()
        kind = matches.InInterface if word == "iifname" else matches.OutInterface
        return kind(f"{name[:-1]}+" if name.endswith("*") else name, negated)

    def connection(self) -> AnyMatch:
        """Read ``ct state`` or ``ct status``."""
        self.cursor.take("ct")
        key = self.cursor.take("state", "status")
        negated = self._negation()
        words = [self.cursor.take()]
        while self.cursor.accept(","):
            words.append(self.cursor.take())
        if key == "status":
            return matches.CtStatus(tuple(words), negated)
        return matches.CtState(tuple(word.upper() for word in words), negated)

    def address_type(self) -> AnyMatch:
        """Read ``fib saddr type``."""
        self.cursor.take("fib")
        side = "src" if self.cursor.take("saddr", "daddr") == "saddr" else "dst"
        self.cursor.take("type")
        negated = self._negation()
        types = self._list(self.cursor.take) if self.cursor.peek() == "{" else (self.cursor.take(),)
        return matches.AddrType(side, tuple(name.upper() for name in types), negated)

    def counter(self) -> AnyMatch:
        """Read ``counter``."""
        self.cursor.take("counter")
        if not self.cursor.accept("packets"):
            return matches.Counter()
        packets = self.cursor.take_number()
        self.cursor.take("bytes")
        return matches.Counter(packets, self.cursor.take_number())

    def comment(self) -> AnyMatch:
        """Read ``comment``."""
        self.cursor.take("comment")
        return matches.Comment(self.cursor.take_quoted())

    def verdict(self) -> AnyAction:
        """Read a verdict."""
        return _verdict(self.cursor)

    def reject(self) -> AnyAction:
        """Read ``reject``."""
        self.cursor.take("reject")
        return actions.Reject()

    def masquerade(self) -> AnyAction:
        """Read ``masquerade``."""
        self.cursor.take("masquerade")
        return actions.Masquerade(random_fully=self.cursor.accept("fully-random"))

    def update(self) -> AnyAction:
        """Read ``update``."""
        self.cursor.take("update")
        name = self.cursor.take()
        if not name.startswith("@"):
            self.cursor.fail("update needs a set, such as @clients")
        self.cursor.take("{")
        key = self.key()
        self.cursor.take("}")
        return actions.UpdateSet(name[1:], key)

    def dnat(self) -> AnyAction:
        """Read ``dnat``, to one destination or through a map."""
        cursor = self.cursor
        cursor.take("dnat")
        if cursor.accept("to"):
            return self._to_one_port() if cursor.peek() in _KEY_WORDS else self._destination()
        cursor.take(self.family)
        if cursor.accept("addr"):
            cursor.take(".")
            cursor.take("port")
        cursor.take("to")
        key = self.key()
        cursor.take("map")
        return actions.DnatMap(key, self._map(self._destination_entry))

    def _to_one_port(self) -> AnyAction:
        cursor = self.cursor
        key = self.key()
        cursor.take("map")
        name, _, port = cursor.peek().removeprefix("@").partition(":")
        if not (cursor.peek().startswith("@") and port.isascii() and port.isdecimal() and len(port) <= 5):
            cursor.fail("a map and a port are expected, such as @endpoints:80")
        cursor.take()
        return actions.DnatMap(key, name, int(port))

    def _destination(self) -> AnyAction:
        found = _DESTINATION.fullmatch(self.cursor.peek())
        if found is None:
            self.cursor.fail(f"{self.cursor.peek()!r} is not an address with a port")
        address = self._address(found["v4"] or found["v6"])
        self.cursor.take()
        return actions.Dnat(address, int(found["port"]))


_STATEMENTS: dict[str, Callable[[_RuleParser], AnyMatch | AnyAction]] = {
    "iifname": _RuleParser.interface,
    "oifname": _RuleParser.interface,
    "ct": _RuleParser.connection,
    "fib": _RuleParser.address_type,
    "counter": _RuleParser.counter,
    "comment": _RuleParser.comment,
    "accept": _RuleParser.verdict,
    "drop": _RuleParser.verdict,
    "return": _RuleParser.verdict,
    "jump": _RuleParser.verdict,
    "goto": _RuleParser.verdict,
    "reject": _RuleParser.reject,
    "masquerade": _RuleParser.masquerade,
    "update": _RuleParser.update,
    "dnat": _RuleParser.dnat,
}
