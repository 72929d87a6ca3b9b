"""A second table that serves while all Services of the first are led another way.

A transaction of nftables is not seen at one moment by a packet that is on its way. The packet takes a chain's
rules as they were when it came to the chain, and the elements of a set as they are when it comes to the set
(nft_do_chain, nft_rhash_lookup): between both, for less than a microsecond, lies the transaction of some
packet, which finds no Service, and whose connection is refused. One endpoint's change concerns few packets of
few Services; a change of layout concerns all of them. So there a copy of the old or the new rules stands
beside, in a table of its own and behind the first by one priority: for a translation it is asked only where
that has found none. What either refuses is refused meanwhile.

The second table belongs to the process that has made it (``flags owner``, since Linux 5.12): the kernel
removes it when that ends, however it does.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kproxy_nat.apply.changes import ChainChange
from kproxy_nat.apply.running import memory_file, tool_environment
from kproxy_nat.formats.iptables_dump import DumpedTable
from kproxy_nat.formats.nft_dump import declaration
from kproxy_nat.lowering.layouts import LayoutName
from kproxy_nat.lowering.nftables_names import (
    ENDPOINT_PREFIX,
    ENDPOINTS_PREFIX,
    NODE_PORTS_MAP,
    SERVICES_MAP,
    TABLE,
)

STANDBY = f"{TABLE}-standby"

_PRIORITY = re.compile(r"(?<= priority )-?\d+(?=;)")
_COMPLAINT = "rror: "
_ANONYMOUS_MAP, _UPDATE, _DNAT = " map { ", "update @", " dnat to "


def standby_blocks(old: DumpedTable, new: DumpedTable) -> tuple[ChainChange, ...]:
    """Return what the second table has to hold, nothing if none is needed.

    It is needed where all Services are led another way than before. It holds what is less of the two.
    """
    if not _all_are_led_elsewhere(old, new):
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


def _all_are_led_elsewhere(old: DumpedTable, new: DumpedTable) -> bool:
    """Tell whether the layout changes, or what finds Services is made anew."""
    layouts = _layout(old), _layout(new)
    maps = [f"map {name}" for name in (SERVICES_MAP, NODE_PORTS_MAP)]
    before, after = ([declaration(table.chains.get(name, "")) for name in maps] for table in (old, new))
    return None not in layouts and (before != after or layouts[0] is not layouts[1])


def _layout(table: DumpedTable) -> LayoutName | None:
    """Return the layout by a chain or map that only one has; ``None`` where no endpoint is reached."""
    for name, block in table.chains.items():
        if name.startswith(f"chain {ENDPOINT_PREFIX}") or _ANONYMOUS_MAP in block:
            return LayoutName.KUBE_PROXY
        if name.startswith(f"map {ENDPOINTS_PREFIX}") or (_UPDATE in block and _DNAT in block):
            return LayoutName.COMPACT
    return None


def _behind(block: str) -> tuple[str, ...]:
    """Return the lines of an object of a table that is asked after the one which has it now."""
    declared = declaration(block)
    later = _PRIORITY.sub(lambda found: str(int(found[0]) + 1), declared)
    return tuple((later + block.removeprefix(declared)).splitlines())
