"""Processes of the command line, what befalls them, and when they are done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kproxy_nat.apply.execution import Step
from kproxy_nat.apply.recovery import WayBack
from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import Bench, environment


def driven(
    bench: Bench, step: Step | WayBack, action: str, command: str, *arguments: str | Path, also: str = ""
) -> list[str]:
    """Return the words of a command to which something happens; ``also`` something else at another step."""
    own = bench.command(command, *arguments)
    faults = f"{step}={action},{also}".rstrip(",")
    return [sys.executable, "-m", "tests.apply.driver", faults, *own[3:]]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(), check=False, capture_output=True, text=True)


@contextmanager
def started(command: list[str], cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a process; it is gone in the end."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def locks_are_free(bench: Bench) -> bool:
    """Tell whether nobody works on the namespace any more: also the watchdog is done."""
    found = [(bench.folder / name).stat() for name in ("lock", "busy")]
    return not held_locks() & {_lock_name(each) for each in found}


def held_locks() -> set[str]:
    """Return the files that are locked."""
    return {line.split()[5] for line in Path("/proc/locks").read_text().splitlines() if "->" not in line}


def awaited_locks() -> set[str]:
    """Return the files whose locks somebody waits for."""
    return {line.split()[6] for line in Path("/proc/locks").read_text().splitlines() if "->" in line}


def lock_name(path: Path) -> str:
    """Return the name of a file in /proc/locks."""
    return _lock_name(path.stat())


def _lock_name(found: os.stat_result) -> str:
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def is_stopped(process: subprocess.Popen[str]) -> bool:
    """Tell whether a process is, by a signal."""
    assert process.poll() is None
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


State = tuple[dict[IpFamily, str], str, set[str]]


def state(bench: Bench) -> State:
    """Return all that an apply changes: rules, the setting and the accounting objects."""
    return bench.dump(), bench.sysctl(), bench.nfacct()
