"""Matches and actions as words of nft.

Two styles differ in spelling: *listing*, which nft 1.0.6 prints, and *script*, which kube-proxy writes.
``nft_rule_parse`` is their inverse and reads both.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kproxy_nat.net.addresses import join_host_port
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import Goto, Jump, Verdict
from kproxy_nat.ruleset.keys import Field, Key, KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import FULL_MARK
from kproxy_nat.ruleset.rules import Rule

_IDENTIFIER = re.compile(r"[A-Za-z_.][A-Za-z0-9/\-_.]*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.:/*+-]+", re.ASCII)
_UNQUOTABLE = re.compile(r'["\n\r\0]')
_PLAIN_INTERFACE = re.compile(r"[A-Za-z_.][A-Za-z0-9/\-_.]*\*?", re.ASCII)
KEYWORDS = frozenset(
    """accept add ah all arp bridge bypass chain comment comp continue counter cpu create ct day dccp
    delete describe destroy device dnat drop dup dynamic ecn element esp ether exists expires export
    fanout fib flags flow flush fwd gc-interval get goto gre handle hash hook hour ibriport ibrname icmp
    icmpv6 igmp iif iifgroup iifname iiftype import inc index inet ingress input insert interval ip ip6
    ipsec jhash jump l4proto last length limit list log maglev map mark masquerade meta meter missing mod
    monitor netdev nfproto nftrace notrack numgen object obriport obrname oif oifgroup oifname oiftype or
    osf out output over performance persistent policy postrouting prerouting priority protocol queue quota
    random redirect reject rename replace reset return rt rt0 rt2 rtclassid rule ruleset saddr sctp
    secmark seq set size skgid skuid snat socket space srh symhash synproxy table tcp th time timeout to
    tproxy tunnel type typeof udp udplite until update vlan vmap vxlan wildcard xt""".split()
)
"""Words of nft's language that cannot stand for the name of an interface unless they are quoted."""


class NotWritableError(ValueError):
    """A value that has no form in nft's text, such as a comment with a quote in it."""


def quoted(text: str) -> str:
    """Return ``text`` in quotes.

    Raises:
        NotWritableError: it holds a quote or a line break, which nft cannot escape.
    """
    if _UNQUOTABLE.search(text):
        raise NotWritableError(f"{text!r} cannot be quoted in nft text")
    return f'"{text}"'


def identifier(name: str) -> str:
    """Return the name of a table, chain or set.

    Raises:
        NotWritableError: nft would not read it as one word.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise NotWritableError(f"{name!r} cannot be a name in nft text")
    return name


_TYPED_WORDS: dict[str, Callable[[Any], str]] = {
    "ifname": lambda value: quoted(str(value)),
    "mark": lambda value: f"{value:#010x}" if isinstance(value, int) else _word(value),
}


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict: ``drop``, ``goto CHAIN``."""
    word = type(verdict).__name__.lower()
    return f"{word} {identifier(verdict.chain)}" if isinstance(verdict, Jump | Goto) else word


def value_text(value: KeyValue, types: Sequence[str] = ()) -> str:
    """Return a value; a concatenation is joined by dots, names of interfaces are quoted.

    Raises:
        NotWritableError: a part of it cannot be quoted.
    """
    if len(types) != len(value):
        return " . ".join(map(_word, value))
    return " . ".join(_TYPED_WORDS.get(kind, _word)(part) for part, kind in zip(value, types, strict=True))


def _word(part: Value) -> str:
    return str(part) if isinstance(part, int) or _VALUE.fullmatch(part) else quoted(part)


def _not(match: Any) -> str:
    return "!= " if match.negated else ""


class Words:
    """The words of one nft family in the style of scripts."""

    separator = " , "

    def __init__(self, family: str) -> None:
        self.family = family
        self.writers: dict[type, Callable[[Any], str]] = {
            matches.Source: lambda m: f"{self._ip(m.network)} saddr {_not(m)}{m.network}",
            matches.Destination: lambda m: f"{self._ip(m.network)} daddr {_not(m)}{m.network}",
            matches.InInterface: lambda m: f"iifname {_not(m)}{self._interface(m.name)}",
            matches.OutInterface: lambda m: f"oifname {_not(m)}{self._interface(m.name)}",
            matches.Protocol: lambda m: f"meta l4proto {_not(m)}{m.name}",
            matches.CtState: lambda m: f"ct state {_not(m)}{','.join(m.states).lower()}",
            matches.CtStatus: lambda m: f"ct status {_not(m)}{','.join(m.statuses)}",
            matches.AddrType: self._address_type,
            matches.Mark: self._mark,
            matches.Lookup: lambda m: f"{self.key(m.key)} {_not(m)}@{identifier(m.name)}",
            matches.OneOf: lambda m: f"{self.key(m.key)} {_not(m)}{self._one_of(m.values)}",
            matches.Counter: lambda m: f"counter packets {m.packets} bytes {m.bytes}",
            actions.Jump: verdict_text,
            actions.Goto: verdict_text,
            actions.Return: verdict_text,
            actions.Accept: verdict_text,
            actions.Drop: verdict_text,
            actions.Reject: self._reject,
            actions.Dnat: lambda a: f"dnat to {join_host_port(a.address, a.port)}",
            actions.Masquerade: lambda a: f"masquerade{' fully-random' if a.random_fully else ''}",
            actions.SetMark: self._set_mark,
            actions.VerdictMap: self._verdict_map,
            actions.DnatMap: self._dnat_map,
            actions.UpdateSet: lambda a: f"update @{identifier(a.name)} {{ {self.key(a.key)} }}",
        }

    def rule(self, rule: Rule) -> str:
        """Return the text of a rule, its comment last.

        Raises:
            NotWritableError: a part of it has no form in nft's text.
        """
        parts = [
            self._part(item) for item in (*rule.matches, *rule.actions) if type(item) is not matches.Comment
        ]
        parts += [f"comment {quoted(m.text)}" for m in rule.matches if isinstance(m, matches.Comment)]
        return " ".join(parts)

    def _part(self, item: matches.AnyMatch | actions.AnyAction) -> str:
        writer = self.writers.get(type(item))
        if writer is None:
            raise NotWritableError(f"a rule holds what has no form in nft's text: {item}")
        return writer(item)

    def key(self, key: Key) -> str:
        """Return the text of a key."""
        return " . ".join(map(self._key_part, key))

    def _key_part(self, part: Field | Numgen) -> str:
        if isinstance(part, Numgen):
            offset = f" offset {part.offset}" if part.offset else ""
            return f"numgen {part.mode} mod {part.modulus}{offset}"
        return f"{self.family} {part}" if part in (Field.SOURCE, Field.DESTINATION) else str(part)

    def braces(self, items: Iterable[str]) -> str:
        """Return items as an anonymous set or map."""
        return f"{{ {self.separator.join(items)} }}"

    def _ip(self, network: str) -> str:
        return "ip6" if ":" in network else "ip"

    def _interface(self, name: str) -> str:
        text = f"{name[:-1]}*" if name.endswith("+") else name
        return text if _PLAIN_INTERFACE.fullmatch(text) and text not in KEYWORDS else quoted(text)

    def _address_type(self, match: matches.AddrType) -> str:
        types = [name.lower() for name in match.types]
        text = types[0] if len(types) == 1 else self.braces(types)
        return f"fib {match.side[0]}addr type {_not(match)}{text}"

    def _one_of(self, values: Iterable[KeyValue]) -> str:
        return self.braces(map(value_text, values))

    def _mark(self, match: matches.Mark) -> str:
        if match.mask == FULL_MARK:
            return f"mark {_not(match)}{match.value:#010x}"
        value = f"{match.value:#010x}" if match.value else "0"
        return f"mark and {match.mask:#010x} {_not(match) or '== '}{value}"

    def _set_mark(self, action: actions.SetMark) -> str:
        if action.mask == FULL_MARK:
            return f"mark set {action.value:#010x}"
        return f"mark set mark {self._mark_operation(action, ('and', 'or', 'xor'))}"

    def _mark_operation(self, action: actions.SetMark, names: tuple[str, str, str]) -> str:
        if action.value == 0:
            return f"{names[0]} {FULL_MARK & ~action.mask:#010x}"
        if action.value == action.mask:
            return f"{names[1]} {action.value:#010x}"
        if action.mask == 0:
            return f"{names[2]} {action.value:#010x}"
        raise NotWritableError(f"no single operation of nft sets a mark so: {action}")

    def _reject(self, action: actions.Reject) -> str:
        if action.reply:
            raise NotWritableError(f"reject with {action.reply} is iptables' own")
        return "reject"

    def _verdict_map(self, action: actions.VerdictMap) -> str:
        if isinstance(action.map, str):
            return f"{self.key(action.key)} vmap @{identifier(action.map)}"
        entries = (f"{value_text(e.key)} : {verdict_text(e.verdict)}" for e in action.map)
        return f"{self.key(action.key)} vmap {self.braces(entries)}"

    def _dnat_map(self, action: actions.DnatMap) -> str:
        if action.port and isinstance(action.map, str):
            return f"dnat to {self.key(action.key)} map @{identifier(action.map)}:{action.port}"
        if action.port:
            raise NotWritableError("a port stands only behind the name of a map")
        head = f"dnat {self._destination_words()} to {self.key(action.key)} map"
        if isinstance(action.map, str):
            return f"{head} @{identifier(action.map)}"
        entries = (f"{value_text(e.key)} : {e.address} . {e.port}" for e in action.map)
        return f"{head} {self.braces(entries)}"

    def _destination_words(self) -> str:
        return f"{self.family} addr . port"


class ListingWords(Words):
    """The words of one nft family in the style of listings. Rules have to be in canonical form."""

    separator = ", "

    def _interface(self, name: str) -> str:
        return quoted(f"{name[:-1]}*" if name.endswith("+") else name)

    def _one_of(self, values: Iterable[KeyValue]) -> str:
        listed = list(values)
        is_single = len(listed) == 1 and len(listed[0]) == 1
        return value_text(listed[0]) if is_single else self.braces(map(value_text, listed))

    def _mark(self, match: matches.Mark) -> str:
        if match.mask == FULL_MARK:
            return f"meta mark {_not(match)}{match.value:#010x}"
        return f"meta mark & {match.mask:#010x} {_not(match) or '== '}{match.value:#010x}"

    def _set_mark(self, action: actions.SetMark) -> str:
        if action.mask == FULL_MARK:
            return f"meta mark set {action.value:#010x}"
        return f"meta mark set meta mark {self._mark_operation(action, ('&', '|', '^'))}"

    def _destination_words(self) -> str:
        return self.family


@functools.lru_cache(maxsize=8)
def script_words(family: str) -> Words:
    """Return the words of an nft family as kube-proxy writes them."""
    return Words(family)


@functools.lru_cache(maxsize=8)
def listing_words(family: str) -> ListingWords:
    """Return the words of an nft family as nft lists them."""
    return ListingWords(family)
