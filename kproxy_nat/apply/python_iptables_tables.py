"""Tables of ip_tables by python-iptables: printing them, and changing them in one commit.

Each table is opened anew for each piece of work, in the namespace of the calling thread: the library's own
objects for tables are kept for good, and stay bound to the namespace where they were made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from iptc.ip4tc import IPTCError

from kproxy_nat.apply.changes import FamilyChange, TableChange
from kproxy_nat.apply.python_iptables_rules import LAYOUTS, RuleReader, RuleWriter, UntranslatableError
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.apply.running import RuleRefusedError
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.net.addresses import IpFamily

_COMMAND = re.compile(r"(?:\[(\d+):(\d+)\] )?-([ADIX]) (\S+)(?: (\d+)(?= |$))?(.*)")
_NAME = "python-iptables"
_BYTES = re.compile(r"b'(.*)'")
"""How the library puts what libiptc says into its messages."""


class Command(NamedTuple):
    """A line of a restore text: ``kind`` is ``:`` or the letter of the option; ``arguments`` of a rule.

    ``rule`` is the line of iptables-save; ``entry`` the rule in the library's form, where one comes.
    """

    kind: str
    chain: str
    position: int = 0
    rule: str = ""
    entry: Any = None


@contextmanager
def _open_table(family: IpFamily, name: str) -> Iterator[Any]:
    """Open a table in the namespace of the calling thread; the kernel makes it if need be.

    Nothing is changed before the table's ``commit``. The library's cache of tables is passed by.
    """
    kind = LAYOUTS[family].table
    table = object.__new__(kind)
    with _errors_named(f"table {name}"):
        table._init(name, False)
    try:
        yield table
    finally:
        table.close()


def dump_table(family: IpFamily, name: str, *, counters: bool) -> str:
    """Return a table as iptables-save prints it; without ``counters`` of rules, those of policies are there.

    Raises:
        ApplyError: a rule is there that the installed extensions do not know.
    """
    heads: list[str] = []
    rules: list[str] = []
    with _open_table(family, name) as table, RuleReader(LAYOUTS[family]) as reader:
        for chain in _chain_names(table):
            policy, counted = table.get_policy(chain)
            packets, size = counted or (0, 0)
            heads.append(f":{chain} {policy.name if policy else '-'} [{packets}:{size}]\n")
            for entry, line in _rules(table, chain, reader):
                count = f"[{entry.counters.pcnt}:{entry.counters.bcnt}] " if counters else ""
                rules.append(f"{count}{line}\n")
    return "".join((f"*{name}\n", *heads, *rules, "COMMIT\n"))


def _chain_names(table: Any) -> list[str]:
    with _errors_named(f"table {table.name}: chains cannot be read"):
        return [chain.name for chain in table.chains]


def _rules(table: Any, chain: str, reader: RuleReader) -> Iterator[tuple[Any, str]]:
    """Yield the rules of a chain, with the lines that iptables-save prints."""
    position = 1
    entry = table.first_rule(chain)
    while entry:
        with _errors_named(f"table {table.name}: rule {position} of chain {chain} cannot be read"):
            line = f"-A {chain}{reader.arguments(table, entry)}"
        yield entry, line
        entry = table.next_rule(entry)
        position += 1


def translated(family: IpFamily, part: TableChange) -> list[Command]:
    """Return the commands that carry out a change.

    Raises:
        ApplyError: a rule cannot be expressed, or leads nowhere.
    """
    lines = restore_text(FamilyChange(family, (part,))).split("\n")[1:-2]
    chains = {_declared(line) for line in lines if line.startswith(":")}
    with _open_table(family, part.table) as table:
        chains.update(_chain_names(table))
    writer = RuleWriter(LAYOUTS[family], chains)
    return [_command(line, writer) for line in lines]


def change_table(family: IpFamily, name: str, commands: Sequence[Command], *, commit: bool) -> None:
    """Carry out commands, all of them or none; without ``commit`` they are only tried.

    Raises:
        ApplyError: one of them is refused, or the kernel refuses the whole.
    """
    with _open_table(family, name) as table:
        for command in commands:
            with _errors_named(f"table {name}", command.rule):
                _OPERATIONS[command.kind](family, table, command)
        if commit:
            with _errors_named(f"table {name}"):
                table.commit()


def _declared(line: str) -> str:
    return line[1:].partition(" ")[0]


def _command(line: str, writer: RuleWriter) -> Command:
    if line.startswith(":"):
        return Command(":", _declared(line))
    found = _COMMAND.fullmatch(line)
    if found is None:
        raise _refusal(f"not understood: {line}")
    packets, size, kind, chain, position, arguments = found.groups()
    rule = f"-A {chain}{arguments}"
    entry = None
    if kind in "AI":
        with _errors_named("not translated", rule):
            entry = writer.entry(arguments, (int(packets or 0), int(size or 0)))
    return Command(kind, chain, int(position or 0), rule, entry)


def _declare(_: IpFamily, table: Any, command: Command) -> None:
    if table.is_chain(command.chain):
        table.flush_entries(command.chain)
    else:
        table.create_chain(command.chain)


def _append(_: IpFamily, table: Any, command: Command) -> None:
    table.append_entry(command.chain, command.entry)


def _insert(_: IpFamily, table: Any, command: Command) -> None:
    table.insert_entry(command.chain, command.entry, command.position - 1)


def _delete(family: IpFamily, table: Any, command: Command) -> None:
    """Delete the first rule with that line; the table was read under the lock, so its place is certain."""
    with RuleReader(LAYOUTS[family]) as reader:
        lines = [line for _, line in _rules(table, command.chain, reader)]
    if command.rule not in lines:
        raise _refusal(f"table {table.name}: a rule to be deleted is not there", command.rule)
    name = command.chain.encode(errors="surrogateescape")
    if table._iptc.iptc_delete_num_entry(name, lines.index(command.rule), table._handle) != 1:
        raise _refusal(f"table {table.name}: {table.strerror().decode()}", command.rule)


def _delete_chain(_: IpFamily, table: Any, command: Command) -> None:
    table.delete_chain(command.chain)


_OPERATIONS: Mapping[str, Callable[[IpFamily, Any, Command], None]] = {
    ":": _declare,
    "A": _append,
    "D": _delete,
    "I": _insert,
    "X": _delete_chain,
}


@contextmanager
def _errors_named(what: str, rule: str = "") -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (IPTCError, UntranslatableError, UnicodeError) as error:
        said = _BYTES.sub(r"\1", str(error))
        raise _refusal(f"{what}: {said}", rule) from None


def _refusal(message: str, rule: str = "") -> ApplyError:
    if "Permission denied" in message:
        return ApplyError(Problem(Code.NOT_PERMITTED, f"{_NAME}: {message}", hint="run as root"))
    hint = f"the rule is: {rule}" if rule else "the iptables tools may know more: --engine restore"
    return RuleRefusedError(Problem(Code.RULES_REFUSED, message, subject=_NAME, hint=hint), rule)
