"""What goes with the rules: generations, kernel settings, accounting objects, plans, and which namespace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.apply import namespaces
from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import NOTHING, TOOLS, Bench, Main, expected, host_dump
from tests.kernel.netns import requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

ONE_VARIANT = pytest.mark.parametrize("variant", ["nft"], indirect=True)
"""For what has nothing to do with rules."""

FORWARD = "net.ipv4.ip_forward"
FORWARD6 = "net.ipv6.conf.all.forwarding"
OBJECTS = {"ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"}


class TestRollback:
    def test_three_applies_back(self, bench: Bench, first: Path, second: Path, third: Path) -> None:
        bench.iptables("-P FORWARD DROP")
        before = bench.dump()
        states = []
        for source in (first, second, third):
            bench.done("apply", source)
            states.append(bench.dump())
        assert states == [expected(source, before) for source in (first, second, third)]
        for state in (states[1], states[0], before):
            bench.done("rollback")
            assert bench.dump() == state
        result = bench.run("rollback")
        assert result.status != 0
        assert "error[KPN518]" in result.err
        assert bench.dump() == before

    def test_after_a_rollback_comes_an_apply(self, bench: Bench, first: Path, second: Path) -> None:
        bench.done("apply", first)
        bench.done("apply", second)
        bench.done("rollback")
        bench.done("apply", second)
        assert bench.dump() == expected(second)
        bench.done("rollback")
        assert bench.dump() == expected(first)

    def test_a_delete_is_taken_back(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        bench.done("delete")
        assert bench.sysctl() == "0"
        bench.done("rollback")
        assert bench.dump() == expected(first)
        assert bench.sysctl() == "1"
        assert bench.nfacct() == OBJECTS

    def test_edits_since_then_are_lost_and_mentioned(self, bench: Bench, first: Path, second: Path) -> None:
        bench.done("apply", first)
        bench.done("apply", second)
        bench.iptables("-t nat -F KUBE-SERVICES")
        result = bench.done("rollback")
        assert "the rules have changed since that apply" in result.err
        assert bench.dump() == expected(first)

    def test_a_namespace_made_anew_has_no_past(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        subprocess.run(["ip", "netns", "del", bench.name], check=True)
        subprocess.run(["ip", "netns", "add", bench.name], check=True)
        result = bench.run("rollback")
        assert "error[KPN518]" in result.err
        bench.done("apply", first)
        assert bench.dump() == expected(first)
        assert bench.finished() == ["0001"]


@ONE_VARIANT
class TestSettings:
    def test_set_and_given_back(self, bench: Bench, first: Path, second: Path) -> None:
        names = (FORWARD, FORWARD6, "net.ipv4.conf.all.route_localnet")
        before = {name: bench.sysctl(name) for name in names}
        assert set(before.values()) == {"0"}
        bench.done("apply", first, "--forwarding")
        assert {name: bench.sysctl(name) for name in names} == dict.fromkeys(names, "1")
        bench.done("apply", second)
        bench.done("delete")
        assert {name: bench.sysctl(name) for name in names} == before

    def test_set_only_where_asked_for(self, bench: Bench, first: Path, third: Path) -> None:
        bench.done("apply", third)
        assert (bench.sysctl(), bench.sysctl(FORWARD)) == ("0", "0")
        bench.done("apply", first)
        assert (bench.sysctl(), bench.sysctl(FORWARD)) == ("1", "0")
        bench.done("rollback")
        assert bench.sysctl() == "0"

    def test_what_was_on_before_stays_on(self, bench: Bench, first: Path) -> None:
        bench.set_sysctl("net.ipv4.conf.all.route_localnet", "1")
        bench.done("apply", first)
        bench.done("delete")
        assert bench.sysctl() == "1"

    @pytest.mark.parametrize("command", ["delete", "rollback"])
    def test_what_somebody_else_has_changed_is_left(self, bench: Bench, first: Path, command: str) -> None:
        bench.done("apply", first, "--forwarding")
        bench.set_sysctl("net.ipv4.conf.all.route_localnet", "2")
        bench.set_sysctl(FORWARD, "0")
        bench.done(command)
        assert bench.sysctl() == "2"
        assert (bench.sysctl(FORWARD), bench.sysctl(FORWARD6)) == ("0", "0")

    def test_a_setting_alone_is_a_change(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        bench.set_sysctl("net.ipv4.conf.all.route_localnet", "0")
        result = bench.done("apply", first)
        assert "net.ipv4.conf.all.route_localnet becomes 1" in result.out
        assert bench.sysctl() == "1"
        bench.done("rollback")
        assert bench.sysctl() == "0"
        assert bench.dump() == expected(first)

    def test_forwarding_of_single_interfaces_is_given_back(self, bench: Bench, first: Path) -> None:
        """Switching all of them on and off would switch them off, too."""
        bench.inside("ip", "link", "add", "kpn0", "type", "veth", "peer", "name", "kpn1")
        bench.set_sysctl("net.ipv4.conf.kpn0.forwarding", "1")
        bench.set_sysctl("net.ipv6.conf.kpn0.forwarding", "1")
        bench.done("apply", first, "--forwarding")
        bench.done("rollback")
        assert bench.sysctl(FORWARD) == "0"
        assert bench.sysctl("net.ipv4.conf.kpn0.forwarding") == "1"
        assert bench.sysctl("net.ipv6.conf.kpn0.forwarding") == "1"


class TestAccountingObjects:
    def test_made_and_removed(self, bench: Bench, first: Path, second: Path) -> None:
        bench.inside("nfacct", "add", "somebody-elses")
        bench.done("apply", first)
        assert bench.nfacct() == OBJECTS | {"somebody-elses"}
        bench.done("apply", second)
        bench.done("delete")
        assert bench.nfacct() == {"somebody-elses"}

    def test_not_made_where_not_wanted(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first, "--no-nfacct")
        assert bench.nfacct() == set()
        assert bench.dump() == expected(first, NOTHING, "--no-nfacct")

    def test_only_those_that_rules_count_into(self, bench: Bench, first: Path, third: Path) -> None:
        """Without node ports nobody counts those on localhost."""
        bench.done("apply", third)
        assert bench.nfacct() == {"ct_state_invalid_dropped_pkts"}
        bench.done("apply", first)
        assert bench.nfacct() == OBJECTS
        bench.done("rollback")
        assert bench.nfacct() == {"ct_state_invalid_dropped_pkts"}
        bench.done("delete")
        assert bench.nfacct() == set()

    def test_those_that_were_there_stay(self, bench: Bench, first: Path) -> None:
        for name in OBJECTS:
            bench.inside("nfacct", "add", name)
        bench.done("apply", first)
        bench.done("delete")
        assert bench.nfacct() == OBJECTS

    def test_removed_by_a_rollback(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        bench.done("rollback")
        assert bench.nfacct() == set()

    def test_one_in_use_stays_and_is_mentioned(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        bench.load(
            "*filter\n-A INPUT -m nfacct --nfacct-name localhost_nps_accepted_pkts\nCOMMIT\n",
            IpFamily.IPV4,
            "--noflush",
        )
        result = bench.done("delete")
        assert "the accounting object localhost_nps_accepted_pkts stays" in result.err
        assert bench.nfacct() == {"localhost_nps_accepted_pkts"}


class TestPlans:
    def test_exit_status(self, bench: Bench, first: Path) -> None:
        assert bench.run("plan", first).status == 0
        assert bench.run("plan", first, "--detailed-exitcode").status == 2
        assert bench.dump() == NOTHING
        assert not bench.state_dir.exists()
        bench.done("apply", first)
        result = bench.run("plan", first, "--detailed-exitcode")
        assert (result.status, result.out) == (0, f"{bench.name}: nothing to change\n")

    def test_text(self, bench: Bench, first: Path, second: Path) -> None:
        """First the summary; then each line of a chain that comes or goes."""
        bench.done("apply", first)
        before, after = expected(first), expected(second)
        lines = bench.done("plan", second).out.splitlines()
        families = [line.split(": ")[:3] for line in lines[:2]]
        assert families == [[bench.name, TOOLS[family], "chains"] for family in IpFamily]
        assert lines[2] == f"{TOOLS[IpFamily.IPV4]} nat"
        told = {sign: sorted(_told(lines, sign)) for sign in "+-"}
        come, gone = [], []
        for family in IpFamily:
            old, new = before[family].splitlines(), after[family].splitlines()
            come += [line for line in new if line not in old and line.startswith("-A")]
            gone += [line for line in old if line not in new and line.startswith("-A")]
        assert told == {"+": sorted(come), "-": sorted(gone)}

    def test_json(self, bench: Bench, first: Path) -> None:
        plan = json.loads(bench.done("plan", first, "-o", "json").out)
        assert (plan["format"], plan["version"], plan["action"]) == ("kproxy-nat/plan", 1, "apply")
        assert plan["namespace"] == bench.name
        assert plan["sysctls"] == {"net.ipv4.conf.all.route_localnet": "1"}
        for family in IpFamily:
            tables = plan["changes"][TOOLS[family]]["tables"]
            lines = [line for table in tables for chain in table["chains"] for line in chain["after"]]
            found = [line for line in expected(first)[family].splitlines() if line.startswith("-A")]
            assert sorted(lines) == sorted(found)

    def test_what_was_assumed(self, bench: Bench, first: Path) -> None:
        source = first.parent / "tutorial" / "1-clusterip"
        assumed = json.loads(bench.done("plan", source, "-o", "json").out)["assumptions"]
        compiled = json.loads(bench.main("compile", str(source), "--form", "json").out)["assumptions"]
        assert assumed == compiled
        assert assumed[0]["text"].startswith("clusterIP 10.105.237.19")
        assert "assumptions" not in json.loads(bench.done("plan", first, "-o", "json").out)

    def test_a_plan_is_kept_and_carried_out(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        path = tmp_path / "change.plan"
        shown = bench.done("plan", first, "--out", path).out
        assert shown == bench.done("plan", first).out
        assert bench.done("plan", first, "--out", "-").out == path.read_text(encoding="utf-8")
        assert not Path("-").exists()
        assert bench.dump() == NOTHING
        bench.done("apply", path)
        assert bench.dump() == expected(first)
        assert bench.sysctl() == "1"
        assert bench.nfacct() == OBJECTS

    @pytest.mark.parametrize("variant", ["legacy"], indirect=True)
    def test_the_variant_of_a_kept_plan(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        """It is that which the plan was made for, whatever the default is."""
        path = tmp_path / "change.plan"
        bench.done("plan", first, "--out", path)
        result = bench.main("apply", str(path), "--netns", bench.name, "--state-dir", str(bench.state_dir))
        assert result.status == 0
        assert bench.dump() == expected(first)

    def test_a_plan_for_other_rules_is_refused(
        self, bench: Bench, first: Path, second: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "change.plan"
        bench.done("apply", first)
        bench.done("plan", second, "--out", path)
        bench.iptables("-I INPUT -j ACCEPT")
        self._refused(bench, path)
        bench.iptables("-D INPUT 1")
        bench.iptables("-t nat -F KUBE-SERVICES", IpFamily.IPV6)
        self._refused(bench, path)

    def test_a_plan_stands_when_what_it_does_not_depend_on_changes(
        self, bench: Bench, first: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "change.plan"
        bench.done("plan", first, "--out", path)
        bench.iptables("-N MINE")
        before = bench.dump()
        bench.done("apply", path)
        assert bench.dump() == expected(first, before)

    def test_a_plan_for_another_namespace_is_refused(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        path = tmp_path / "change.plan"
        bench.done("plan", first, "--out", path)
        subprocess.run(["ip", "netns", "del", bench.name], check=True)
        subprocess.run(["ip", "netns", "add", bench.name], check=True)
        self._refused(bench, path)

    @pytest.mark.parametrize(
        "damage", [("kproxy-nat/plan", "kproxy-nat/plam"), ('"version": 1', '"version": 9'), ("]", "")]
    )
    def test_a_damaged_plan(self, bench: Bench, first: Path, tmp_path: Path, damage: tuple[str, str]) -> None:
        path = tmp_path / "change.plan"
        bench.done("plan", first, "--out", path)
        path.write_text(path.read_text(encoding="utf-8").replace(*damage), encoding="utf-8")
        result = bench.run("apply", path)
        assert result.status == 3
        assert bench.dump() == NOTHING

    def _refused(self, bench: Bench, path: Path) -> None:
        before = bench.dump()
        result = bench.run("apply", path)
        assert result.status == 5
        assert "error[KPN510]" in result.err
        assert bench.dump() == before


def _told(lines: list[str], sign: str) -> Iterator[str]:
    for line in lines:
        if line.startswith(f"      {sign} "):
            yield line[8:]


@ONE_VARIANT
class TestNamespaces:
    def test_create(self, bench: Bench, first: Path) -> None:
        subprocess.run(["ip", "netns", "del", bench.name], check=True)
        result = bench.run("apply", first)
        assert result.status == 5
        assert f"error[KPN501]: there is no namespace {bench.name}" in result.err
        assert not Path("/run/netns", bench.name).exists()
        bench.done("apply", first, "--create")
        assert bench.dump() == expected(first)
        bench.done("apply", first, "--create")

    @pytest.mark.parametrize("half_made", [False, True])
    def test_somebody_else_creates_it_at_the_same_time(
        self, bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch, half_made: bool
    ) -> None:
        """It is used as if it had been there; half made, it is a file that nothing is mounted on yet."""
        path = Path("/run/netns", bench.name)
        if half_made:
            subprocess.run(["ip", "netns", "del", bench.name], check=True)
            path.touch()
            script = f"sleep 0.2; unshare --net={path} true"
            maker = subprocess.Popen(["sh", "-c", script])
        else:
            monkeypatch.setattr(namespaces, "_exists", lambda _: False)
        bench.done("apply", first, "--create")
        assert bench.dump() == expected(first)
        if half_made:
            assert maker.wait() == 0

    def test_not_created_for_a_broken_input(self, bench: Bench, tmp_path: Path) -> None:
        subprocess.run(["ip", "netns", "del", bench.name], check=True)
        (tmp_path / "broken.yaml").write_text("kind: [", encoding="utf-8")
        assert bench.run("apply", tmp_path / "broken.yaml", "--create").status == 3
        assert not Path("/run/netns", bench.name).exists()

    def test_by_path_and_by_process(self, bench: Bench, first: Path, second: Path, third: Path) -> None:
        """It is the same namespace, with the same record."""
        options = bench.options[2:]
        paths = (f"/run/netns/{bench.name}", f"/run/netns/../netns/{bench.name}")
        for source, path in zip((first, second), paths, strict=True):
            assert bench.main("apply", str(source), "--netns", path, *options).status == 0
            assert bench.dump() == expected(source)
        inside = subprocess.Popen(["ip", "netns", "exec", bench.name, "cat"], stdin=subprocess.PIPE)
        with inside:
            bench.inside("true")
            command = ["apply", str(third), "--netns", f"pid:{inside.pid}", *options]
            while os.stat(f"/proc/{inside.pid}/ns/net").st_ino != os.stat(paths[0]).st_ino:
                assert inside.poll() is None
            assert bench.main(*command).status == 0
            assert inside.stdin is not None
            inside.stdin.close()
        assert bench.dump() == expected(third)
        assert bench.finished() == ["0001", "0002", "0003"]

    def test_one_of_the_name_host(self, bench: Bench, first: Path) -> None:
        """It is no more than a name."""
        result = bench.main("apply", str(first), "--netns", "host", *bench.options[2:])
        assert "error[KPN501]: there is no namespace host" in result.err
        assert not (bench.state_dir / "host").exists()


OWN = [
    "/proc/self/ns/net",
    "/proc/thread-self/ns/net",
    "pid:{pid}",
    "/proc/{pid}/ns/net",
    "/tmp/../proc/self/ns/net",
]
NO_NAMESPACES = [
    "pid:4194305",
    "pid:",
    "pid:-1",
    "pid:self",
    "",
    ".",
    "..",
    "../netns",
    "/proc/self/ns/mnt",
    "/etc/hostname",
    "/etc",
    "two\nlines",
    "\x1b[31mred",
    "not UTF-8: \udcff",
    "/run/netns/\udcff",
]
LONG = "a" * 300


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("command", ["apply", "delete", "rollback", "plan"])
def test_the_own_namespace_is_refused(
    kproxy_nat: Main, first: Path, tmp_path: Path, name: str, command: str
) -> None:
    before = host_dump()
    sources = [str(first)] if command in ("apply", "plan") else []
    given = ["--netns", name.format(pid=os.getpid()), "--state-dir", str(tmp_path / "state")]
    result = kproxy_nat(command, *sources, *given)
    assert result.status == 5
    assert "error[KPN503]" in result.err
    assert host_dump() == before
    assert not (tmp_path / "state").exists()


def test_a_name_that_is_too_long(kproxy_nat: Main, first: Path, tmp_path: Path) -> None:
    given = ["--netns", LONG, "--state-dir", str(tmp_path / "state"), "--create"]
    result = kproxy_nat("apply", str(first), *given)
    assert result.status == 5
    assert "error[KPN501]" in result.err


@pytest.mark.parametrize("name", NO_NAMESPACES)
@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_namespace(kproxy_nat: Main, first: Path, tmp_path: Path, name: str, create: bool) -> None:
    before = host_dump()
    given = ["--netns", name, "--state-dir", str(tmp_path / "state"), *(["--create"] * create)]
    result = kproxy_nat("apply", str(first), *given)
    assert result.status == 5
    assert "error[KPN501]" in result.err
    assert host_dump() == before


def test_a_name_that_is_not_ascii(kproxy_nat: Main, third: Path, tmp_path: Path) -> None:
    name = f"kpn-{os.getpid()}-ü"
    given = [str(third), "--netns", name, "--state-dir", str(tmp_path / "state"), "--create"]
    result = kproxy_nat("apply", *given)
    assert (result.status, "its name is not ASCII" in result.err) == (5, True)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        assert kproxy_nat("apply", *given).out.startswith(f"{name}: iptables: ")
        assert kproxy_nat("delete", *given[1:-1]).status == 0
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.parametrize(
    ("name", "help_text"),
    [
        ("host", "the host's own is named with --host"),
        ("host:", "the host's own is named with --host"),
        ("netns:demo", "did you mean --netns demo?"),
        ("netns:pid:7", "did you mean --netns pid:7?"),
        ("kpn-demo", "--create makes it"),
    ],
)
def test_a_name_as_in_a_source(
    kproxy_nat: Main, first: Path, tmp_path: Path, name: str, help_text: str
) -> None:
    result = kproxy_nat("apply", str(first), "--netns", name, "--state-dir", str(tmp_path / "state"))
    assert result.status == 5
    assert help_text in result.err


@pytest.mark.parametrize("command", ["apply", "status", "delete"])
def test_no_state_directory(bench: Bench, first: Path, command: str) -> None:
    """As a script names it whose variable is not set."""
    sources = [str(first)] if command == "apply" else []
    result = bench.main(command, *sources, "--netns", bench.name, "--state-dir", "")
    assert (result.status, "'--state-dir': it is empty" in result.err) == (2, True)
    assert bench.dump() == NOTHING


@pytest.mark.parametrize("options", [[], ["--netns", "kpn-x", "--host"]])
def test_a_namespace_has_to_be_named(kproxy_nat: Main, first: Path, options: list[str]) -> None:
    result = kproxy_nat("apply", str(first), *options)
    assert result.status == 2
