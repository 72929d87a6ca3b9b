"""Transactions: the commands of an iptables-restore file, and what they make of a rule set.

A rule file in save form is a transaction too, one that declares and appends. So parsing text and applying
it are two steps, and the same evaluation serves dumps, kube-proxy's own transactions and hand-written
scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.patterns import RulePattern
from kproxy_nat.ruleset.rules import Chain, Counters, Rule, RuleOrigin, Ruleset, Table, empty_table
from kproxy_nat.ruleset.wellformed import targets


class Command(msgspec.Struct, frozen=True, gc=False):
    """The base of all commands."""


class DeclareChain(Command, frozen=True, gc=False):
    """``:NAME POLICY [packets:bytes]``: create or empty a user chain; set the policy of a built-in one."""

    name: str
    policy: str | None = None
    counters: Counters = (0, 0)


class DeclareChains(Command, frozen=True, gc=False):
    """``:NAME - [0:0]`` for each of several user chains."""

    names: Sequence[str]


class AppendRules(Command, frozen=True, gc=False):
    """``-A``, a line for each rule."""

    chain: str
    rules: Sequence[Rule]


class AppendAlike(Command, frozen=True, gc=False):
    """``-A`` to each of several chains: the rules that ``pattern`` makes.

    ``words`` are columns, as long as ``chains``: each holds one word for every chain.
    """

    pattern: RulePattern
    chains: Sequence[str]
    words: Sequence[Sequence[str]]
    origin: RuleOrigin | None = None


class InsertRule(Command, frozen=True, gc=False):
    """``-I``: before the rule at ``position``, from 1."""

    chain: str
    rule: Rule
    position: int = 1


class ReplaceRule(Command, frozen=True, gc=False):
    """``-R``."""

    chain: str
    rule: Rule
    position: int


class DeleteRule(Command, frozen=True, gc=False):
    """``-D`` by content: the first rule that is equal."""

    chain: str
    rule: Rule


class DeleteRuleAt(Command, frozen=True, gc=False):
    """``-D`` by position, from 1."""

    chain: str
    position: int


class NewChain(Command, frozen=True, gc=False):
    """``-N``."""

    name: str


class DeleteChain(Command, frozen=True, gc=False):
    """``-X``; without a name, every empty user chain."""

    name: str | None = None


class FlushChain(Command, frozen=True, gc=False):
    """``-F``; without a name, every chain."""

    name: str | None = None


class ZeroCounters(Command, frozen=True, gc=False):
    """``-Z``: set counters to zero, of one chain or of all."""

    name: str | None = None


class RenameChain(Command, frozen=True, gc=False):
    """``-E``."""

    name: str
    new_name: str


class SetPolicy(Command, frozen=True, gc=False):
    """``-P``."""

    chain: str
    policy: str


class TableTransaction(msgspec.Struct):
    """The commands for one table, in order; ``lines`` are their line numbers, where they come from a text."""

    table: str
    commands: list[Command] = []
    lines: list[int] = []


class Transaction(msgspec.Struct):
    """Commands for the tables of one family."""

    family: IpFamily
    tables: list[TableTransaction] = []


class TransactionError(Exception):
    """A command that cannot be carried out: the kernel would refuse the whole transaction."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def evaluate(transaction: Transaction, base: Ruleset | None = None) -> Ruleset:
    """Return what ``transaction`` makes of ``base``, or of nothing; ``base`` is left as it is.

    Tables and chains that the transaction does not name stay (``--noflush``).

    Raises:
        TransactionError: a command names a chain or rule that is not there.
    """
    tables = {name: _copy_table(table) for name, table in base.tables.items()} if base else {}
    for part in transaction.tables:
        table = tables.setdefault(part.table, empty_table(part.table))
        for position, command in enumerate(part.commands):
            try:
                _HANDLERS[type(command)](table, command)
            except TransactionError as error:
                line = part.lines[position] if position < len(part.lines) else 0
                raise TransactionError(error.message, line) from None
    return Ruleset(transaction.family, tables)


def _copy_table(table: Table) -> Table:
    chains = {c.name: Chain(c.name, list(c.rules), c.policy, c.counters) for c in table.chains.values()}
    return Table(table.name, chains)


def _chain(table: Table, name: str) -> Chain:
    chain = table.chains.get(name)
    if chain is None:
        raise TransactionError(f"table {table.name} has no chain {name}")
    return chain


def _declare(table: Table, command: DeclareChain) -> None:
    known = table.chains.get(command.name)
    if known is not None and known.policy is not None:
        known.policy, known.counters = command.policy or known.policy, command.counters
    else:
        table.chains[command.name] = Chain(command.name, [], command.policy, command.counters)


def _declare_all(table: Table, command: DeclareChains) -> None:
    for name in command.names:
        _declare(table, DeclareChain(name))


def _append(table: Table, command: AppendRules) -> None:
    _chain(table, command.chain).rules.extend(command.rules)


def _append_alike(table: Table, command: AppendAlike) -> None:
    for chain, *words in zip(command.chains, *command.words, strict=True):
        _chain(table, chain).rules.extend(command.pattern.rules(chain, words, command.origin))


def _insert(table: Table, command: InsertRule) -> None:
    rules = _chain(table, command.chain).rules
    if not 1 <= command.position <= len(rules) + 1:
        raise TransactionError(f"chain {command.chain} has {len(rules)} rules, none at {command.position}")
    rules.insert(command.position - 1, command.rule)


def _replace(table: Table, command: ReplaceRule) -> None:
    rules = _chain(table, command.chain).rules
    _check_position(command.chain, rules, command.position)
    rules[command.position - 1] = command.rule


def _delete(table: Table, command: DeleteRule) -> None:
    rules = _chain(table, command.chain).rules
    wanted = canonical_rule(command.rule)
    for position, rule in enumerate(rules):
        if canonical_rule(rule) == wanted:
            del rules[position]
            return
    raise TransactionError(f"chain {command.chain} has no such rule to delete")


def _delete_at(table: Table, command: DeleteRuleAt) -> None:
    rules = _chain(table, command.chain).rules
    _check_position(command.chain, rules, command.position)
    del rules[command.position - 1]


def _check_position(chain: str, rules: list[Rule], position: int) -> None:
    if not 1 <= position <= len(rules):
        raise TransactionError(f"chain {chain} has {len(rules)} rules, none at {position}")


def _new_chain(table: Table, command: NewChain) -> None:
    if command.name in table.chains:
        raise TransactionError(f"table {table.name} has a chain {command.name} already")
    table.chains[command.name] = Chain(command.name, [])


def _delete_chain(table: Table, command: DeleteChain) -> None:
    if command.name is None:
        names = [chain.name for chain in table.chains.values() if chain.policy is None]
    else:
        names = [_chain(table, command.name).name]
    for name in names:
        chain = table.chains[name]
        if chain.policy is not None or chain.rules:
            raise TransactionError(f"chain {name} is {'not empty' if chain.rules else 'built in'}")
        users = [user.name for user in table.chains.values() if name in targets(user)]
        if users:
            raise TransactionError(f"chain {name} cannot be deleted: {users[0]} leads to it")
    for name in names:
        del table.chains[name]


def _flush(table: Table, command: FlushChain) -> None:
    for chain in [_chain(table, command.name)] if command.name else table.chains.values():
        chain.rules.clear()


def _zero(table: Table, command: ZeroCounters) -> None:
    for chain in [_chain(table, command.name)] if command.name else table.chains.values():
        chain.counters = (0, 0)
        chain.rules[:] = [Rule(r.matches, r.actions, r.origin) if r.counters else r for r in chain.rules]


def _rename(table: Table, command: RenameChain) -> None:
    chain = _chain(table, command.name)
    if chain.policy is not None:
        raise TransactionError(f"chain {command.name} is built in, so it keeps its name")
    if command.new_name in table.chains:
        raise TransactionError(f"table {table.name} has a chain {command.new_name} already")
    del table.chains[command.name]
    chain.name = command.new_name
    table.chains[command.new_name] = chain
    for user in table.chains.values():
        user.rules[:] = [_retargeted(rule, command.name, command.new_name) for rule in user.rules]


def _retargeted(rule: Rule, old: str, new: str) -> Rule:
    """Return ``rule`` leading to the chain ``new`` where it led to ``old``."""
    if not any(isinstance(action, Jump | Goto) and action.chain == old for action in rule.actions):
        return rule
    actions = tuple(
        type(a)(new) if isinstance(a, Jump | Goto) and a.chain == old else a for a in rule.actions
    )
    return Rule(rule.matches, actions, rule.origin, rule.counters)


def _set_policy(table: Table, command: SetPolicy) -> None:
    chain = _chain(table, command.chain)
    if chain.policy is None:
        raise TransactionError(f"chain {command.chain} is not built in, so it has no policy")
    chain.policy = command.policy


_HANDLERS: dict[type[Command], Callable[[Table, Any], None]] = {
    DeclareChain: _declare,
    DeclareChains: _declare_all,
    AppendRules: _append,
    AppendAlike: _append_alike,
    InsertRule: _insert,
    ReplaceRule: _replace,
    DeleteRule: _delete,
    DeleteRuleAt: _delete_at,
    NewChain: _new_chain,
    DeleteChain: _delete_chain,
    FlushChain: _flush,
    ZeroCounters: _zero,
    RenameChain: _rename,
    SetPolicy: _set_policy,
}
