"""The command line, with something that happens when a step of a change, or of the way back, is done.

``python -m tests.apply.driver STEP=ACTION[,STEP=ACTION...] ARGUMENT...``; the arguments are those of
``kproxy-nat``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from kproxy_nat.apply.execution import Step
from kproxy_nat.apply.recovery import WayBack
from kproxy_nat.cli.main import main
from kproxy_nat.cli.report import Reporter

WATCHDOG = b"kproxy_nat.apply.watchdog"


def watchdogs() -> list[int]:
    """Return the watchdogs that this process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and WATCHDOG in command:
            found.append(int(path.parent.name))
    return found


def _kill_all() -> None:
    for process in watchdogs():
        os.kill(process, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _signal(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _signal(signal.SIGKILL),
    "kill all": _kill_all,
    "stop": _signal(signal.SIGSTOP),
    "interrupt": _signal(signal.SIGINT),
}


def _run() -> None:
    wanted = [fault.split("=") for fault in sys.argv.pop(1).split(",")]
    actions = {step: ACTIONS[action] for step, action in wanted}
    assert actions.keys() <= {*Step, *WayBack}

    def explain(_: Reporter, message: str) -> None:
        if message in actions:
            actions[message]()

    setattr(Reporter, "explain", explain)  # noqa: B010 # an assignment would have to be of the same type
    main()


if __name__ == "__main__":
    _run()
