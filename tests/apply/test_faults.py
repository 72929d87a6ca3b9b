"""What can go wrong around a command: it fails in words, and all is as it was before."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy_nat.apply import execution
from kproxy_nat.apply.execution import Step
from kproxy_nat.apply.recovery import WayBack
from kproxy_nat.cli.report import Reporter
from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import (
    NOTHING,
    PATIENCE,
    ROOT,
    TOOLS,
    Bench,
    environment,
    expected,
    put_before,
    wait_until,
)
from tests.apply.processes import (
    awaited_locks,
    driven,
    is_stopped,
    lock_name,
    locks_are_free,
    run,
    started,
    state,
)
from tests.apply.tables import numbered
from tests.kernel.netns import WAIT, requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

LEGACY = pytest.mark.parametrize("variant", ["legacy"], indirect=True)
ONE_VARIANT = pytest.mark.parametrize("variant", ["nft"], indirect=True)
NOBODY = 65534


def at_step(monkeypatch: pytest.MonkeyPatch, step: Step | WayBack, *command: str) -> None:
    """Let a command run when a step is done."""

    def explain(_: Reporter, sentence: str) -> None:
        if sentence == step:
            subprocess.run(command, check=True)

    monkeypatch.setattr(Reporter, "explain", explain)


class TestRestoring:
    @pytest.mark.parametrize("family", IpFamily)
    def test_a_family_that_is_refused(
        self,
        bench: Bench,
        first: Path,
        second: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        family: IpFamily,
    ) -> None:
        """What was loaded before it is taken back, with its counters."""
        bench.done("apply", first)
        for each in IpFamily:
            bench.load(numbered(bench.counted(each)), each, "--counters")
        before = [bench.counted(each) for each in IpFamily]
        script = "cat > /dev/null; echo 'line 3 failed' >&2; exit 1"
        put_before(f"{TOOLS[family]}-{bench.variant}-restore", script, tmp_path / "tools", monkeypatch)
        result = bench.run("apply", second)
        assert result.status == 5
        assert "error[KPN505]" in result.err
        assert "line 3 failed" in result.err
        assert [bench.counted(each) for each in IpFamily] == before
        assert (bench.finished(), bench.unfinished()) == (["0001"], [])

    def test_the_way_back_that_is_refused(
        self, bench: Bench, first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next command takes it."""
        bench.done("apply", first)
        before = state(bench)
        tools, flag = tmp_path / "tools", tmp_path / "once"
        put_before(f"ip6tables-{bench.variant}-restore", "cat > /dev/null; exit 1", tools, monkeypatch)
        script = f'[ -e "{flag}" ] && exit 1; : > "{flag}"; exec "$REAL" "$@"'
        put_before(f"iptables-{bench.variant}-restore", script, tools, monkeypatch)
        with started(bench.command("apply", second)) as process:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 6, err
            assert "error[KPN512]" in err
        wait_until(lambda: locks_are_free(bench))
        for tool in tools.iterdir():
            tool.unlink()
        result = bench.done("apply", first)
        assert "warning[KPN514]" in result.err
        assert state(bench) == before
        assert bench.unfinished() == []

    @ONE_VARIANT
    def test_a_rule_that_somebody_changes_at_once(
        self, bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tool = ["ip", "netns", "exec", bench.name, f"iptables-{bench.variant}"]
        at_step(monkeypatch, Step.IP6TABLES_LOADED, *tool, WAIT, "-t", "nat", "-F", "KUBE-SERVICES")
        result = bench.run("apply", first)
        assert result.status == 5
        message = "iptables: chain KUBE-SERVICES of table nat is not what was loaded"
        assert f"error[KPN511]: {message}" in result.err
        assert bench.dump() == NOTHING
        assert bench.sysctl() == "0"

    @ONE_VARIANT
    def test_a_watchdog_that_does_not_start(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is started before anything is changed, and waited for."""
        before = state(bench)
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        loaded: list[str] = []
        monkeypatch.setattr(Reporter, "explain", lambda _, step: loaded.append(step))
        result = bench.run("apply", first)
        assert result.status == 5
        assert "error[KPN508]: the watchdog does not run: it ended with status 3" in result.err
        assert Step.WATCHED not in loaded
        assert state(bench) == before
        assert (bench.finished(), bench.unfinished()) == ([], [])

    @ONE_VARIANT
    def test_a_second_interrupt(self, bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C while the old rules come back: the watchdog takes over."""

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(execution, "take_back", interrupted)
        at_step(monkeypatch, Step.IPTABLES_LOADED, "kill", "-INT", str(os.getpid()))
        assert bench.run("apply", first).status == 130
        wait_until(lambda: locks_are_free(bench))
        assert bench.dump() == NOTHING
        assert bench.unfinished() == []
        assert "was cut off; what was there before was brought back" in bench.done("delete").err


class TestNamespace:
    @pytest.mark.parametrize("step", [Step.REHEARSED, Step.IPTABLES_LOADED, Step.VERIFIED])
    @ONE_VARIANT
    def test_deleted_meanwhile(
        self, bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch, step: Step
    ) -> None:
        at_step(monkeypatch, step, "ip", "netns", "del", bench.name)
        result = bench.run("apply", first)
        assert result.status == 5
        assert f"error[KPN501]: namespace {bench.name} was deleted meanwhile" in result.err
        assert bench.finished() == []
        monkeypatch.undo()
        subprocess.run(["ip", "netns", "add", bench.name], check=True)
        bench.done("apply", first)
        assert bench.dump() == expected(first)
        assert bench.finished() == ["0001"]


class TestStateDirectory:
    @contextmanager
    def _mounted(self, bench: Bench, size: str) -> Iterator[None]:
        bench.state_dir.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "kpn", bench.state_dir], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", bench.state_dir], check=True)

    @ONE_VARIANT
    @pytest.mark.parametrize("room", [1, 2, 4])
    def test_full(self, bench: Bench, first: Path, room: int) -> None:
        """With as many pages left."""
        before = state(bench)
        with self._mounted(bench, "64k"):
            (bench.state_dir / "other").write_bytes(b"x" * (16 - room) * os.sysconf("SC_PAGE_SIZE"))
            result = bench.run("apply", first)
            assert result.status == 5
            assert "error[KPN508]: cannot write the state directory: No space left on device" in result.err
            assert state(bench) == before
            (bench.state_dir / "other").unlink()
            bench.done("apply", first)
            assert bench.dump() == expected(first)

    @ONE_VARIANT
    def test_without_room_for_a_lock(self, bench: Bench, first: Path) -> None:
        with self._mounted(bench, "64k"):
            (bench.state_dir / "other").write_bytes(b"x" * 16 * os.sysconf("SC_PAGE_SIZE"))
            result = bench.run("apply", first)
            assert result.status == 5
            assert "error[KPN508]" in result.err

    @ONE_VARIANT
    @pytest.mark.parametrize("used", [False, True])
    def test_read_only(self, bench: Bench, first: Path, used: bool) -> None:
        with self._mounted(bench, "1m"):
            if used:
                bench.done("apply", first)
                bench.done("delete")
            before = state(bench)
            subprocess.run(["mount", "-o", "remount,ro", bench.state_dir], check=True)
            result = bench.run("apply", first)
            assert result.status == 5
            assert "error[KPN508]" in result.err
            assert "Read-only file system" in result.err
            assert state(bench) == before


class TestLocks:
    @LEGACY
    def test_the_lock_of_the_tools_is_held(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        lock = tmp_path / "xtables.lock"
        before = state(bench)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            result = bench.run("apply", first, "--wait", "1")
        assert result.status == 5
        assert "error[KPN506]: another program has held" in result.err
        assert state(bench) == before
        assert (bench.finished(), bench.unfinished()) == ([], [])

    @LEGACY
    def test_the_lock_of_the_tools_is_not_waited_for(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        with (tmp_path / "xtables.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            result = bench.run("apply", first, "--wait", "0")
        assert result.status == 5
        assert "error[KPN506]: another program holds" in result.err

    @LEGACY
    def test_who_waits_for_the_lock_of_the_tools_can_be_interrupted(
        self, bench: Bench, first: Path, tmp_path: Path
    ) -> None:
        lock = tmp_path / "xtables.lock"
        before = state(bench)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with started(bench.command("apply", first, "--wait", "3600")) as process:
                wait_until(lambda: lock_name(lock) in awaited_locks())
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) == 130
        assert state(bench) == before
        assert (bench.finished(), bench.unfinished()) == ([], [])

    @LEGACY
    def test_nobody_writes_between_two_families(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at_step(monkeypatch, Step.IPTABLES_LOADED, "sh", "-c", f"! flock -n {tmp_path}/xtables.lock true")
        bench.done("apply", first, "--wait", "0")
        assert bench.dump() == expected(first)

    @LEGACY
    def test_others_write_while_somebody_may_confirm(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They may be in the way when nobody does; the way back has patience, whatever --wait says."""
        before = state(bench)
        others = f"flock {tmp_path}/xtables.lock sleep 3 &"
        at_step(monkeypatch, Step.VERIFIED, "sh", "-c", others)
        result = bench.run("apply", first, "--confirm", "1", "--wait", "0")
        assert result.status == 5
        assert "error[KPN513]" in result.err
        assert (state(bench), bench.unfinished()) == (before, [])

    @LEGACY
    def test_nobody_writes_between_two_families_on_the_way_back(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = state(bench)
        at_step(monkeypatch, WayBack.IPTABLES_BACK, "sh", "-c", f"! flock -n {tmp_path}/xtables.lock true")
        assert bench.run("apply", first, "--confirm", "1").status == 5
        assert (state(bench), bench.unfinished()) == (before, [])

    @LEGACY
    def test_the_lock_of_the_tools_is_waited_for(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        lock = tmp_path / "xtables.lock"
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with started(bench.command("apply", first, "--wait", "600")) as process:
                wait_until(lambda: lock_name(lock) in awaited_locks())
                assert process.poll() is None
                fcntl.flock(held, fcntl.LOCK_UN)
                _, err = process.communicate()
                assert process.returncode == 0, err
        assert bench.dump() == expected(first)

    @ONE_VARIANT
    def test_two_at_once(self, bench: Bench, first: Path, second: Path) -> None:
        """The second is told whom it waits for, and finds what the first has done."""
        with started(driven(bench, Step.IPTABLES_LOADED, "stop", "apply", first)) as process:
            wait_until(lambda: is_stopped(process))
            result = bench.run("apply", second, "--wait", "0")
            assert result.status == 5
            message = f"process {process.pid} is changing the rules of {bench.name}"
            assert f"error[KPN507]: {message}" in result.err
            assert bench.dump()[IpFamily.IPV6] == ""
            with started(bench.command("apply", second, "--wait", "600")) as other:
                assert other.stderr is not None
                assert f"{message}; waiting up to 600 s" in other.stderr.readline()
                process.send_signal(signal.SIGCONT)
                assert process.wait() == 0
                assert other.wait() == 0
        assert bench.dump() == expected(second)
        bench.done("rollback")
        assert bench.dump() == expected(first)

    @ONE_VARIANT
    def test_plan_and_another_namespace_do_not_wait(self, bench: Bench, first: Path) -> None:
        with started(driven(bench, Step.RECORDED, "stop", "apply", first)) as process:
            wait_until(lambda: is_stopped(process))
            bench.done("plan", first, "--wait", "0")
            other = f"{bench.name}-b"
            try:
                given = ["--netns", other, "--create", "--wait", "0", *bench.options[2:]]
                assert bench.main("apply", str(first), *given).status == 0
            finally:
                subprocess.run(["ip", "netns", "del", other], check=True)
            process.send_signal(signal.SIGCONT)
            assert process.wait() == 0
        assert bench.dump() == expected(first)


class TestPrivileges:
    @ONE_VARIANT
    @pytest.mark.parametrize("command", ["apply", "plan", "delete", "rollback", "status"])
    def test_nobody(self, bench: Bench, first: Path, command: str) -> None:
        before = bench.dump()
        sources = [first] if command in ("apply", "plan") else []
        done = as_nobody(bench.command(command, *sources))
        assert done.returncode == 5
        assert "error[KPN502]" in done.stderr
        assert "help: run as root" in done.stderr
        assert "Traceback" not in done.stderr
        assert bench.dump() == before

    @ONE_VARIANT
    def test_nobody_creates(self, bench: Bench, first: Path) -> None:
        own = bench.command("apply", first, "--create")
        done = as_nobody([f"{bench.name}-b" if word == bench.name else word for word in own])
        assert done.returncode == 5
        assert "error[KPN502]" in done.stderr
        assert "Traceback" not in done.stderr
        assert not Path("/run/netns", f"{bench.name}-b").exists()


def as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    probe = subprocess.run([*user, sys.executable, "-c", "import kproxy_nat"], check=False, env=environment())
    if probe.returncode:
        pytest.skip(f"{ROOT} cannot be read by everybody")
    return run([*user, *command])
