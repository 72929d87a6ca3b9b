"""The smallest change that makes live rules what they should be, foreign rules untouched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from kproxy_nat.apply import ownership
from kproxy_nat.apply.changes import ChainChange, FamilyChange, Lines, TableChange
from kproxy_nat.errors import ApplyError, Code, InvalidInputError, Problem, Severity
from kproxy_nat.formats.iptables_dump import Dump, DumpedTable, join_dump, rule_counters
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.lowering.chain_names import KUBELET_FIREWALL
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Rule

_UNREADABLE_MARK = "is incompatible, use 'nft' tool"
_UNREADABLE = re.compile(rf"^# Table `(\w+)' {_UNREADABLE_MARK}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LiveRules:
    """What the kernel holds: the text of ``iptables-save --counters``, and the same cut into chains."""

    text: str
    dump: Dump


def plan_change(live: LiveRules, wanted: Dump, counted: str | None = None) -> FamilyChange:
    """Return the change from ``live`` to ``wanted``, which holds our chains, and jumps in built-in ones.

    Our chains that ``wanted`` lacks are deleted. In built-in chains, jumps that are missing are put first,
    as kube-proxy does; where foreign rules there are those of ``wanted``, its order is restored. Rules of
    chains that are written anew get the counters that they have in the dump ``counted``, or else live.

    Raises:
        ApplyError: a foreign rule leads to a chain that would be deleted, or a table cannot be read.
    """
    change = difference(live, wanted, counted)
    _refuse_used_chains(live.dump, change)
    return change


def difference(live: LiveRules, wanted: Dump, counted: str | None = None) -> FamilyChange:
    """Return what :func:`plan_change` does, though it could not be carried out.

    Raises:
        ApplyError: a table cannot be read.
    """
    unreadable = unreadable_tables(live)
    if unreadable and owned_rules(wanted):
        raise ApplyError(*map(cannot_read, unreadable))
    source = LiveRules(live.text if counted is None else counted, live.dump)
    tables = (_table_change(source, wanted, name) for name in ownership.TABLES)
    return FamilyChange(wanted.family, tuple(table for table in tables if table.chains))


def unreadable_tables(live: LiveRules) -> list[str]:
    """Return the tables, as nft names them, of which no rule is listed since one cannot be put into words.

    The nf_tables variant says so in a comment, where somebody has written what only nft has words for.
    """
    found = _UNREADABLE.findall(live.text) if _UNREADABLE_MARK in live.text else []
    return [f"{NFT_FAMILIES[live.dump.family]} {name}" for name in found]


def cannot_read(table: str, severity: Severity = Severity.ERROR) -> Problem:
    """Return what to say of a table that cannot be read."""
    message = f"table {table} holds rules that iptables cannot read; what is ours there cannot be told"
    hint = f"nft list table {table} shows them; they belong into a table of another name"
    return Problem(Code.RULES_REFUSED, message, severity, hint=hint)


def owned_part(dump: Dump) -> Dump:
    """Return our chains, and built-in chains with all rules: what :func:`plan_change` can bring back."""
    tables = {}
    for name in ownership.TABLES:
        table = dump.table(name)
        chains = {c: b for c, b in table.chains.items() if c in table.policies or ownership.is_owned(name, c)}
        tables[name] = DumpedTable(name, table.policies, chains)
    return Dump(dump.family, tables)


def owned_rules(dump: Dump) -> list[str]:
    """Return the names of our chains and the lines of our jumps; not what a kubelet looks after, too."""
    shared = _shared_chains(dump)
    jumps = _own_jumps(dump)
    found: list[str] = []
    for name in ownership.TABLES:
        table = dump.table(name)
        found += (c for c in table.user_chains() if ownership.is_owned(name, c) and c not in shared)
        for chain in table.policies:
            found += (line for line in _lines(table.chains[chain]) if line in jumps)
    return found


def foreign_part(dump: Dump) -> str:
    """Return the text of all that is not ours; a table that holds nothing counts as not there."""
    tables = {}
    shared = _shared_chains(dump)
    for name, table in dump.tables.items():
        ours = _own_jumps(dump) if name in ownership.TABLES else frozenset()
        chains = {
            chain: _block(tuple(line for line in _lines(block) if line not in ours))
            for chain, block in table.chains.items()
            if chain in shared or not ownership.is_owned(name, chain)
        }
        if (
            any(chains.values())
            or set(table.policies.values()) - {"ACCEPT"}
            or chains.keys() - table.policies
        ):
            tables[name] = DumpedTable(name, table.policies, chains)
    return join_dump(Dump(dump.family, tables))


def predict(dump: Dump, change: FamilyChange) -> Dump:
    """Return what a dump is after the change, chains in the order in which they are listed."""
    tables = dict(dump.tables)
    for part in change.tables:
        table = dump.table(part.table)
        chains = dict(table.chains)
        for chain in part.chains:
            if chain.after is None:
                chains.pop(chain.name, None)
            else:
                chains[chain.name] = _block(chain.after)
        after = DumpedTable(part.table, table.policies, chains)
        listed = {name: chains[name] for name in (*table.policies, *after.user_chains())}
        tables[part.table] = DumpedTable(part.table, table.policies, listed)
    return Dump(dump.family, tables)


def _table_change(live: LiveRules, wanted: Dump, name: str) -> TableChange:
    old, new = live.dump.table(name), wanted.table(name)
    if old.chains == new.chains:
        return TableChange(name, ())
    changes = [
        *_builtin_changes(old, new, live.dump),
        *_owned_changes(old, new, _shared_chains(live.dump), wanted.family),
    ]
    changes.sort(key=attrgetter("name"))
    written = {change.name for change in changes if change.after}
    counters = rule_counters(live.text, name, written)
    return TableChange(name, tuple(changes), counters)


def _owned_changes(
    old: DumpedTable, new: DumpedTable, kept: frozenset[str], family: IpFamily
) -> Iterator[ChainChange]:
    for chain, before in old.chains.items():
        after = new.chains.get(chain)
        if before == after or (chain in kept and not after) or not ownership.is_owned(old.name, chain):
            continue
        if after is None:
            yield ChainChange(chain, _lines(before), None)
        elif not _same_rules(before, after, old.name, family):
            yield ChainChange(chain, _lines(before), _lines(after))
    for chain, after in new.chains.items():
        if chain not in old.chains and chain not in new.policies:
            yield ChainChange(chain, None, _lines(after))


def _builtin_changes(old: DumpedTable, new: DumpedTable, live: Dump) -> Iterator[ChainChange]:
    ours, removable = ownership.jump_lines(live.family), _own_jumps(live)
    for chain in old.policies:
        before, wanted = _lines(old.chains[chain]), _lines(new.chains.get(chain, ""))
        after = _merged(before, wanted, ours, removable)
        if before != after:
            yield ChainChange(chain, before, after, builtin=True)


def _shared_chains(live: Dump) -> frozenset[str]:
    """Return the chains with names of ours that a kubelet looks after, too."""
    return frozenset((KUBELET_FIREWALL,)) if ownership.shares_firewall(live) else frozenset()


def _own_jumps(live: Dump) -> frozenset[str]:
    """Return our rules in built-in chains, without those that a kubelet looks after, too."""
    lines = ownership.jump_lines(live.family)
    if not ownership.shares_firewall(live):
        return lines
    return frozenset(line for line in lines if not ownership.leads_to_firewall(line))


def _merged(before: Lines, wanted: Lines, ours: frozenset[str], removable: frozenset[str]) -> Lines:
    """Return the rules of a built-in chain with the jumps that are wanted, and no others that may go."""
    foreign = [line for line in before if line not in removable]
    if foreign == [line for line in wanted if line not in removable]:
        return wanted
    present = [line for line in before if line not in removable or line in wanted]
    return (*(line for line in wanted if line in ours and line not in present), *present)


def _same_rules(before: str, after: str, table: str, family: IpFamily) -> bool:
    """Tell rules apart that another version of the tools only prints in another way."""
    try:
        return _parsed(before, table, family) == _parsed(after, table, family)
    except InvalidInputError:
        return False


def _parsed(block: str, table: str, family: IpFamily) -> list[Rule]:
    chain = block.split(maxsplit=2)[1] if block else "NONE"
    parsed = parse_save(f"*{table}\n:{chain} - [0:0]\n{block.rstrip()}\nCOMMIT\n", family)
    return [canonical_rule(rule) for rule in parsed.tables[table].chains[chain].rules]


def _refuse_used_chains(live: Dump, change: FamilyChange) -> None:
    problems = [
        Problem(
            Code.CHAIN_IN_USE,
            f"{part.table}: rule {line} leads to {target}, which is to be deleted",
            hint="remove that rule first; it is not one of ours",
        )
        for part in change.tables
        for line, target in _foreign_uses(live.table(part.table), part, change.family)
    ]
    if problems:
        raise ApplyError(*problems)


def _foreign_uses(table: DumpedTable, part: TableChange, family: IpFamily) -> Iterator[tuple[str, str]]:
    """Yield the rules that would lead to chains which are not there any more, with those chains."""
    deleted = {chain.name for chain in part.chains if chain.after is None}
    if not deleted:
        return
    changed = {chain.name: chain for chain in part.chains}
    for name in (name for name in table.chains if not ownership.is_owned(table.name, name)):
        lines = changed[name].after if name in changed else _lines(table.chains[name])
        for line in lines or ():
            if not deleted.isdisjoint(line.split(" ")):
                yield from ((line, target) for target in _targets(line, table.name, family) & deleted)


def _targets(line: str, table: str, family: IpFamily) -> set[str]:
    """Return the chains that a rule leads to."""
    return {
        a.chain for rule in _parsed(line, table, family) for a in rule.actions if isinstance(a, Jump | Goto)
    }


def _lines(block: str) -> Lines:
    return tuple(block.split("\n")[:-1])


def _block(lines: Lines) -> str:
    return "\n".join((*lines, ""))
