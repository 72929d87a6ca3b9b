"""Parsing iptables-save and iptables-restore text.

Every valid file is accepted: matches and targets outside of what kube-proxy uses are kept word for word. A
broken one yields all its problems at once, each with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kproxy_nat.errors import Code, InvalidInputError, Location, Problem
from kproxy_nat.formats.iptables_quoting import QuotingError, Word, split_words
from kproxy_nat.formats.iptables_rule_parse import RuleError, parse_rule
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, Counters, Rule, Ruleset
from kproxy_nat.ruleset.transactions import (
    AppendRules,
    Command,
    DeclareChain,
    DeleteChain,
    DeleteRule,
    DeleteRuleAt,
    FlushChain,
    InsertRule,
    NewChain,
    RenameChain,
    ReplaceRule,
    SetPolicy,
    TableTransaction,
    Transaction,
    TransactionError,
    ZeroCounters,
    evaluate,
)
from kproxy_nat.ruleset.wellformed import MAX_CHAIN_NAME

POLICIES = ("ACCEPT", "DROP")
_COUNTERS = re.compile(r"\[(\d{1,20}):(\d{1,20})\]", re.ASCII)
_RULE_COUNTERS = re.compile(r"\[ *(\d{1,20}):(\d{1,20}) *\]", re.ASCII)
_POSITION = re.compile(r"\d{1,9}", re.ASCII)
_CONTROL = re.compile(r"[\0\r]")
_MAX_LINE = 10240


class _TextParser:
    def __init__(self, text: str, family: IpFamily, source: str) -> None:
        self.text = text
        self.family = family
        self.source = source
        self.problems: list[Problem] = []
        self.tables: list[TableTransaction] = []
        self.table: TableTransaction | None = None
        self.number = 0
        self.line = ""

    def parse(self) -> Transaction:
        lines = self.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        for number, line in enumerate(lines, start=1):
            self.number, self.line = number, line
            try:
                self._parse_line(line)
            except RuleError as error:
                self._refuse(error.message, error.word)
            except QuotingError as error:
                self._refuse(str(error))
        if self.table is not None:
            message = f"table {self.table.table} does not end: COMMIT is missing"
            location = Location(self.source, len(lines) + 1)
            hint = "the text may have been cut off"
            self.problems.append(Problem(Code.RULES_UNFINISHED, message, location=location, hint=hint))
        if self.problems:
            raise InvalidInputError(*self.problems)
        return Transaction(self.family, self.tables)

    def _refuse(self, message: str, word: Word | None = None) -> None:
        location = Location(self.source, self.number, word.start + 1 if word else 0, self.line)
        self.problems.append(Problem(Code.RULES_SYNTAX, message, location=location))

    def _parse_line(self, line: str) -> None:
        if not line or line.startswith("#"):
            return
        if _CONTROL.search(line):
            raise RuleError("the line holds a carriage return or NUL")
        if len(line) >= _MAX_LINE:
            raise RuleError(f"the line is longer than the {_MAX_LINE} bytes that iptables-restore reads")
        if line.startswith("*"):
            self._open_table(line[1:].split())
        elif self.table is None:
            raise RuleError("a table has to be opened first, with a line such as *nat")
        elif line.rstrip(" \t") == "COMMIT":
            self.table = None
        elif line.startswith(":"):
            self._add(self._declaration(line))
        else:
            self._commands(line)

    def _open_table(self, words: list[str]) -> None:
        if self.table is not None:
            self._refuse(f"table {self.table.table} does not end before this one: COMMIT is missing")
        name = words[0] if words else ""
        if name not in BUILTIN_CHAINS:
            self.table = TableTransaction(name)
            raise RuleError(f"there is no table {name!r}")
        self.table = TableTransaction(name)
        self.tables.append(self.table)

    def _add(self, command: Command) -> None:
        assert self.table is not None
        self.table.commands.append(command)
        self.table.lines.append(self.number)

    def _declaration(self, line: str) -> DeclareChain:
        words = [word for word in re.split(r"[ \t]+", line[1:]) if word]
        if len(words) < 2:
            raise RuleError("a chain line needs a name and a policy")
        name, policy = words[0], words[1]
        _check_chain_name(name)
        if policy not in (*POLICIES, "-"):
            raise RuleError(f"{policy!r} is no policy: use ACCEPT, DROP or -")
        counters = _COUNTERS.match(words[2]) if len(words) > 2 else None
        values = (int(counters[1]), int(counters[2])) if counters else (0, 0)
        assert self.table is not None
        builtin = name in BUILTIN_CHAINS[self.table.table] if self.table.table in BUILTIN_CHAINS else False
        kept = ("ACCEPT" if policy == "-" else policy) if builtin else None
        return DeclareChain(name, kept, values)

    def _commands(self, line: str) -> None:
        counters: Counters | None = None
        start = len(line) - len(line.lstrip(" \t"))
        if line.startswith("[", start):
            found = _RULE_COUNTERS.match(line, start)
            if found is None:
                raise RuleError("counters are written [packets:bytes]")
            counters = (int(found[1]), int(found[2]))
            line = " " * found.end() + line[found.end() :]
        words = split_words(line)
        if not words:
            raise RuleError("a line of blanks is no command")
        handler = _COMMANDS.get(words[0].value)
        if handler is None:
            raise RuleError(f"unknown command {words[0].value!r}", words[0])
        for command in handler(line, words, self.family, counters):
            self._add(command)


Handler = Callable[[str, Sequence[Word], IpFamily, Counters | None], list[Command]]


def _check_chain_name(name: str, word: Word | None = None) -> str:
    if len(name.encode(errors="replace")) > MAX_CHAIN_NAME:
        raise RuleError(f"chain name {name} is longer than {MAX_CHAIN_NAME} bytes", word)
    if not name:
        raise RuleError("a chain needs a name", word)
    return name


def _chain(words: Sequence[Word]) -> str:
    if len(words) < 2:
        raise RuleError(f"a chain is missing after {words[0].value}", words[0])
    return _check_chain_name(words[1].value, words[1])


def _append(line: str, words: Sequence[Word], family: IpFamily, counters: Counters | None) -> list[Command]:
    chain = _chain(words)
    rules = _counted(parse_rule(line, words[2:], family), counters)
    return [AppendRules(chain, rules)] if rules else []


def _counted(rules: list[Rule], counters: Counters | None) -> list[Rule]:
    if counters is None:
        return rules
    return [Rule(rule.matches, rule.actions, None, counters) for rule in rules]


def _insert(line: str, words: Sequence[Word], family: IpFamily, counters: Counters | None) -> list[Command]:
    chain = _chain(words)
    position, rest = _position(words[2:], default=1)
    rules = _counted(parse_rule(line, rest, family), counters)
    return [InsertRule(chain, rule, position) for rule in rules]


def _replace(line: str, words: Sequence[Word], family: IpFamily, _: Counters | None) -> list[Command]:
    chain = _chain(words)
    position, rest = _position(words[2:], default=0)
    if not position:
        raise RuleError("a rule number is missing", words[-1])
    rules = parse_rule(line, rest, family)
    if len(rules) != 1:
        raise RuleError("-R replaces by one rule, so a list of addresses cannot be", words[0])
    return [ReplaceRule(chain, rules[0], position)]


def _delete(line: str, words: Sequence[Word], family: IpFamily, _: Counters | None) -> list[Command]:
    chain = _chain(words)
    position, rest = _position(words[2:], default=0)
    if position and not rest:
        return [DeleteRuleAt(chain, position)]
    return [DeleteRule(chain, rule) for rule in parse_rule(line, words[2:], family)]


def _position(words: Sequence[Word], *, default: int) -> tuple[int, Sequence[Word]]:
    if words and words[0].value == "0":
        raise RuleError("rule numbers begin at 1", words[0])
    if words and _POSITION.fullmatch(words[0].value):
        return int(words[0].value), words[1:]
    return default, words


def _set_policy(_: str, words: Sequence[Word], __: IpFamily, ___: Counters | None) -> list[Command]:
    if len(words) != 3 or words[2].value not in POLICIES:
        raise RuleError("-P needs a chain and ACCEPT or DROP", words[0])
    return [SetPolicy(_chain(words), words[2].value)]


def _rename(_: str, words: Sequence[Word], __: IpFamily, ___: Counters | None) -> list[Command]:
    if len(words) != 3:
        raise RuleError("-E needs the old and the new name of a chain", words[0])
    return [RenameChain(_chain(words), _check_chain_name(words[2].value, words[2]))]


def _on_chain(make: Callable[[str], Command]) -> Handler:
    return lambda _, words, __, ___: [make(_only_chain(words))]


def _on_any_chain(make: Callable[[str | None], Command]) -> Handler:
    return lambda _, words, __, ___: [make(_only_chain(words) if len(words) > 1 else None)]


def _only_chain(words: Sequence[Word]) -> str:
    if len(words) > 2:
        raise RuleError(f"unexpected word {words[2].value!r}", words[2])
    return _chain(words)


_COMMANDS: dict[str, Handler] = {
    **dict.fromkeys(("-A", "--append"), _append),
    **dict.fromkeys(("-I", "--insert"), _insert),
    **dict.fromkeys(("-R", "--replace"), _replace),
    **dict.fromkeys(("-D", "--delete"), _delete),
    **dict.fromkeys(("-N", "--new-chain"), _on_chain(NewChain)),
    **dict.fromkeys(("-X", "--delete-chain"), _on_any_chain(DeleteChain)),
    **dict.fromkeys(("-F", "--flush"), _on_any_chain(FlushChain)),
    **dict.fromkeys(("-E", "--rename-chain"), _rename),
    **dict.fromkeys(("-P", "--policy"), _set_policy),
    **dict.fromkeys(("-Z", "--zero"), _on_any_chain(ZeroCounters)),
}


def parse_restore(text: str, family: IpFamily, source: str = "rules") -> Transaction:
    """Return the commands of an iptables-restore text.

    Raises:
        InvalidInputError: the text is broken; all its problems.
    """
    return _TextParser(text, family, source).parse()


def parse_save(text: str, family: IpFamily, source: str = "rules") -> Ruleset:
    """Return the rule set that an iptables-save text (or a restore text on its own) describes.

    Raises:
        InvalidInputError: the text is broken, or a command names what is not there.
    """
    transaction = parse_restore(text, family, source)
    try:
        return evaluate(transaction)
    except TransactionError as error:
        lines = text.split("\n")
        shown = lines[error.line - 1] if 0 < error.line <= len(lines) else ""
        location = Location(source, error.line, 0, shown)
        problem = Problem(Code.RULES_UNKNOWN_CHAIN, error.message, location=location)
        raise InvalidInputError(problem) from None
