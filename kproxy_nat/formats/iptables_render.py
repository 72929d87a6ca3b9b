"""Rule sets in iptables-save form, and transactions in iptables-restore form."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kproxy_nat.formats.iptables_words import RESTORE_WRITERS, Writer, save_writers, transport_options
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_matches
from kproxy_nat.ruleset.matches import AnyMatch, Destination, Protocol, Transport
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, TABLE_ORDER, Chain, Rule, Ruleset, Table
from kproxy_nat.ruleset.transactions import (
    AppendRule,
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
    Transaction,
)

_REMEMBERED_TEXTS = 10_000


def render_save(ruleset: Ruleset, *, counters: bool = False) -> str:
    """Return the rule set as ``iptables-save`` prints it after loading, comments aside.

    With ``counters``, each rule that has them begins with its packets and bytes, as with ``iptables-save
    -c``.
    """
    lines: list[str] = []
    writers = save_writers(ruleset.family)
    for table in sorted_tables(ruleset):
        chains = listed_chains(table)
        lines.append(f"*{table.name}\n")
        for chain in chains:
            packets, size = chain.counters if counters else (0, 0)
            lines.append(f":{chain.name} {chain.policy or '-'} [{packets}:{size}]\n")
        for chain in chains:
            for rule in chain.rules:
                prefix = f"[{rule.counters[0]}:{rule.counters[1]}] " if counters and rule.counters else ""
                lines.append(f"{prefix}-A {chain.name}{save_arguments(rule, writers)}\n")
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


def save_arguments(rule: Rule, writers: dict[type, Writer]) -> str:
    """Return the arguments of a rule after its chain, in canonical form, each with a blank before it."""
    text = ""
    for match in canonical_matches(rule.matches):
        text += writers[type(match)](match)
    for action in rule.actions:
        text += writers[type(action)](action)
    return text


def render_rule(rule: Rule, family: IpFamily) -> str:
    """Return one rule in canonical form, without its chain."""
    return save_arguments(rule, save_writers(family)).lstrip()


def render_restore(transaction: Transaction) -> str:
    """Return the transaction as kube-proxy writes it for ``iptables-restore --noflush``."""
    lines: list[str] = []
    for part in transaction.tables:
        lines.append(f"*{part.table}\n")
        lines.extend(_command_lines(part.commands))
        lines.append("COMMIT\n")
    return "".join(lines)


def _command_lines(commands: Iterable[Command]) -> list[str]:
    """Return a line for each command.

    Texts of matches are remembered by identity, since rules for the endpoints of one service share most of
    their matches. An identity stays unique as long as the object lives, which the transaction sees to.
    """
    lines: list[str] = []
    writers = RESTORE_WRITERS
    remembered: dict[int, str] = {}
    for command in commands:
        if type(command) is AppendRule:
            rule = command.rule
            text = remembered.get(id(rule.matches))
            if text is None:
                if len(remembered) >= _REMEMBERED_TEXTS:
                    remembered.clear()
                text = remembered[id(rule.matches)] = _restore_matches(rule.matches)
            for action in rule.actions:
                text += writers[type(action)](action)
            lines.append(f"-A {command.chain}{text}\n")
        elif type(command) is DeclareChain:
            packets, size = command.counters
            lines.append(f":{command.name} {command.policy or '-'} [{packets}:{size}]\n")
        else:
            lines.append(f"{_OTHER_COMMANDS[type(command)](command)}\n")
    return lines


def _restore_arguments(rule: Rule) -> str:
    text = _restore_matches(rule.matches)
    for action in rule.actions:
        text += RESTORE_WRITERS[type(action)](action)
    return text


def _restore_matches(matches: tuple[AnyMatch, ...]) -> str:
    writers = RESTORE_WRITERS
    text = ""
    ports = ""
    for match in matches:
        kind = type(match)
        if ports and kind is not Protocol and kind is not Destination:
            text += ports
            ports = ""
        if kind is Transport:
            # kube-proxy writes the module, then -p and -d, and only then the module's ports.
            text += f" -m {match.protocol}"  # type: ignore[union-attr]
            ports = transport_options(match)  # type: ignore[arg-type]
        else:
            text += writers[kind](match)
    return text + ports


def _insert(command: InsertRule) -> str:
    position = "" if command.position == 1 else f" {command.position}"
    return f"-I {command.chain}{position}{_restore_arguments(command.rule)}"


_OTHER_COMMANDS: dict[type[Command], Callable[..., str]] = {
    InsertRule: _insert,
    ReplaceRule: lambda c: f"-R {c.chain} {c.position}{_restore_arguments(c.rule)}",
    DeleteRule: lambda c: f"-D {c.chain}{_restore_arguments(c.rule)}",
    DeleteRuleAt: lambda c: f"-D {c.chain} {c.position}",
    NewChain: lambda c: f"-N {c.name}",
    DeleteChain: lambda c: f"-X {c.name}" if c.name else "-X",
    FlushChain: lambda c: f"-F {c.name}" if c.name else "-F",
    RenameChain: lambda c: f"-E {c.name} {c.new_name}",
    SetPolicy: lambda c: f"-P {c.chain} {c.policy}",
}
