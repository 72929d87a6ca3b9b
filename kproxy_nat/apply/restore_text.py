"""A change as text for ``iptables-restore --noflush --counters``."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence

from kproxy_nat.apply.changes import ChainChange, FamilyChange, Lines, TableChange

COMMIT = "COMMIT\n"

_APPEND = "-A "


def restore_text(change: FamilyChange) -> str:
    """Return the transactions of a change, one for each table, in their order.

    A chain that is declared is emptied; chains that are not named stay as they are, and so do their counters.
    They are declared from the last to the first: the tools keep chains sorted, and look for the place of a
    new one from the front. What rules may jump to they look up in other lists, which begin with what was
    declared last (libxtables 1.8.9): there KUBE-MARK-MASQ, to which most rules jump, comes early, too.
    """
    return "".join(restore_parts(change))


def restore_parts(change: FamilyChange) -> Iterator[str]:
    """Yield the same in parts: of each table what it declares, its rules, and :data:`COMMIT`."""
    for table in change.tables:
        own = [chain for chain in table.chains if not chain.builtin]
        yield declarations(table.table, [chain.name for chain in own])
        yield _text(_commands(table, own, [chain for chain in table.chains if chain.builtin]))
        yield COMMIT


def declarations(table: str, chains: Sequence[str]) -> str:
    """Return the part that declares user chains, which are given in their order."""
    return _text([f"*{table}", *[f":{chain} - [0:0]" for chain in reversed(chains)]])


def _commands(table: TableChange, own: list[ChainChange], builtin: list[ChainChange]) -> list[str]:
    lines: list[str] = []
    for chain in builtin:
        lines += _deletions(chain)
    for chain in own:
        lines += _counted(chain.after or (), table)
    for chain in builtin:
        lines += _insertions(chain, table)
    lines += [f"-X {chain.name}" for chain in own if chain.after is None]
    return lines


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""])


def _counted(lines: Lines, table: TableChange) -> Sequence[str]:
    return [_counts(line, table) + line for line in lines] if table.counters else lines


def _counts(line: str, table: TableChange) -> str:
    counters = table.counters.get(line)
    return f"[{counters}] " if counters else ""


def _deletions(chain: ChainChange) -> Iterator[str]:
    """Delete by content: a number could hit another rule if somebody else was quicker."""
    before, after = chain.before or (), chain.after or ()
    kept = _unambiguous(before, after)
    yield from (f"-D {line.removeprefix(_APPEND)}" for line in before if line not in kept)
    for kind, start, end, _, _ in _steps(kept, after):
        if kind in ("delete", "replace"):
            for line in kept[start:end]:
                yield f"-D {line.removeprefix(_APPEND)}"


def _insertions(chain: ChainChange, table: TableChange) -> Iterator[str]:
    """Insert from the front, so that each rule's number is its place in the end."""
    before, after = chain.before or (), chain.after or ()
    for kind, _, _, start, end in _steps(_unambiguous(before, after), after):
        if kind in ("insert", "replace"):
            for position, line in enumerate(after[start:end], start=start + 1):
                arguments = line.removeprefix(f"{_APPEND}{chain.name}")
                yield f"{_counts(line, table)}-I {chain.name} {position}{arguments}"


def _unambiguous(before: Lines, after: Lines) -> Lines:
    """Return the rules without those of which some copies go: which one -D takes cannot be chosen.

    All copies go, then, and those that stay are inserted anew.
    """
    some = {line for line, count in Counter(before).items() if count > 1 and after.count(line) != count}
    return tuple(line for line in before if line not in some)


def _steps(before: Lines, after: Lines) -> Sequence[tuple[str, int, int, int, int]]:
    return difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
