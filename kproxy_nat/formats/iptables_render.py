"""Rule sets in iptables-save form, and transactions in iptables-restore form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kproxy_nat.formats.iptables_patterns import Appender, PatternWriter
from kproxy_nat.formats.iptables_words import RESTORE_WRITERS, Writers, save_writers, transport_options
from kproxy_nat.formats.templates import Template, blanks
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_matches
from kproxy_nat.ruleset.matches import AnyMatch, Destination, Protocol, Transport
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

RULE_FILES = {IpFamily.IPV4: "iptables.rules", IpFamily.IPV6: "ip6tables.rules"}
"""What a file with the rules of a family is called."""


def render_save(ruleset: Ruleset, *, counters: bool = False) -> str:
    """Return the rule set as ``iptables-save`` prints it after loading, comments aside.

    With ``counters``, each rule that has them begins with its packets and bytes, as with ``iptables-save
    -c``.
    """
    lines: list[str] = []
    writers = save_writers(ruleset.family)
    matches_text = _remembering(writers)
    for table in sorted_tables(ruleset):
        chains = listed_chains(table)
        lines.append(f"*{table.name}\n")
        for chain in chains:
            packets, size = chain.counters if counters else (0, 0)
            lines.append(f":{chain.name} {chain.policy or '-'} [{packets}:{size}]\n")
        for chain in chains:
            for rule in chain.rules:
                prefix = f"[{rule.counters[0]}:{rule.counters[1]}] " if counters and rule.counters else ""
                arguments = _arguments(matches_text(rule.matches), rule, writers)
                lines.append(f"{prefix}-A {chain.name}{arguments}\n")
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
    writers = save_writers(family)
    return _arguments(_save_matches(rule.matches, writers), rule, writers).lstrip()


def _arguments(matches: str, rule: Rule, writers: Writers) -> str:
    """Return what stands after a rule's chain: ``matches``, its own in writing, and its actions."""
    for action in rule.actions:
        matches += writers[type(action)](action)
    return matches


def _save_matches(matches: tuple[AnyMatch, ...], writers: Writers) -> str:
    text = ""
    for match in canonical_matches(matches):
        text += writers[type(match)](match)
    return text


def _remembering(writers: Writers) -> Callable[[tuple[AnyMatch, ...]], str]:
    """Return a function that writes matches and remembers the last texts by identity.

    Rules for endpoints of one service, or of all services, share most of their matches. An identity stays
    unique as long as the object lives, which the owner of the rules sees to.
    """
    remembered: dict[int, str] = {}

    def text_of(matches: tuple[AnyMatch, ...]) -> str:
        text = remembered.get(id(matches))
        if text is None:
            if len(remembered) >= _REMEMBERED_TEXTS:
                remembered.clear()
            text = remembered[id(matches)] = _save_matches(matches, writers)
        return text

    return text_of


def render_restore(transaction: Transaction) -> str:
    """Return the transaction as kube-proxy writes it for ``iptables-restore --noflush``."""
    texts: list[str] = []
    writers = _COMMAND_WRITERS | {AppendAlike: PatternWriter(transaction.family, _append).write}
    for part in transaction.tables:
        texts.append(f"*{part.table}\n")
        texts += [writers[type(command)](command) for command in part.commands]
        texts.append("COMMIT\n")
    return "".join(texts)


def save_appender(family: IpFamily) -> Appender:
    """Return what writes the rules of a chain as ``iptables-save`` prints them."""
    writers = save_writers(family)

    def append(chain: str, rules: Iterable[Rule]) -> str:
        texts = (_arguments(_save_matches(rule.matches, writers), rule, writers) for rule in rules)
        return "".join([f"-A {chain}{text}\n" for text in texts])

    return append


def _append(chain: str, rules: Iterable[Rule]) -> str:
    return "".join([f"-A {chain}{_restore_arguments(rule)}\n" for rule in rules])


def _insert(command: InsertRule) -> str:
    position = "" if command.position == 1 else f" {command.position}"
    return f"-I {command.chain}{position}{_restore_arguments(command.rule)}\n"


def _restore_arguments(rule: Rule) -> str:
    return _arguments(_restore_matches(rule.matches, RESTORE_WRITERS), rule, RESTORE_WRITERS)


def _restore_matches(matches: tuple[AnyMatch, ...], writers: Writers) -> str:
    text = ""
    ports = ""
    for match in matches:
        kind = type(match)
        if ports and kind is not Protocol and kind is not Destination:
            text += ports
            ports = ""
        if type(match) is Transport:
            # kube-proxy writes the module, then -p and -d, and only then the module's ports.
            text += f" -m {match.protocol}"
            ports = transport_options(match)
        else:
            text += writers[kind](match)
    return text + ports


def _declare(command: DeclareChain) -> str:
    packets, size = command.counters
    return f":{command.name} {command.policy or '-'} [{packets}:{size}]\n"


_DECLARATIONS = Template(_declare(DeclareChain(blanks(1, IpFamily.IPV4)[0])))
_COMMAND_WRITERS: dict[type[Command], Callable[[Any], str]] = {
    DeclareChain: _declare,
    DeclareChains: lambda c: _DECLARATIONS.fill([c.names]),
    AppendRules: lambda c: _append(c.chain, c.rules),
    InsertRule: _insert,
    ReplaceRule: lambda c: f"-R {c.chain} {c.position}{_restore_arguments(c.rule)}\n",
    DeleteRule: lambda c: f"-D {c.chain}{_restore_arguments(c.rule)}\n",
    DeleteRuleAt: lambda c: f"-D {c.chain} {c.position}\n",
    NewChain: lambda c: f"-N {c.name}\n",
    DeleteChain: lambda c: f"-X {c.name}\n" if c.name else "-X\n",
    FlushChain: lambda c: f"-F {c.name}\n" if c.name else "-F\n",
    ZeroCounters: lambda c: f"-Z {c.name}\n" if c.name else "-Z\n",
    RenameChain: lambda c: f"-E {c.name} {c.new_name}\n",
    SetPolicy: lambda c: f"-P {c.chain} {c.policy}\n",
}
