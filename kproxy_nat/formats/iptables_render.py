"""Rule sets in iptables-save form, and transactions in iptables-restore form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kproxy_nat.formats.iptables_words import RESTORE_WRITERS, Writers, save_writers, transport_options
from kproxy_nat.formats.templates import ADDRESS_BLANKS, CHAIN_BLANK, Template
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_matches
from kproxy_nat.ruleset.matches import AnyMatch, Destination, Protocol, Transport
from kproxy_nat.ruleset.patterns import RulePattern
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, TABLE_ORDER, Chain, Rule, Ruleset, Table
from kproxy_nat.ruleset.transactions import (
    AppendAlike,
    AppendRules,
    Command,
    DeclareChain,
    DeclareChains,
    DeleteChain,
    DeleteRule,
    DeleteRuleAt,
    FlushChain,
    InsertRule,
    NewChain,
    RenameChain,
    ReplaceRule,
    SetPolicy,
    Transaction,
    ZeroCounters,
)

_REMEMBERED_TEXTS = 10_000


def render_save(ruleset: Ruleset, *, counters: bool = False) -> str:
    """Return the rule set as ``iptables-save`` prints it after loading, comments aside.

    With ``counters``, each rule that has them begins with its packets and bytes, as with ``iptables-save
    -c``.
    """
    lines: list[str] = []
    arguments = _arguments_writer(save_writers(ruleset.family), _save_matches)
    for table in sorted_tables(ruleset):
        chains = listed_chains(table)
        lines.append(f"*{table.name}\n")
        for chain in chains:
            packets, size = chain.counters if counters else (0, 0)
            lines.append(f":{chain.name} {chain.policy or '-'} [{packets}:{size}]\n")
        for chain in chains:
            for rule in chain.rules:
                prefix = f"[{rule.counters[0]}:{rule.counters[1]}] " if counters and rule.counters else ""
                lines.append(f"{prefix}-A {chain.name}{arguments(rule)}\n")
        lines.append("COMMIT\n")
    return "".join(lines)


def sorted_tables(ruleset: Ruleset) -> list[Table]:
    """Return the tables in the order in which they are listed."""
    return sorted(ruleset.tables.values(), key=_table_rank)


def _table_rank(table: Table) -> tuple[int, str]:
    rank = TABLE_ORDER.index(table.name) if table.name in TABLE_ORDER else len(TABLE_ORDER)
    return rank, table.name


def listed_chains(table: Table) -> list[Chain]:
    """Return the chains in the order of listing: built-in ones by hook, then the others by name."""
    builtin = BUILTIN_CHAINS.get(table.name, ())
    first = [table.chains[name] for name in builtin if name in table.chains]
    return first + [table.chains[name] for name in sorted(table.chains.keys() - set(builtin))]


def render_rule(rule: Rule, family: IpFamily) -> str:
    """Return one rule in canonical form, without its chain."""
    return _arguments_writer(save_writers(family), _save_matches)(rule).lstrip()


def _arguments_writer(
    writers: Writers, match_text: Callable[[tuple[AnyMatch, ...], Writers], str]
) -> Callable[[Rule], str]:
    """Return a function that writes the arguments of a rule after its chain, each with a blank before it.

    It remembers texts of matches by identity, since rules for endpoints of one service, or of all services,
    share most of their matches. An identity stays unique as long as the object lives, so it keeps them alive.
    """
    remembered: dict[int, str] = {}
    alive: list[tuple[AnyMatch, ...]] = []

    def arguments(rule: Rule) -> str:
        matches = rule.matches
        text = remembered.get(id(matches))
        if text is None:
            if len(alive) >= _REMEMBERED_TEXTS:
                remembered.clear()
                alive.clear()
            alive.append(matches)
            text = remembered[id(matches)] = match_text(matches, writers)
        for action in rule.actions:
            text += writers[type(action)](action)
        return text

    return arguments


def _save_matches(matches: tuple[AnyMatch, ...], writers: Writers) -> str:
    text = ""
    for match in canonical_matches(matches):
        text += writers[type(match)](match)
    return text


def render_restore(transaction: Transaction) -> str:
    """Return the transaction as kube-proxy writes it for ``iptables-restore --noflush``."""
    texts: list[str] = []
    write = _RestoreWriter(transaction.family).write
    for part in transaction.tables:
        texts.append(f"*{part.table}\n")
        texts.extend(map(write, part.commands))
        texts.append("COMMIT\n")
    return "".join(texts)


class _RestoreWriter:
    """Writes the commands of one transaction, and remembers what recurs among them."""

    def __init__(self, family: IpFamily) -> None:
        self.family = family
        self.arguments = _arguments_writer(RESTORE_WRITERS, _restore_matches)
        self.templates: dict[RulePattern, Template] = {}
        self.writers: dict[type[Command], Callable[[Any], str]] = {
            **_OTHER_COMMANDS,
            AppendRules: lambda c: self._append(c.chain, c.rules),
            AppendAlike: self._append_alike,
            InsertRule: self._insert,
            ReplaceRule: lambda c: f"-R {c.chain} {c.position}{self.arguments(c.rule)}\n",
            DeleteRule: lambda c: f"-D {c.chain}{self.arguments(c.rule)}\n",
        }

    def write(self, command: Command) -> str:
        """Return the lines of ``command``."""
        return self.writers[type(command)](command)

    def _append(self, chain: str, rules: Iterable[Rule]) -> str:
        return "".join([f"-A {chain}{self.arguments(rule)}\n" for rule in rules])

    def _append_alike(self, command: AppendAlike) -> str:
        if self.family is IpFamily.IPV6 and any(a.startswith("::") for a in command.addresses):
            # Not all of these are written in the words in which they are kept.
            filled = zip(command.chains, command.addresses, strict=True)
            return "".join(self._append(c, command.pattern.rules(c, a, None)) for c, a in filled)
        template = self.templates.get(command.pattern)
        if template is None:
            rules = command.pattern.rules(CHAIN_BLANK, ADDRESS_BLANKS[self.family], None)
            template = self.templates[command.pattern] = Template(self._append(CHAIN_BLANK, rules))
        return template.fill(command.chains, command.addresses)

    def _insert(self, command: InsertRule) -> str:
        position = "" if command.position == 1 else f" {command.position}"
        return f"-I {command.chain}{position}{self.arguments(command.rule)}\n"


def _restore_matches(matches: tuple[AnyMatch, ...], writers: Writers) -> str:
    text = ""
    ports = ""
    for match in matches:
        kind = type(match)
        if ports and kind is not Protocol and kind is not Destination:
            text += ports
            ports = ""
        if isinstance(match, Transport):
            # kube-proxy writes the module, then -p and -d, and only then the module's ports.
            text += f" -m {match.protocol}"
            ports = transport_options(match)
        else:
            text += writers[kind](match)
    return text + ports


def _declare(command: DeclareChain) -> str:
    packets, size = command.counters
    return f":{command.name} {command.policy or '-'} [{packets}:{size}]\n"


_DECLARATIONS = Template(_declare(DeclareChain(CHAIN_BLANK)))
_OTHER_COMMANDS: dict[type[Command], Callable[[Any], str]] = {
    DeclareChain: _declare,
    DeclareChains: lambda c: _DECLARATIONS.fill(c.names, ()),
    DeleteRuleAt: lambda c: f"-D {c.chain} {c.position}\n",
    NewChain: lambda c: f"-N {c.name}\n",
    DeleteChain: lambda c: f"-X {c.name}\n" if c.name else "-X\n",
    FlushChain: lambda c: f"-F {c.name}\n" if c.name else "-F\n",
    ZeroCounters: lambda c: f"-Z {c.name}\n" if c.name else "-Z\n",
    RenameChain: lambda c: f"-E {c.name} {c.new_name}\n",
    SetPolicy: lambda c: f"-P {c.chain} {c.policy}\n",
}
