"""A second table that serves while all Services of the first are led another way.

A transaction of nftables is not seen at one moment by a packet that is on its way. The packet takes a chain's
rules as they were when it came to the chain, and the elements of a set as they are when it comes to the set
(nft_do_chain, nft_rhash_lookup): between both, for less than a microsecond, lies the transaction of some
packet, which finds no Service, and whose connection is refused. One endpoint's change concerns few packets of
few Services; a change of layout concerns all of them. So there a copy of the old or the new rules stands
beside, in a table of its own and behind the first by one priority: it is asked only where that has found
nothing. Services' connections go to the endpoints of one or the other.

The second table belongs to the process that has made it (``flags owner``, since Linux 5.12): the kernel
removes it when that ends, however it does.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kproxy_nat.apply.changes import ChainChange
from kproxy_nat.apply.running import memory_file, tool_environment
from kproxy_nat.formats.iptables_dump import DumpedTable
from kproxy_nat.formats.nft_dump import SET_REFERENCE
from kproxy_nat.lowering.nftables_names import NODE_PORTS_MAP, SERVICES_MAP, TABLE

STANDBY = f"{TABLE}-standby"

_PRIORITY = re.compile(r"(?<= priority )-?\d+(?=;)")
_COMMENT = ' comment "'
_VERDICT = " : "
_JUMP = re.compile(r"(?:goto|jump) ([^\s,}]+)")
_COMPLAINT = "rror: "


def standby_blocks(old: DumpedTable, new: DumpedTable) -> tuple[ChainChange, ...]:
    """Return what the second table has to hold, nothing if none is needed.

    It is needed where most Services are led another way than before. It holds what is less of the two.
    """
    if not _are_led_elsewhere(old, new):
        return ()
    smaller = min(new, old, key=lambda table: sum(map(len, table.chains.values())))
    return tuple(ChainChange(key, None, _behind(block)) for key, block in smaller.chains.items())


@contextmanager
def standing_by(tool: Path, script: str, inherited: Sequence[int]) -> Iterator[None]:
    """Have the second table while the context lasts. Where there can be none, we do without it.

    Args:
        tool: nft. It makes the table, and waits.
        script: makes the table; empty if none is needed.
        inherited: open files that the tool gets, too.
    """
    if not script:
        yield
        return
    with memory_file(script) as file, ExitStack() as stack:
        with suppress(OSError):  # Whoever needs the tool next says that it cannot be run.
            process = stack.enter_context(_waiting_nft(tool, (*inherited, file.fileno())))
            _wait_until_made(process, file.fileno())
        yield


@contextmanager
def _waiting_nft(tool: Path, files: Sequence[int]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [tool, "--interactive"],
        # It would keep what it was told in a file in the user's home.
        env={**tool_environment(), "HOME": os.devnull},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=files,
    )
    try:
        yield process
    finally:
        process.communicate()


def _wait_until_made(process: subprocess.Popen[str], descriptor: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    # The second line is no command: nft complains of it when the first is done, or of that one before.
    process.stdin.write(f'include "/proc/self/fd/{descriptor}"\nfinished\n')
    process.stdin.flush()
    next((line for line in process.stdout if _COMPLAINT in line), None)


def _are_led_elsewhere(old: DumpedTable, new: DumpedTable) -> bool:
    """Tell whether most Services of both are led another way, by their verdicts or by chains behind them."""
    changed = {name for name, block in old.chains.items() if new.chains.get(name) != block}
    there: list[tuple[str, str]] = []
    for name in (f"map {SERVICES_MAP}", f"map {NODE_PORTS_MAP}"):
        before, after = (_verdicts(table.chains.get(name, "")) for table in (old, new))
        there += [(before[key], after[key]) for key in before.keys() & after.keys()]
    elsewhere = sum(before != after for before, after in there)
    if 2 * (elsewhere + len(changed)) <= len(there):
        return False  # A chain that is changed serves one of them, or two.
    reach = _Reach(old, changed)
    elsewhere += sum(reach.changed(before) for before, after in there if before == after)
    return 2 * elsewhere > len(there)


class _Reach:
    """Which verdicts lead to blocks that are changed, directly or by way of others."""

    def __init__(self, table: DumpedTable, changed: Set[str]) -> None:
        self._blocks = table.chains
        self._known = dict.fromkeys(changed, True)

    def changed(self, verdict: str) -> bool:
        return any(self._leads_there(name) for name in _names(verdict))

    def _leads_there(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = False
            self._known[name] = self.changed(self._blocks.get(name, ""))
        return self._known[name]


def _names(rules: str) -> list[str]:
    """Return the blocks that rules lead to."""
    return [f"chain {name}" for name in _JUMP.findall(rules)] + [
        f"{kind} {name}" for name in SET_REFERENCE.findall(rules) for kind in ("map", "set")
    ]


def _verdicts(block: str) -> dict[str, str]:
    """Return where the elements of a map lead, by their keys."""
    verdicts: dict[str, str] = {}
    for line in block.splitlines()[1:]:
        key, _, verdict = line.rpartition(_VERDICT)
        verdicts[key.partition(_COMMENT)[0]] = verdict
    return verdicts


def _behind(block: str) -> tuple[str, ...]:
    """Return the lines of an object of a table that is asked after the one which has it now."""
    first, *others = block.splitlines() or [""]
    lines = (_PRIORITY.sub(lambda found: str(int(found[0]) + 1), first), *others)
    return lines if block else ()
