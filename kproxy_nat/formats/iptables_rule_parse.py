"""Parsing the arguments of one rule."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kproxy_nat.formats.iptables_headers import SPELLINGS, read_header
from kproxy_nat.formats.iptables_modules import (
    ACTION_READERS,
    MATCH_READERS,
    OTHER_TARGETS,
    TRANSPORT_OPTIONS,
    Option,
)
from kproxy_nat.formats.iptables_quoting import Word
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import AnyAction, Goto, Jump, OpaqueAction
from kproxy_nat.ruleset.matches import AnyMatch, HeaderMatch, Opaque, Protocol
from kproxy_nat.ruleset.rules import Counters, Rule
from kproxy_nat.ruleset.wellformed import MAX_CHAIN_NAME

_MATCH_SPELLINGS = ("-m", "--match")
_JUMP_SPELLINGS = ("-j", "--jump")
_GOTO_SPELLINGS = ("-g", "--goto")
_COUNTER_SPELLINGS = ("-c", "--set-counters")
_ICMP_MODULES = {"ipv6-icmp": "icmp6", "icmpv6": "icmp6"}

_COUNT = re.compile(r"\d{1,20}", re.ASCII)

_FAMILY_OPTIONS = {
    **dict.fromkeys(("-4", "--ipv4"), IpFamily.IPV4),
    **dict.fromkeys(("-6", "--ipv6"), IpFamily.IPV6),
}
"""Options with which one file serves both families: rules of the other are skipped."""

_ONE_TEXT = frozenset(
    """--comment --log-prefix --nflog-prefix --nfacct-name --string --hex-string --helper --label --path
    --name --u32""".split()
)
"""Options with one value that may be any text, even one that looks like an option."""


class RuleError(ValueError):
    """Arguments that are no rule; the place is that of ``word``."""

    def __init__(self, message: str, word: Word | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.word = word


@dataclass(slots=True)
class _Module:
    """A module or target with the options that follow it, and the stretches of the line that they take."""

    name: str
    options: list[Option] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    implicit: bool = False

    def text(self, line: str) -> str:
        """Return the words of this module as they stand in ``line``."""
        merged: list[tuple[int, int]] = []
        for start, end in self.pieces:
            if merged and not line[merged[-1][1] : start].strip(" \t"):
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        return " ".join(line[start:end] for start, end in merged)


_Part = _Module | list[HeaderMatch]


class _RuleParser:
    def __init__(self, line: str, words: Sequence[Word], family: IpFamily) -> None:
        self.line = line
        self.words = words
        self.family = family
        self.position = 0
        self.parts: list[_Part] = []
        self.current: _Module | None = None
        self.target: _Module | None = None
        self.goto: str | None = None
        self.counters: Counters | None = None
        self.seen: set[str] = set()
        self.skipped = False

    def parse(self) -> None:
        while self.position < len(self.words):
            start = self.words[self.position]
            negated = start.value == "!"
            if negated:
                self.position += 1
            word = self._next("an option")
            option = word.value
            if option in SPELLINGS and not self._belongs_to_policy(option):
                self._header(SPELLINGS[option], word, negated=negated)
            elif option in _MATCH_SPELLINGS and not negated:
                self._match(word)
            elif option in _JUMP_SPELLINGS and not negated:
                self._once("-j", word)
                self.current = self.target = self._module(word)
            elif option in _GOTO_SPELLINGS and not negated:
                self._once("-j", word)
                self.goto = self._chain_name(word)
            elif option in _COUNTER_SPELLINGS and not negated:
                self.counters = (self._count(word), self._count(word))
            elif option in _FAMILY_OPTIONS:
                self.skipped = _FAMILY_OPTIONS[option] is not self.family
            elif option.startswith("-") and option != "-":
                self._module_option(start, word, negated=negated)
            else:
                raise RuleError(f"unexpected word {option!r}", word)

    def _belongs_to_policy(self, option: str) -> bool:
        """Whether ``--proto`` is the option of ``-m policy``, which has one of that name."""
        return option == "--proto" and self.current is not None and self.current.name == "policy"

    def _next(self, what: str, after: Word | None = None) -> Word:
        if self.position >= len(self.words):
            where = f" after {after.value}" if after else ""
            raise RuleError(f"{what} is missing{where}", self.words[-1])
        self.position += 1
        return self.words[self.position - 1]

    def _once(self, option: str, word: Word) -> None:
        if option in self.seen:
            raise RuleError(f"{word.value} is there twice", word)
        self.seen.add(option)

    def _count(self, after: Word) -> int:
        word = self._next("a number", after=after)
        if not _COUNT.fullmatch(word.value):
            raise RuleError(f"{word.value!r} is not a number", word)
        return int(word.value)

    def _header(self, option: str, word: Word, *, negated: bool) -> None:
        self._once(option, word)
        value = "" if option == "-f" else self._next("a value", after=word).value
        if value == "!":
            raise RuleError(f"'!' must stand before {word.value}", word)
        try:
            self.parts.append(read_header(option, value, self.family, negated=negated))
        except ValueError as error:
            raise RuleError(str(error), self.words[self.position - 1]) from None

    def _module(self, word: Word) -> _Module:
        name = self._next("a name", after=word)
        module = _Module(name.value)
        module.pieces.append((word.start, name.end))
        return module

    def _match(self, word: Word) -> None:
        self.current = self._module(word)
        self.parts.append(self.current)

    def _chain_name(self, word: Word) -> str:
        name = self._next("a chain", after=word)
        if not 1 <= len(name.value.encode(errors="replace")) <= MAX_CHAIN_NAME:
            raise RuleError(f"{name.value!r} is no name of 1 to {MAX_CHAIN_NAME} bytes", name)
        return name.value

    def _module_option(self, start: Word, word: Word, *, negated: bool) -> None:
        name, equals, value = (
            word.value.partition("=") if word.value.startswith("--") else (word.value, "", "")
        )
        module = self._owner(word._replace(value=name))
        values = [word._replace(value=value)] if equals else self._values(word)
        module.options.append(Option(name, negated, tuple(value.value for value in values)))
        module.pieces.append((start.start, values[-1].end if values else word.end))

    def _owner(self, word: Word) -> _Module:
        """Return the module that an option belongs to, loading the protocol's own where iptables does."""
        protocol = self._protocol()
        name = _ICMP_MODULES.get(protocol, protocol)
        if word.value in TRANSPORT_OPTIONS and protocol:
            loaded = [p for p in self.parts if isinstance(p, _Module) and p.name in (name, protocol)]
            return loaded[-1] if loaded else self._load_implicitly(name)
        if self.current is None and protocol:
            return self._load_implicitly(name)
        if self.current is None:
            raise RuleError(f"unknown option {word.value!r}", word)
        return self.current

    def _load_implicitly(self, name: str) -> _Module:
        module = _Module(name, implicit=True)
        self.parts.append(module)
        if self.current is None or self.current is not self.target:
            self.current = module
        return module

    def _protocol(self) -> str:
        for part in self.parts:
            for match in part if isinstance(part, list) else ():
                if isinstance(match, Protocol) and not match.negated:
                    return match.name
        named = [p.name for p in self.parts if isinstance(p, _Module) and p.name in MATCH_READERS]
        return next((name for name in named if name in ("tcp", "udp", "sctp", "dccp", "udplite")), "")

    def _values(self, option: Word) -> list[Word]:
        """Return the words up to the next option; exactly one for options that take any text."""
        if option.value in _ONE_TEXT:
            return [self._next("a value", after=option)]
        values: list[Word] = []
        while self.position < len(self.words) and not _is_option(self.words[self.position].value):
            values.append(self._next("a value"))
        return values

    def rules(self) -> list[Rule]:
        """Return the rule, or the rules that a list of addresses stands for."""
        if self.skipped:
            return []
        choices: list[list[tuple[AnyMatch, ...]]] = []
        for part in self.parts:
            if isinstance(part, list):
                choices.append([(match,) for match in part] or [()])
            else:
                choices.append([(self._read_match(part),)])
        action = self._action()
        return [
            Rule(tuple(itertools.chain.from_iterable(chosen)), action, None, self.counters)
            for chosen in itertools.product(*choices)
        ]

    def _read_match(self, module: _Module) -> AnyMatch:
        reader = MATCH_READERS.get(module.name)
        match = reader(module.options, self.family) if reader else None
        if match is not None:
            return match
        text = module.text(self.line)
        return Opaque(f"-m {module.name} {text}" if module.implicit else text)

    def _action(self) -> tuple[AnyAction, ...]:
        if self.goto is not None:
            return (Goto(self.goto),)
        target = self.target
        if target is None:
            return ()
        reader = ACTION_READERS.get(target.name)
        action = reader(target.options, self.family) if reader else None
        if action is not None:
            return (action,)
        if reader or target.options or target.name in OTHER_TARGETS:
            return (OpaqueAction(target.text(self.line)),)
        if not 1 <= len(target.name.encode(errors="replace")) <= MAX_CHAIN_NAME:
            raise RuleError(f"{target.name!r} is no name of 1 to {MAX_CHAIN_NAME} bytes")
        return (Jump(target.name),)


def _is_option(word: str) -> bool:
    return word == "!" or (word.startswith("-") and len(word) > 1 and not word[1].isdigit())


def parse_rule(line: str, words: Sequence[Word], family: IpFamily) -> list[Rule]:
    """Return the rules that the arguments ``words`` of ``line`` stand for: several for lists of addresses.

    Raises:
        RuleError: they are no rule.
    """
    parser = _RuleParser(line, words, family)
    parser.parse()
    return parser.rules()
