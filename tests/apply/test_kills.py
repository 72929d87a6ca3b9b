"""A command that is killed at whatever step: rules are the old or the new ones, and it is told which."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import pytest

from kproxy_nat.apply.execution import Step
from kproxy_nat.apply.recovery import WayBack
from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import NOTHING, Bench, expected, put_before, wait_until
from tests.apply.processes import State, driven, locks_are_free, run, started, state
from tests.kernel.netns import VARIANTS, requires_kernel
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, service

pytestmark = [pytest.mark.kernel, requires_kernel]

BOTH_BY_TURNS = list(zip(Step, itertools.cycle(VARIANTS), strict=False))
WAYS_BACK_BY_TURNS = list(zip(WayBack, itertools.cycle(VARIANTS), strict=False))
ONE_VARIANT = pytest.mark.parametrize("variant", ["nft"], indirect=True)

NOT_BEGUN = (Step.REHEARSED,)
COMPLETE = (Step.SYSCTLS_OPENED, Step.VERIFIED, Step.CONFIRMED)
"""All rules and settings are in place."""

BROUGHT_BACK = "was cut off; what was there before was brought back"
CARRIED_TO_THE_END = "was cut off after all its rules were in place; it was carried to the end"


@pytest.mark.parametrize("step", Step)
def test_killed_at(bench: Bench, first: Path, second: Path, step: Step) -> None:
    """The watchdog notices; the next command says what came of it."""
    before = state(bench)
    done = run(driven(bench, step, "kill", "apply", first))
    assert done.returncode == -signal.SIGKILL, done
    wait_until(lambda: locks_are_free(bench))
    finished = step in (*COMPLETE, Step.FINISHED)
    if step is not Step.RECORDED:  # The watchdog has not been told yet.
        assert bench.unfinished() == []
    if finished:
        assert bench.dump() == expected(first)
        assert bench.sysctl() == "1"
        assert bench.finished() == ["0001"]
    else:
        assert state(bench) == before
        assert bench.finished() == []
    result = bench.done("apply", second)
    assert bench.dump() == expected(second)
    assert bench.unfinished() == []
    assert told(result.err) == told_after(step)


@pytest.mark.parametrize("step, variant", BOTH_BY_TURNS, indirect=["variant"])
def test_killed_with_its_watchdog_at(bench: Bench, first: Path, second: Path, step: Step) -> None:
    """The next command notices, before anything else, and says what came of it."""
    bench.done("apply", second)
    before = state(bench)
    bench.set_sysctl("net.ipv4.conf.all.route_localnet", "0")
    done = run(driven(bench, step, "kill all", "apply", first))
    assert done.returncode == -signal.SIGKILL, done
    wait_until(lambda: locks_are_free(bench))
    result = bench.done("rollback")
    assert told(result.err) == told_after(step)
    assert bench.unfinished() == []
    if step in (*COMPLETE, Step.FINISHED):  # It was taken back by the rollback.
        assert bench.dump() == before[0]
    else:  # It was taken back before the rollback, which took back the one before.
        assert bench.dump() == NOTHING
    assert bench.sysctl() == "0"


@ONE_VARIANT
def test_those_that_only_read_notice_too(bench: Bench, first: Path, second: Path) -> None:
    said = f"{bench.name}: another command is under way, or was cut off"
    bench.done("apply", second)
    assert said not in bench.run("plan", first).err + bench.run("status").out
    run(driven(bench, Step.IPTABLES_LOADED, "kill all", "apply", first))
    wait_until(lambda: locks_are_free(bench))
    for _ in range(2):
        assert f"{said}; apply brings it to an end first\n" in bench.run("plan", first).err
        assert f"{said}\n" in bench.run("status").out
        assert json.loads(bench.run("status", "-o", "json").out)["unfinished"]
    bench.done("apply", first)
    assert said not in bench.run("plan", second).err + bench.run("status").out


def told(stderr: str) -> list[str]:
    """Return what was told of an apply that was cut off."""
    marker = "kproxy-nat: warning[KPN514]: an apply of "
    return [line.partition(marker)[2].partition(" ")[2] for line in stderr.splitlines() if "KPN514" in line]


def told_after(step: Step) -> list[str]:
    if step in (*NOT_BEGUN, Step.FINISHED):
        return []
    return [CARRIED_TO_THE_END if step in COMPLETE else BROUGHT_BACK]


@pytest.mark.parametrize("family, variant", list(zip(IpFamily, VARIANTS, strict=True)), indirect=["variant"])
def test_killed_while_the_tool_works(
    bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: IpFamily
) -> None:
    """The watchdog lets the tool end first, and then brings back what was there before."""
    before = state(bench)
    tool = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}[family]
    began, go = tmp_path / "began", tmp_path / "go"
    script = f'cat > "{tmp_path}/text"; : > "{began}"; until [ -e "{go}" ]; do sleep 0.05; done\n'
    script += f'exec "$REAL" "$@" < "{tmp_path}/text"'
    put_before(f"{tool}-{bench.variant}-restore", script, tmp_path / "tools", monkeypatch)
    try:
        with started(bench.command("apply", first)) as process:
            wait_until(began.exists)
            process.kill()
            process.communicate()
            assert bench.unfinished() == ["0001.unfinished"]
            assert not locks_are_free(bench)
            text = "" if family is IpFamily.IPV4 else expected(first)[IpFamily.IPV4]
            assert bench.dump() == {IpFamily.IPV4: text, IpFamily.IPV6: ""}
    finally:
        go.touch()
    wait_until(lambda: locks_are_free(bench))
    assert state(bench) == before
    assert told(bench.done("delete").err) == [BROUGHT_BACK]


@pytest.mark.parametrize("endpoints", [1, 500])
def test_killed_before_the_tool_may_commit(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoints: int
) -> None:
    """It changes nothing, be it given all but the last line, or only as much as a pipe holds."""
    go = tmp_path / "go"
    script = f'until [ -e "{go}" ]; do sleep 0.05; done\nexec "$REAL" "$@"'
    put_before(f"iptables-{bench.variant}-restore", script, tmp_path / "tools", monkeypatch)
    try:
        done = run(driven(bench, Step.SYSCTLS_CLOSED, "kill all", "apply", manifests(tmp_path, endpoints)))
        assert done.returncode == -signal.SIGKILL, done
        assert not locks_are_free(bench)
    finally:
        go.touch()
    wait_until(lambda: locks_are_free(bench))
    assert bench.dump() == NOTHING
    assert told(bench.done("delete").err) == [BROUGHT_BACK]


def manifests(folder: Path, endpoints: int) -> Path:
    """Write a Service with so many endpoints."""
    path = folder / "manifests.json"
    items = [node(), service(), endpoint_slice(endpoints=many_endpoints(endpoints))]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
    return path


@pytest.mark.parametrize("who", ["kill", "kill all"])
@pytest.mark.parametrize("step, variant", WAYS_BACK_BY_TURNS, indirect=["variant"])
def test_killed_on_the_way_back_at(
    bench: Bench, first: Path, second: Path, outdated: Path, step: WayBack, who: str
) -> None:
    """After Ctrl-C, when all rules were loaded: the watchdog goes on, or else the next command."""
    before = put_second(bench, second)
    done = run(driven(bench, Step.SYSCTLS_OPENED, "interrupt", "apply", first, also=f"{step}={who}"))
    assert done.returncode == -signal.SIGKILL, done
    wait_until(lambda: locks_are_free(bench))
    gone = step is WayBack.DISCARDED
    if who == "kill" or gone:
        assert state(bench) == before
    else:
        assert bench.unfinished() == ["0002.unfinished"]
    assert told(recovered(bench, outdated)) == ([] if gone else [BROUGHT_BACK])
    assert state(bench) == before


@pytest.mark.parametrize("step, variant", WAYS_BACK_BY_TURNS, indirect=["variant"])
def test_killed_while_recovering_at(
    bench: Bench, first: Path, second: Path, outdated: Path, step: WayBack
) -> None:
    """The command that would take back what another one left is killed, too, once and again."""
    before = put_second(bench, second)
    run(driven(bench, Step.IPTABLES_LOADED, "kill all", "apply", first))
    wait_until(lambda: locks_are_free(bench))
    for _ in range(2):
        assert bench.unfinished() == ["0002.unfinished"]
        done = run(driven(bench, step, "kill", "apply", outdated))
        assert done.returncode == -signal.SIGKILL, done
        wait_until(lambda: locks_are_free(bench))
        if step is WayBack.DISCARDED:
            break
    assert told(recovered(bench, outdated)) == ([] if step is WayBack.DISCARDED else [BROUGHT_BACK])
    assert state(bench) == before


@pytest.fixture
def outdated(bench: Bench, first: Path, tmp_path: Path) -> Path:
    """Return a plan that is refused once something was applied."""
    path = tmp_path / "outdated.plan"
    bench.done("plan", first, "--out", path)
    return path


def put_second(bench: Bench, second: Path) -> State:
    """Apply ``second``, and let the next apply have a setting to change; return the state then."""
    bench.done("apply", second)
    bench.set_sysctl("net.ipv4.conf.all.route_localnet", "0")
    return state(bench)


def recovered(bench: Bench, outdated: Path) -> str:
    """Return what a command says that finishes what is unfinished, and then does nothing."""
    result = bench.run("apply", outdated)
    assert "error[KPN510]" in result.err
    assert bench.unfinished() == []
    return result.err


@ONE_VARIANT
def test_a_delete_that_is_killed(bench: Bench, first: Path) -> None:
    bench.done("apply", first)
    before = state(bench)
    done = run(driven(bench, Step.IPTABLES_LOADED, "kill", "delete"))
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: locks_are_free(bench))
    assert state(bench) == before
    assert "warning[KPN514]: a delete of" in bench.done("apply", first).err


@ONE_VARIANT
@pytest.mark.parametrize(
    "step",
    [
        Step.IPTABLES_LOADED,
        Step.FINISHED,
    ],
)
def test_a_rollback_that_is_killed(bench: Bench, first: Path, second: Path, step: Step) -> None:
    """It is done or not; in either case the next one goes on from there."""
    bench.done("apply", first)
    bench.done("apply", second)
    done = run(driven(bench, step, "kill", "rollback"))
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: locks_are_free(bench))
    assert bench.dump() == expected(first if step is Step.FINISHED else second)
    bench.done("rollback")
    assert bench.dump() == (NOTHING if step is Step.FINISHED else expected(first))


@ONE_VARIANT
@pytest.mark.parametrize("step", [Step.WATCHED, Step.IPTABLES_LOADED, Step.VERIFIED])
def test_interrupted_at(bench: Bench, first: Path, second: Path, step: Step) -> None:
    """Ctrl-C takes back what was begun, counters included, without leaving anything to be recovered."""
    bench.done("apply", first)
    before = state(bench)
    done = run(driven(bench, step, "interrupt", "apply", second))
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert state(bench) == before
    assert bench.unfinished() == []
    assert bench.finished() == ["0001"]
    assert locks_are_free(bench)
    assert "KPN514" not in bench.done("apply", second).err
