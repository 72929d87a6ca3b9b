"""Rules that have to be confirmed: they stay if somebody says so, and go by themselves otherwise."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apply.bench import Bench, environment, expected, wait_until
from tests.apply.processes import locks_are_free, started, state
from tests.kernel.netns import requires_kernel

pytestmark = [
    pytest.mark.kernel,
    requires_kernel,
    pytest.mark.parametrize("variant", ["nft"], indirect=True),
]

LONG = "600"
IN_PLACE = "in place"


@contextmanager
def waiting(bench: Bench, source: Path, seconds: str = LONG) -> Iterator[subprocess.Popen[str]]:
    """Start an apply, and wait until it waits for its confirmation."""
    with started(bench.command("apply", source, "--confirm", seconds)) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert IN_PLACE in line, line + process.stderr.read()
        yield process


@pytest.fixture
def before(bench: Bench, second: Path) -> object:
    """Apply a first revision; return the state with it."""
    bench.done("apply", second)
    return state(bench)


def test_from_another_process(bench: Bench, before: object, first: Path) -> None:
    with waiting(bench, first) as process:
        assert bench.dump() == expected(first)
        result = bench.done("confirm")
        assert "confirmed the apply of" in result.err
        assert process.wait() == 0
    assert bench.dump() == expected(first)
    assert (bench.finished(), bench.unfinished()) == (["0001", "0002"], [])
    assert "error[KPN518]" in bench.run("confirm").err
    bench.done("rollback")
    assert state(bench) == before


@pytest.mark.parametrize("named", ["by its name", "by its path", "as the host's own"])
def test_the_command_that_is_told(bench: Bench, before: object, first: Path, named: str) -> None:
    """It can be given to a shell, also where names need quotes, and records are elsewhere than usual."""
    odd = bench.state_dir.with_name("state of 'mine'")
    options = {
        "by its name": ["--netns", bench.name],
        "by its path": ["--netns", f"/proc/self/cwd/{bench.name}"],
        "as the host's own": ["--host"],
    }[named]
    inside = ["ip", "netns", "exec", bench.name] if named == "as the host's own" else []
    words = [*bench.command("apply", first)[:5], *options, "--state-dir", str(odd), "--confirm", LONG]
    place = Path("/run/netns") if named == "by its path" else Path.cwd()
    with started([*inside, *words], cwd=place) as process:
        assert process.stderr is not None
        told = re.search(r"confirm with: kproxy-nat (.+); the old rules", process.stderr.readline())
        assert told
        program = shlex.join([*inside, sys.executable, "-m", "kproxy_nat"])
        subprocess.run(f"{program} {told[1]}", shell=True, check=True, env=environment())
        assert process.wait() == 0
    assert bench.dump() == expected(first)


def test_too_late(bench: Bench, before: object, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken back at the very moment when somebody confirms."""
    with waiting(bench, first) as process:
        touch = Path.touch

        def after_the_end(path: Path) -> None:
            process.send_signal(signal.SIGINT)
            process.wait()
            touch(path)

        monkeypatch.setattr(Path, "touch", after_the_end)
        result = bench.run("confirm")
    assert result.status == 1
    assert "error[KPN518]" in result.err
    assert state(bench) == before


def test_nobody_confirms(bench: Bench, before: object, first: Path) -> None:
    with waiting(bench, first, "1") as process:
        assert process.wait() == 5
        assert process.stderr is not None
        assert "error[KPN513]: not confirmed within 1 s" in process.stderr.read()
    assert state(bench) == before
    assert (bench.finished(), bench.unfinished()) == (["0001"], [])
    assert "KPN514" not in bench.done("apply", first).err


def test_settings_come_back_too(bench: Bench, first: Path) -> None:
    nothing = state(bench)
    with waiting(bench, first, "1") as process:
        assert process.wait() == 5
    assert state(bench) == nothing


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_the_caller_dies(bench: Bench, before: object, first: Path, number: signal.Signals) -> None:
    """The old rules come back by themselves."""
    with waiting(bench, first, "2") as process:
        process.send_signal(number)
        assert process.wait() == -number
    wait_until(lambda: locks_are_free(bench))
    assert state(bench) == before
    assert bench.unfinished() == []
    result = bench.done("apply", first)
    assert "was not confirmed; what was there before was brought back" in result.err


def test_the_caller_dies_and_somebody_confirms(bench: Bench, before: object, first: Path) -> None:
    with waiting(bench, first) as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait() == -signal.SIGHUP
    assert bench.dump() == expected(first)
    bench.done("confirm")
    wait_until(lambda: locks_are_free(bench))
    assert bench.dump() == expected(first)
    assert bench.finished() == ["0001", "0002"]
    result = bench.done("rollback")
    assert "carried to the end" in result.err
    assert state(bench) == before


def test_the_caller_is_stopped(bench: Bench, before: object, first: Path) -> None:
    """The watchdog ends it, and brings the old rules back."""
    with waiting(bench, first, "1") as process:
        process.send_signal(signal.SIGSTOP)
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: locks_are_free(bench))
    assert state(bench) == before
    assert bench.unfinished() == []


def test_ctrl_c(bench: Bench, before: object, first: Path) -> None:
    with waiting(bench, first) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert state(bench) == before
    assert bench.unfinished() == []


def test_another_command_meanwhile(bench: Bench, before: object, first: Path) -> None:
    with waiting(bench, first) as process:
        result = bench.run("delete", "--wait", "0")
        assert result.status == 5
        assert "error[KPN507]" in result.err
        assert "kproxy-nat confirm" in result.err
        assert bench.dump() == expected(first)
        bench.done("confirm")
        assert process.wait() == 0


def test_nothing_waits(bench: Bench, before: object) -> None:
    result = bench.run("confirm")
    assert result.status != 0
    assert "error[KPN518]" in result.err
    assert state(bench) == before


def test_nothing_to_change_needs_no_confirmation(bench: Bench, before: object, second: Path) -> None:
    result = bench.done("apply", second, "--confirm", LONG)
    assert result.out == f"{bench.name}: nothing to change\n"


@pytest.mark.parametrize(
    "typed, kept",
    [("y\n", True), ("YES\n", True), ("what?\ny\n", True), ("n\n", False), ("\x04", False), ("\x03", False)],
)
def test_at_a_terminal(bench: Bench, before: object, first: Path, typed: str, kept: bool) -> None:
    """Also with end of file (Ctrl-D) and an interrupt (Ctrl-C)."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *bench.command("apply", first, "--confirm", LONG)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
    )
    os.close(slave)
    with process, os.fdopen(master, "r+b", buffering=0) as terminal:
        shown = read_until(terminal.fileno(), b"type y to keep it, n to go back")
        terminal.write(typed.encode())
        shown += read_until(terminal.fileno(), None)
    if kept:
        assert process.returncode == 0, shown
        assert bench.dump() == expected(first)
    else:
        assert process.returncode == (130 if typed == "\x03" else 5), shown
        assert state(bench) == before
    assert bench.unfinished() == []


def read_until(terminal: int, text: bytes | None) -> bytes:
    """Return what is shown up to a text, or to the end."""
    shown = b""
    while text is None or text not in shown:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # The other end is closed.
            part = b""
        if not part:
            assert text is None, shown
            return shown
        shown += part
    return shown
