"""Transactions of nftables: the commands of a script, and what they make of tables.

As with iptables, a listing is a script too, one that adds everything. So reading text and applying it are two
steps, and listings, kube-proxy's transactions and updates share one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kproxy_nat.ruleset.actions import DnatMap, UpdateSet
from kproxy_nat.ruleset.keys import Key, KeyValue
from kproxy_nat.ruleset.matches import Protocol
from kproxy_nat.ruleset.nft_values import INTEGER, SERVICE, transport_of
from kproxy_nat.ruleset.rules import Chain, Hook, Rule, Table
from kproxy_nat.ruleset.sets import DYNAMIC, Element, NamedSet, ordered_flags
from kproxy_nat.ruleset.transactions import TransactionError

DEFAULT_DYNAMIC_SIZE = 65535
"""The size of a set that rules add to, where none is given."""


class NftCommand(msgspec.Struct, frozen=True, gc=False):
    """The base of all commands."""


class AddTable(NftCommand, frozen=True, gc=False):
    """``add table``: make the table, unless it is there."""

    comment: str = ""


class DeleteTable(NftCommand, frozen=True, gc=False):
    """``delete table``: with everything in it."""


class AddChain(NftCommand, frozen=True, gc=False):
    """``add chain``: make the chain, unless it is there; with a hook it is a base chain, and has a policy."""

    name: str
    hook: Hook | None = None
    comment: str = ""
    policy: str | None = None


class FlushChain(NftCommand, frozen=True, gc=False):
    """``flush chain``: delete its rules."""

    name: str


class DeleteChain(NftCommand, frozen=True, gc=False):
    """``delete chain``."""

    name: str


class AddRule(NftCommand, frozen=True, gc=False):
    """``add rule``: at the end of the chain."""

    chain: str
    rule: Rule


class AddSet(NftCommand, frozen=True, gc=False):
    """``add set`` or ``add map``: make it, unless it is there. Its elements are added, in either case."""

    set: NamedSet


class FlushSet(NftCommand, frozen=True, gc=False):
    """``flush set``: delete its elements."""

    name: str


class DeleteSet(NftCommand, frozen=True, gc=False):
    """``delete set``."""

    name: str


class AddElement(NftCommand, frozen=True, gc=False):
    """``add element``, to a set or map."""

    set: str
    element: Element


class DeleteElement(NftCommand, frozen=True, gc=False):
    """``delete element``."""

    set: str
    key: KeyValue


class NftTableTransaction(msgspec.Struct):
    """Commands for one table, in order; ``lines`` are their line numbers, where they come from a text."""

    family: str
    table: str
    commands: list[NftCommand] = []
    lines: list[int] = []


def evaluate_nft(parts: Iterable[NftTableTransaction], base: Iterable[Table] = ()) -> list[Table]:
    """Return what the commands make of the tables of ``base``, which are left as they are.

    Raises:
        TransactionError: a command names something that is not there, or contradicts what is there.
    """
    tables = {(table.family, table.name): _copy_table(table) for table in base}
    for part in parts:
        key = (part.family, part.table)
        for position, command in enumerate(part.commands):
            try:
                if isinstance(command, AddTable):
                    tables.setdefault(key, Table(part.table, family=part.family, comment=command.comment))
                elif key not in tables:
                    raise TransactionError(f"no table {part.family} {part.table}")
                elif isinstance(command, DeleteTable):
                    del tables[key]
                else:
                    _HANDLERS[type(command)](tables[key], command)
            except TransactionError as error:
                line = part.lines[position] if position < len(part.lines) else 0
                raise TransactionError(error.message, line) from None
    return list(tables.values())


def _copy_table(table: Table) -> Table:
    chains = {
        name: Chain(name, list(c.rules), c.policy, c.counters, c.hook, c.comment)
        for name, c in table.chains.items()
    }
    return Table(table.name, chains, table.family, table.comment, _copy_sets(table.sets))


def _copy_sets(sets: dict[str, NamedSet]) -> dict[str, NamedSet]:
    return {
        name: msgspec.structs.replace(named, elements=dict(named.elements)) for name, named in sets.items()
    }


def _chain(table: Table, name: str) -> Chain:
    chain = table.chains.get(name)
    if chain is None:
        raise TransactionError(f"table {table.name} has no chain {name}")
    return chain


def _set(table: Table, name: str) -> NamedSet:
    found = table.sets.get(name)
    if found is None:
        raise TransactionError(f"table {table.name} has no set or map {name}")
    return found


def _add_chain(table: Table, command: AddChain) -> None:
    known = table.chains.get(command.name)
    if known is None:
        policy = (command.policy or "ACCEPT") if command.hook else None
        table.chains[command.name] = Chain(
            command.name, policy=policy, hook=command.hook, comment=command.comment
        )
    elif command.hook and command.hook != known.hook:
        raise TransactionError(f"chain {command.name} is there already, with another hook or without")
    elif command.policy:
        known.policy = command.policy


def _add_rule(table: Table, command: AddRule) -> None:
    _chain(table, command.chain).rules.append(command.rule)
    for action in command.rule.actions:
        if isinstance(action, UpdateSet):
            _make_dynamic(_set(table, action.name))
        if isinstance(action, DnatMap) and isinstance(action.map, str):
            _tell_transport(_set(table, action.map), action.key, command.rule)


def _make_dynamic(named: NamedSet) -> None:
    """Give a set that a rule adds to what nft gives it, unless it was declared."""
    named.size = named.size or DEFAULT_DYNAMIC_SIZE
    if DYNAMIC not in named.flags:
        named.flags = ordered_flags((DYNAMIC, *named.flags))


def _tell_transport(named: NamedSet, key: Key, rule: Rule) -> None:
    """Give a map whose declaration names a protocol that of its rule; nft's JSON has the types only."""
    has_ports = SERVICE in (*named.key_types, *named.value_types)
    if INTEGER in named.key_types and has_ports and not named.transport:
        protocols = (m.name for m in rule.matches if isinstance(m, Protocol) and not m.negated)
        named.transport = transport_of(key) or next(protocols, "")


def _flush_chain(table: Table, command: FlushChain) -> None:
    _chain(table, command.name).rules.clear()


def _delete_chain(table: Table, command: DeleteChain) -> None:
    _chain(table, command.name)
    del table.chains[command.name]


def _add_set(table: Table, command: AddSet) -> None:
    new = command.set
    known = table.sets.get(new.name)
    if known is None:
        table.sets[new.name] = msgspec.structs.replace(new, elements=dict(new.elements))
    elif (known.key_types, known.value_types) != (new.key_types, new.value_types):
        raise TransactionError(f"set {new.name} is there already, with other types")
    else:
        known.elements.update(new.elements)


def _flush_set(table: Table, command: FlushSet) -> None:
    _set(table, command.name).elements.clear()


def _delete_set(table: Table, command: DeleteSet) -> None:
    _set(table, command.name)
    del table.sets[command.name]


def _add_element(table: Table, command: AddElement) -> None:
    elements = _set(table, command.set).elements
    known = elements.setdefault(command.element.key, command.element)
    if known.value != command.element.value:
        raise TransactionError(f"map {command.set} has another value for this key already")


def _delete_element(table: Table, command: DeleteElement) -> None:
    if _set(table, command.set).elements.pop(command.key, None) is None:
        raise TransactionError(f"set {command.set} has no such element to delete")


_HANDLERS: dict[type[NftCommand], Callable[[Table, Any], None]] = {
    AddChain: _add_chain,
    FlushChain: _flush_chain,
    DeleteChain: _delete_chain,
    AddRule: _add_rule,
    AddSet: _add_set,
    FlushSet: _flush_set,
    DeleteSet: _delete_set,
    AddElement: _add_element,
    DeleteElement: _delete_element,
}
