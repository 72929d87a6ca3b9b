"""One writer for a namespace at a time, and none before the kernel has taken what an earlier one wrote.

Locks of flock(2) belong to the open file, so whoever inherits it holds the lock, too: the watchdog holds that
of a command that was killed, and an ``iptables-restore`` that outlives it keeps the namespace busy until it
is done.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.errors import ApplyError, Code, Problem

_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Lock:
    """The descriptors of the two locks: ``writer`` for the watchdog, ``busy`` for the tools."""

    writer: int
    busy: int


@contextmanager
def locked(folder: Path, label: str, wait: float, waiting: Callable[[str], None]) -> Iterator[Lock]:
    """Hold the locks of a namespace, waiting up to ``wait`` seconds for who has them.

    Args:
        folder: the namespace's folder in the state directory.
        label: the namespace's name, for messages.
        wait: seconds.
        waiting: is told once whom we wait for.

    Raises:
        ApplyError: somebody else kept them.
    """
    writer = _open(folder / "lock")
    try:
        _take(writer, label, wait, waiting)
        _sign(writer, folder)
        with _busy(folder, label, wait, waiting) as busy:
            yield Lock(writer, busy)
    finally:
        os.close(writer)


@contextmanager
def wait_until_idle(folder: Path, label: str, wait: float) -> Iterator[int]:
    """Hold the busy lock alone: for a watchdog, which has inherited the other."""
    with _busy(folder, label, wait, lambda _: None) as busy:
        yield busy


@contextmanager
def _busy(folder: Path, label: str, wait: float, waiting: Callable[[str], None]) -> Iterator[int]:
    busy = _open(folder / "busy")
    try:
        _take(busy, label, wait, waiting)
        yield busy
    finally:
        os.close(busy)


def _sign(writer: int, folder: Path) -> None:
    """Write our process id into the lock, for those who wait for it."""
    try:
        os.ftruncate(writer, 0)
        os.pwrite(writer, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise _unusable(f"cannot write {folder / 'lock'}", error) from None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(f"cannot open {path}", error) from None


def _take(descriptor: int, label: str, wait: float, waiting: Callable[[str], None]) -> None:
    deadline = time.monotonic() + wait
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            who = f"process {holder}" if holder else "a program started by kproxy-nat"
            message = f"{who} is changing the rules of {label}"
            if time.monotonic() >= deadline:
                hint = "try again, or wait with --wait; if it waits to be confirmed: kproxy-nat confirm"
                raise ApplyError(Problem(Code.APPLY_UNDER_WAY, message, hint=hint)) from None
            if not told:
                waiting(f"{message}; waiting up to {wait:g} s")
                told = True
            time.sleep(_PAUSE)
        else:
            return


def _unusable(message: str, error: OSError) -> ApplyError:
    hint = "--state-dir names another directory"
    return ApplyError(Problem(Code.STATE_UNUSABLE, f"{message}: {error.strerror}", hint=hint))
