"""Rule sets under construction as dumps: what ``iptables-save`` will print, chain by chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kproxy_nat.formats.iptables_dump import Dump, DumpedTable
from kproxy_nat.formats.iptables_patterns import PatternWriter
from kproxy_nat.formats.iptables_render import save_appender
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, Ruleset, Table
from kproxy_nat.ruleset.transactions import (
    AppendAlike,
    AppendRules,
    Command,
    DeclareChain,
    DeclareChains,
    Transaction,
)


def dump_transaction(transaction: Transaction, base: Ruleset) -> Dump:
    """Return what a transaction that only declares user chains and appends to them makes of ``base``.

    It is the dump of the rule set that evaluation makes, but rules that many chains have alike are written
    by templates, and are never there one by one.

    Raises:
        KeyError: a command is of another kind, or names a chain that is not there.
    """
    family = transaction.family
    tables = {name: _TableText(family, table) for name, table in base.tables.items()}
    for part in transaction.tables:
        table = tables.setdefault(part.table, _TableText(family, Table(part.table)))
        for command in part.commands:
            table.handlers[type(command)](command)
    return Dump(family, {name: table.dumped() for name, table in tables.items()})


class _TableText:
    """The chains of a table as text."""

    def __init__(self, family: IpFamily, table: Table) -> None:
        self._append = save_appender(family)
        self._patterns = PatternWriter(family, self._append)
        self._table = table
        self._texts = {chain.name: self._append(chain.name, chain.rules) for chain in table.chains.values()}
        self._more: dict[str, list[str]] = {}
        self.handlers: dict[type[Command], Callable[[Any], None]] = {
            DeclareChain: lambda command: self._declare((command.name,)),
            DeclareChains: lambda command: self._declare(command.names),
            AppendRules: self._append_rules,
            AppendAlike: self._append_alike,
        }

    def dumped(self) -> DumpedTable:
        """Return the table, its chains in the order in which they are listed."""
        for chain, texts in self._more.items():
            self._texts[chain] += "".join(texts)
        policies = {c.name: c.policy for c in self._table.chains.values() if c.policy is not None}
        builtin = [chain for chain in BUILTIN_CHAINS.get(self._table.name, ()) if chain in policies]
        user = sorted([chain for chain in self._texts if chain not in policies])
        return DumpedTable(
            self._table.name, policies, {name: self._texts[name] for name in (*builtin, *user)}
        )

    def _declare(self, names: Sequence[str]) -> None:
        """Declare chains; in the order of their listing, which spares sorting them among scattered texts."""
        for name in sorted(names):
            self._texts[name] = ""
            self._more.pop(name, None)

    def _append_rules(self, command: AppendRules) -> None:
        self._add(command.chain, self._append(command.chain, command.rules))

    def _append_alike(self, command: AppendAlike) -> None:
        for chain, text in zip(command.chains, self._patterns.write_each(command), strict=True):
            self._add(chain, text)

    def _add(self, chain: str, text: str) -> None:
        """Chains that many commands append to are joined once."""
        if self._texts[chain]:
            self._more.setdefault(chain, []).append(text)
        else:
            self._texts[chain] = text
