"""Rule sets in iptables-save form, and transactions in iptables-restore form."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kproxy_nat.formats.iptables_words import RESTORE_WRITERS, Writers, save_writers, transport_options
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
    share most of their matches. An identity stays unique as long as the object lives, which the owner of the
    rules sees to.
    """
    remembered: dict[int, str] = {}

    def arguments(rule: Rule) -> str:
        matches = rule.matches
        text = remembered.get(id(matches))
        if text is None:
            if len(remembered) >= _REMEMBERED_TEXTS:
                remembered.clear()
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
    lines: list[str] = []
    for part in transaction.tables:
        lines.append(f"*{part.table}\n")
        lines.extend(_command_lines(part.commands))
        lines.append("COMMIT\n")
    return "".join(lines)


def _command_lines(commands: Iterable[Command]) -> list[str]:
    lines: list[str] = []
    append = lines.append
    arguments = _arguments_writer(RESTORE_WRITERS, _restore_matches)
    for command in commands:
        if type(command) is AppendRule:
            append(f"-A {command.chain}{arguments(command.rule)}\n")
        elif type(command) is DeclareChain:
            packets, size = command.counters
            append(f":{command.name} {command.policy or '-'} [{packets}:{size}]\n")
        else:
            append(f"{_OTHER_COMMANDS[type(command)](command)}\n")
    return lines


def _restore_arguments(rule: Rule) -> str:
    return _arguments_writer(RESTORE_WRITERS, _restore_matches)(rule)


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
    ZeroCounters: lambda c: f"-Z {c.name}" if c.name else "-Z",
    RenameChain: lambda c: f"-E {c.name} {c.new_name}",
    SetPolicy: lambda c: f"-P {c.chain} {c.policy}",
}
