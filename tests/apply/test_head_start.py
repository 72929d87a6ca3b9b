"""A tool that reads what rules declare before the rest of them is known."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Loading
from kproxy_nat.apply.engines import Tools, engines_for, find_tools
from kproxy_nat.apply.head_start import HeadStart
from kproxy_nat.apply.namespaces import open_namespace
from kproxy_nat.apply.planning import plan_change
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.running import FedTool
from kproxy_nat.apply.site import Reading, Site
from kproxy_nat.apply.tools import IptablesTools, Variant
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.errors import ApplyError
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView
from tests.apply.bench import NOTHING, Bench, expected, wait_until
from tests.apply.processes import held_locks, lock_name
from tests.apply.tables import normal
from tests.kernel.netns import requires_kernel
from tests.oracle.compiling import random_input

pytestmark = [pytest.mark.kernel, requires_kernel]

LAYOUTS = pytest.mark.parametrize("layout", [Layout(name) for name in LayoutName], ids=list(LayoutName))
LEGACY = pytest.mark.parametrize("variant", ["legacy"], indirect=True)
WAIT = 1
LONG = 1.3
"""Seconds: longer than it is waited for a lock."""
FIRST = Backend.IPTABLES


@pytest.fixture
def tools(bench: Bench) -> Tools:
    with open_namespace(bench.name) as namespace:
        return find_tools(namespace, Variant(bench.variant))


@pytest.fixture
def site(bench: Bench, tools: Tools) -> Iterator[Site]:
    with open_namespace(bench.name) as namespace:
        yield Site(namespace, engines_for(tools, WAIT), bench.folder)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FedTool]:
    """Return the tools that are started to load rules."""
    start, found = RestoreEngine.start, []

    def seen(engine: RestoreEngine, family: IpFamily) -> FedTool:
        found.append(start(engine, family))
        return found[-1]

    monkeypatch.setattr(RestoreEngine, "start", seen)
    return found


def view_of(seed: int) -> NodeView:
    return random_input(seed).view(IpFamily.IPV4)


def read(site: Site) -> Reading:
    """Return the live rules, which are all read by now."""
    reading = site.start_reading([FIRST])
    reading.texts[FIRST].result()
    return reading


def change_to(site: Site, view: NodeView, layout: Layout) -> FamilyChange:
    return plan_change(site.read_all([FIRST])[FIRST], rules_for(view, layout))


def tool_lock(tmp_path: Path) -> set[str]:
    """Return the name of the legacy tools' lock, if somebody holds it."""
    path = tmp_path / "xtables.lock"
    return held_locks() & ({lock_name(path)} if path.exists() else set())


@contextmanager
def held_by_another(tmp_path: Path) -> Iterator[None]:
    """Hold the legacy tools' lock."""
    with (tmp_path / "xtables.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@LAYOUTS
def test_a_change_that_was_foreseen(bench: Bench, site: Site, layout: Layout) -> None:
    view = view_of(1)
    change = change_to(site, view, layout)
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, layout.transaction(view))
        loading = head_start.take(FIRST, change)
        site.test(FIRST, change)  # The tool's own lock is no hindrance.
        assert bench.dump() == NOTHING
        assert loading is not None
        site.commit(loading)
    ahead = bench.dump()
    bench.load("".join(f"*{table}\n-F\n-X\nCOMMIT\n" for table in ("nat", "filter")))
    assert bench.dump() == NOTHING
    site.load(FIRST, change)
    assert bench.dump() == ahead


@LAYOUTS
def test_another_change(bench: Bench, site: Site, layout: Layout, started: list[FedTool]) -> None:
    """It is told anew; the first tool is gone."""
    change = change_to(site, view_of(1), layout)
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, layout.transaction(view_of(2)))
        assert head_start.take(FIRST, change) is None
        [tool] = started
        assert tool.has_ended
    assert bench.dump() == NOTHING


def test_another_backend(site: Site, started: list[FedTool]) -> None:
    view = view_of(1)
    change = change_to(site, view, Layout())
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, Layout().transaction(view))
        assert head_start.take(Backend.IP6TABLES, change) is None
        [tool] = started
        assert tool.has_ended


def test_nothing_comes_of_what_is_not_taken(
    bench: Bench, site: Site, tmp_path: Path, started: list[FedTool]
) -> None:
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, Layout().transaction(view_of(1)))
    [tool] = started
    assert tool.has_ended
    assert not tool_lock(tmp_path)
    assert bench.dump() == NOTHING


@LEGACY
def test_the_lock_is_held_meanwhile(site: Site, tmp_path: Path) -> None:
    """So nobody changes what was read."""
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, Layout().transaction(view_of(1)))
        assert tool_lock(tmp_path)


@LEGACY
def test_the_tool_holds_the_lock_until_it_ends(site: Site, tmp_path: Path) -> None:
    """Also when we are killed, and do not."""
    change = change_to(site, view_of(1), Layout())
    with site.exclusive([FIRST]):
        loading = site.prepare(FIRST, change)
    assert tool_lock(tmp_path)
    loading.abandon()
    assert not tool_lock(tmp_path)


def test_none_where_much_may_be_told(bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads that may take his time."""
    monkeypatch.setattr(HeadStart, "give", lambda *_: pytest.fail("it was given"))
    bench.done("apply", first, "-v")


@LAYOUTS
def test_where_there_are_rules_of_ours(site: Site, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is not taken before it is needed."""
    site.load(FIRST, change_to(site, view_of(2), layout))
    monkeypatch.setattr(Site, "start_beginning", lambda *_: pytest.fail("it began"))
    view = view_of(1)
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, layout.transaction(view))
        assert head_start.take(FIRST, change_to(site, view, layout)) is None


@pytest.mark.parametrize("foreseen", [True, False])
def test_time_may_pass_until_it_is_committed(bench: Bench, site: Site, *, foreseen: bool) -> None:
    """More than it is waited for a lock: an alarm of the tool's own would end its reading."""
    view = view_of(1)
    change = change_to(site, view, Layout())
    with HeadStart(site) as head_start:
        if foreseen:
            head_start.give(read(site), FIRST, Layout().transaction(view))
            time.sleep(LONG)
        with site.exclusive([FIRST]):
            loading = head_start.take(FIRST, change) or site.prepare(FIRST, change)
            time.sleep(LONG)
            site.commit(loading)
    assert not change_to(site, view, Layout()).tables


def test_a_tool_that_is_killed(site: Site, started: list[FedTool]) -> None:
    view = view_of(1)
    change = change_to(site, view, Layout())
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, Layout().transaction(view))
        wait_until(lambda: bool(started))
        started[0].kill()
        assert head_start.take(FIRST, change) is None


@LEGACY
def test_the_lock_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    """Not as long as it is not needed; to rehearse it is not needed at all."""
    view = view_of(1)
    change = change_to(site, view, Layout())
    with HeadStart(site) as head_start:
        with held_by_another(tmp_path):
            head_start.give(read(site), FIRST, Layout().transaction(view))
            assert head_start.take(FIRST, change) is None
            site.test(FIRST, change)
            with pytest.raises(ApplyError, match=f"another program has held .* for {WAIT} s"):
                site.load(FIRST, change)
        site.load(FIRST, change)
    assert not change_to(site, view, Layout()).tables


@LEGACY
def test_old_tools_take_their_lock_themselves(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    assert isinstance(tools.iptables, IptablesTools)
    old = replace(tools, iptables=replace(tools.iptables, version=(1, 8, 8)))
    view = view_of(1)
    with open_namespace(bench.name) as namespace:
        site = Site(namespace, engines_for(old, WAIT), bench.folder)
        change = change_to(site, view, Layout())
        with HeadStart(site) as head_start:
            head_start.give(read(site), FIRST, Layout().transaction(view))
            assert head_start.take(FIRST, change) is None
        site.test(FIRST, change)
        with (
            held_by_another(tmp_path),
            pytest.raises(ApplyError, match=r"held the lock of .*-restore for 1 s"),
        ):
            site.load(FIRST, change)
        site.load(FIRST, change)
        assert not change_to(site, view, Layout()).tables


def test_apply_has_it(bench: Bench, first: Path, third: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    take = HeadStart.take

    def seen(head_start: HeadStart, backend: Backend, change: FamilyChange) -> Loading | None:
        loading = take(head_start, backend, change)
        taken.append(loading is not None)
        return loading

    monkeypatch.setattr(HeadStart, "take", seen)
    monkeypatch.setattr(Reading, "known", lambda reading, backend: reading.texts[backend].result())
    bench.done("apply", first)
    assert bench.dump() == expected(first)
    bench.done("apply", third)
    assert bench.dump() == expected(third)
    assert taken == [True, False]


def test_foreign_rules_are_no_hindrance(bench: Bench, site: Site) -> None:
    bench.iptables("-t nat -A PREROUTING -p tcp --dport 7 -j ACCEPT")
    foreign = bench.dump()[IpFamily.IPV4]
    view = view_of(1)
    change = change_to(site, view, Layout())
    with HeadStart(site) as head_start:
        head_start.give(read(site), FIRST, Layout().transaction(view))
        loading = head_start.take(FIRST, change)
        assert loading is not None
        site.commit(loading)
    assert set(normal(foreign).splitlines()) <= set(bench.dump()[IpFamily.IPV4].splitlines())
