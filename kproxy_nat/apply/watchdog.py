"""A process that outlives the one that changes rules, and brings the old ones back when that one dies.

It is told by lines on its standard input what to watch over; the end of that input without ``done`` means
that the other process is gone. It runs in a session of its own, and ignores the signals of a terminal that
goes away. Deadlines are in seconds of the monotonic clock, which on Linux is one for all processes, and which
nobody sets (clock_gettime(2)).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

import kproxy_nat
from kproxy_nat.apply.engines import engines_for, find_tools
from kproxy_nat.apply.generations import Generation, add_note
from kproxy_nat.apply.locking import Lock, wait_until_idle
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.recovery import PATIENCE, recover
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Variant
from kproxy_nat.errors import ApplyError, Code, KproxyNatError, Problem
from kproxy_nat.json_text import json_line, parse_json_text

_IMPORT_PATH = str(Path(kproxy_nat.__file__).parents[1])
"""Where this package is; the working directory, which anybody may own, is no place to import from."""
_READY = b"ready\n"
_GRACE = 2.0
"""Seconds after which a process that should have taken the rules back itself counts as stuck."""
_PAUSE = 0.2
_PATIENCE = 600
"""Seconds to wait for what a killed process had started."""


class Orders(msgspec.Struct, frozen=True):
    """What a watchdog has to know."""

    label: str
    is_host: bool
    path: str
    descriptor: int
    folder: str
    variant: Variant | None


class Watchdog:
    """The end of the process that is watched over; see :class:`kproxy_nat.apply.execution.Watch`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def over(self, generation: Generation) -> None:
        """See :class:`Watch`; raises ApplyError if it did not start."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != _READY:
            self._process.kill()
            raise _not_running(f"it ended with status {self._process.wait()}")
        self._tell(f"over {generation.path.name}")

    def until_confirmed(self, seconds: float) -> None:
        """See :class:`Watch`."""
        self._tell(f"confirm {time.monotonic() + seconds}")

    def decided(self) -> None:
        """See :class:`Watch`."""
        self._tell("decided")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise _not_running(str(error.strerror)) from None


@contextmanager
def watchdog(site: Site, variant: Variant | None, lock: Lock) -> Iterator[Watchdog]:
    """Start a watchdog; it takes over when we die, or when the block leaves something unfinished behind.

    It takes a while to start, and is waited for only when it is told what to watch over.
    """
    namespace = site.namespace
    orders = Orders(
        namespace.label,
        namespace.is_host,
        str(namespace.path),
        namespace.descriptor,
        str(site.folder),
        variant,
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "kproxy_nat.apply.watchdog", json_line(orders)],
        env={**os.environ, "PYTHONPATH": _IMPORT_PATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(namespace.descriptor, lock.writer),
    )
    try:
        yield Watchdog(process)
    finally:
        _dismiss(process, finished=site.generations.unfinished() is None)


def _dismiss(process: subprocess.Popen[bytes], *, finished: bool) -> None:
    """Let the watchdog go; what is unfinished it does when we have given the locks back, so do not wait."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if finished:
            process.stdin.write(b"done\n")
        process.stdin.close()
    except OSError:
        process.kill()
    process.stdout.close()
    if finished:
        process.wait()


def main(arguments: Sequence[str]) -> None:
    """Watch until dismissed, or until the other process is gone."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    orders = parse_json_text(arguments[0], Orders)
    watched = os.getppid()
    os.write(1, _READY)
    generation: Generation | None = None
    deadline: float | None = None
    for line in _lines(0):
        if line is None:
            if deadline is not None and time.monotonic() > deadline + _GRACE:
                os.kill(watched, signal.SIGKILL)
                break
            continue
        word, _, argument = line.partition(" ")
        if word == "done":
            return
        if word == "over":
            generation = Generation(Path(orders.folder) / argument)
        elif word == "confirm":
            deadline = float(argument)
        elif word == "decided":
            deadline = None
    if generation is not None:
        _wait_for_confirmation(generation, deadline)
        _recover(orders, generation)


def _lines(descriptor: int) -> Iterator[str | None]:
    """Yield the lines that come in, and ``None`` every now and then while none does."""
    pending = b""
    while True:
        if not select.select([descriptor], [], [], _PAUSE)[0]:
            yield None
            continue
        read = os.read(descriptor, 4096)
        if not read:
            return
        *lines, pending = (pending + read).split(b"\n")
        yield from (line.decode() for line in lines)


def _wait_for_confirmation(generation: Generation, deadline: float | None) -> None:
    while deadline is not None and time.monotonic() < deadline and not generation.is_confirmed:
        time.sleep(_PAUSE)


def _recover(orders: Orders, generation: Generation) -> None:
    folder = Path(orders.folder)
    try:
        with (
            wait_until_idle(folder, orders.label, _PATIENCE) as busy,
            _namespace(orders) as namespace,
        ):
            engines = engines_for(find_tools(namespace, orders.variant), PATIENCE, (busy,))
            site = Site(namespace, engines, folder)
            if not generation.path.exists():  # It was finished just before the end.
                return
            add_note(folder, recover(site, generation, lambda problem: add_note(folder, problem.message)))
    except KproxyNatError as error:
        add_note(folder, f"the watchdog could not bring back what was there before: {error}")


def _namespace(orders: Orders) -> Namespace:
    return Namespace(orders.label, Path(orders.path), orders.descriptor, is_host=orders.is_host)


def _not_running(reason: str) -> ApplyError:
    message = f"the watchdog does not run: {reason}"
    return ApplyError(Problem(Code.STATE_UNUSABLE, message, hint="nothing was changed"))


if __name__ == "__main__":
    main(sys.argv[1:])
