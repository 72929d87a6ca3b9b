"""The lock of the legacy iptables tools, one for all namespaces of a machine."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kproxy_nat.errors import ApplyError, Code, Problem

LOCK_VARIABLE = "XTABLES_LOCKFILE"
"""Names another file for the lock to the tools, and to us."""

_LOCK_FILE = "/run/xtables.lock"
_PAUSE = 0.05


@contextmanager
def xtables_lock(wait: int) -> Iterator[int]:
    """Take the lock, and yield its open file; a process that inherits that holds the lock until it ends.

    Args:
        wait: seconds to wait for it.

    Raises:
        ApplyError: somebody else held it for so long.
    """
    path = os.environ.get(LOCK_VARIABLE) or _LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot open {path}: {error.strerror or error}"
        raise ApplyError(Problem(Code.NOT_PERMITTED, message, hint="run as root")) from None
    try:
        deadline = time.monotonic() + wait
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                message = f"another program has held {path} for {wait} s"
                hint = "try again, or wait longer with --wait"
                raise ApplyError(Problem(Code.XTABLES_LOCKED, message, hint=hint))
            time.sleep(_PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
