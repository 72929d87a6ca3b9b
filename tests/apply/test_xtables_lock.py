"""The lock of the legacy tools."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.apply.xtables_lock import LOCK_VARIABLE, XtablesLock
from kproxy_nat.errors import ApplyError, Code
from tests.apply.bench import wait_until
from tests.apply.processes import awaited_locks, held_locks, lock_name


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setenv(LOCK_VARIABLE, str(path))
    return path


@pytest.fixture
def other(path: Path) -> Iterator[int]:
    """Hold the lock, as another program would."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def refusal(lock: XtablesLock, wait: int | None = None) -> tuple[Code, str]:
    with pytest.raises(ApplyError) as caught, lock.held(wait):
        pytest.fail("it was had")
    [problem] = caught.value.problems
    return problem.code, problem.message


def test_held_while_the_outermost_context_lasts(path: Path) -> None:
    lock = XtablesLock(0)
    with lock.held():
        with lock.held():
            assert lock_name(path) in held_locks()
        assert lock_name(path) in held_locks()
    assert lock_name(path) not in held_locks()
    assert lock.descriptor is None


def test_a_process_that_inherits_it_holds_it(path: Path) -> None:
    lock = XtablesLock(0)
    with lock.held():
        assert lock.descriptor is not None
        inherited = os.dup(lock.descriptor)
    assert lock_name(path) in held_locks()
    os.close(inherited)
    assert lock_name(path) not in held_locks()


def test_how_long_it_is_waited_for(path: Path, other: int) -> None:
    lock = XtablesLock(1)
    assert refusal(lock) == (Code.XTABLES_LOCKED, f"another program has held {path} for 1 s")
    assert refusal(lock, 0) == (Code.XTABLES_LOCKED, f"another program holds {path}")
    assert lock.descriptor is None


def test_a_turn_that_comes_too_late_is_given_away(path: Path, other: int) -> None:
    lock = XtablesLock(1)
    refusal(lock)
    assert lock_name(path) in awaited_locks()
    fcntl.flock(other, fcntl.LOCK_UN)
    wait_until(lambda: lock_name(path) not in held_locks() | awaited_locks())
    with lock.held(0):
        pass


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "nowhere" / "lock"))
    code, message = refusal(XtablesLock(0))
    assert code is Code.XTABLES_LOCKED
    assert message == f"cannot open {tmp_path}/nowhere/lock: No such file or directory"
