"""The lock of the legacy iptables tools, one for all namespaces of a machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from kproxy_nat.errors import ApplyError, Code, Problem

LOCK_VARIABLE = "XTABLES_LOCKFILE"
"""Names another file for the lock to the tools, and to us."""

_LOCK_FILE = "/run/xtables.lock"


class XtablesLock:
    """The lock, which is held by whoever has its open file: a process that inherits it, until that ends.

    Args:
        wait: seconds to wait for it.

    Attributes:
        descriptor: the open file, while it is held.
    """

    def __init__(self, wait: int) -> None:
        self._wait = wait
        self.descriptor: int | None = None

    @contextmanager
    def held(self, wait: int | None = None) -> Iterator[None]:
        """Hold the lock; within a context in which it is held, this does nothing.

        Args:
            wait: seconds to wait, if they are others than usual.

        Raises:
            ApplyError: somebody else held it for so long, or its file cannot be opened.
        """
        if self.descriptor is not None:
            yield
            return
        descriptor = _open()
        try:
            _take(descriptor, self._wait if wait is None else wait)
            self.descriptor = descriptor
            yield
        finally:
            self.descriptor = None
            os.close(descriptor)


def _path() -> str:
    return os.environ.get(LOCK_VARIABLE) or _LOCK_FILE


def _open() -> int:
    try:
        return os.open(_path(), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        message = f"cannot open {_path()}: {error.strerror}"
        raise ApplyError(Problem(Code.NOT_PERMITTED, message, hint="run as root")) from None
    except OSError as error:
        raise _not_to_be_had(f"cannot open {_path()}: {error.strerror}") from None


def _take(descriptor: int, wait: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise _busy(f"another program holds {_path()}") from None
        if not _gets_its_turn(descriptor, wait):
            raise _busy(f"another program has held {_path()} for {wait} s") from None
    except OSError as error:
        raise _not_to_be_had(f"cannot lock {_path()}: {error.strerror}") from None


def _gets_its_turn(descriptor: int, wait: int) -> bool:
    """Wait in the line that the kernel keeps: who only asks now and then might always come too late.

    The thread that waits there has a descriptor of its own of the same open file. When its turn comes after
    we have closed ours, the lock ends with its own.
    """
    taken = Event()
    in_line = os.dup(descriptor)

    def wait_in_line() -> None:
        try:
            with suppress(OSError):
                fcntl.flock(in_line, fcntl.LOCK_EX)
                taken.set()
        finally:
            os.close(in_line)

    Thread(target=wait_in_line, name="xtables-lock", daemon=True).start()
    return taken.wait(wait)


def _busy(message: str) -> ApplyError:
    hint = "try again, or wait longer with --wait"
    return ApplyError(Problem(Code.XTABLES_LOCKED, message, hint=hint))


def _not_to_be_had(message: str) -> ApplyError:
    hint = f"iptables-legacy needs that lock; {LOCK_VARIABLE} names another file to all programs"
    return ApplyError(Problem(Code.XTABLES_LOCKED, message, hint=hint))
