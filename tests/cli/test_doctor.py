"""``kproxy-nat doctor``: on this machine, and where things are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import kproxy_nat
from kproxy_nat.apply import tools
from kproxy_nat.cli.doctor import Diagnosis, FaultItem, FeatureItem, Item, NamespaceItem
from tests.cli.conftest import Result, Run
from tests.kernel.netns import requires_kernel, run_in_fresh_namespace

PAGE = Path(kproxy_nat.__file__).resolve().parent.parent / "docs" / "doctor.md"


def decoded(result: Result) -> Diagnosis:
    return msgspec.json.decode(result.out, type=Diagnosis)


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make PATH one empty folder, and search no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tools, "SBIN", ())
    return folder


@pytest.fixture
def first_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def namespace() -> Iterator[str]:
    """Make a namespace with a name."""
    name = f"kproxy-nat-doctor-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def inside(name: str, command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", name, "sh", "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.kernel
@requires_kernel
def test_this_machine_has_what_apply_needs(run: Run) -> None:
    result = run("doctor")
    assert result.status == 0
    assert result.err == ""
    assert "everything that apply needs is there" in result.out
    lines = result.out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")][:3] == [
        "tools",
        "Python libraries",
        f"kernel {os.uname().release}",
    ]
    assert any(line.split()[:2] == ["ok", "statistic"] for line in lines)


@pytest.mark.kernel
@requires_kernel
def test_the_json_says_the_same(run: Run) -> None:
    result = run("doctor", "-o", "json")
    assert result.status == 0
    found = decoded(result)
    assert found.version == 1
    assert found.ok
    assert found.namespace is None
    names = {item.name: item for item in (*found.tools, *found.libraries)}
    assert names["iptables-nft"].path.endswith("/iptables-nft-restore")
    assert names["pyroute2"].version
    required = [item for item in found.features if item.required]
    assert {(item.tool, item.family, item.status) for item in required} == {
        (f"iptables-{found.iptables}", "IPv4", "ok")
    }
    assert len(required) == 9


@pytest.mark.kernel
@requires_kernel
def test_both_variants_in_one_namespace_are_a_warning(run: Run, namespace: str) -> None:
    inside(namespace, "iptables-legacy -t nat -N KUBE-SERVICES; iptables-nft -A INPUT -j ACCEPT")
    inside(namespace, "nft add table ip kube-proxy")
    before = inside(namespace, "nft list ruleset; iptables-legacy-save; cat /proc/net/ip6_tables_names")
    found = decoded(run("doctor", "--netns", namespace, "-o", "json"))
    assert found.iptables == "legacy"
    assert found.namespace is not None
    assert found.namespace.name == namespace
    assert found.namespace.variants == {"nft": "foreign", "legacy": "services"}
    assert found.namespace.kube_proxy_table
    assert found.namespace.warning == "iptables-nft holds rules, too; both are in force"
    text = run("doctor", "--netns", namespace)
    assert text.status == 0
    assert f"rules in {namespace}\n" in text.out
    assert "iptables-nft holds rules, too; both are in force" in text.out
    assert "a kube-proxy in nftables mode" in text.out
    after = inside(namespace, "nft list ruleset; iptables-legacy-save; cat /proc/net/ip6_tables_names")
    assert [line for line in after.splitlines() if not line.startswith("#")] == [
        line for line in before.splitlines() if not line.startswith("#")
    ]


@pytest.mark.kernel
@requires_kernel
def test_a_namespace_without_rules_has_no_warning(run: Run, namespace: str) -> None:
    found = decoded(run("doctor", "--netns", namespace, "-o", "json")).namespace
    assert found == NamespaceItem(namespace, {"nft": "nothing", "legacy": "nothing"}, False, "", "")
    assert inside(namespace, "nft list ruleset; cat /proc/net/ip_tables_names") == ""


@pytest.mark.kernel
@requires_kernel
def test_the_host_is_looked_at_when_asked_for() -> None:
    """The host is a fresh namespace here, seen by a command that runs in it."""
    load = "iptables-nft -t nat -N KUBE-SERVICES"
    doctor = f"{sys.executable} -m kproxy_nat doctor -o json"
    named = run_in_fresh_namespace(f"{load} && {doctor} --host").stdout
    host = msgspec.json.decode(named, type=Diagnosis).namespace
    assert host is not None
    assert host.variants == {"nft": "services", "legacy": "nothing"}
    unnamed = run_in_fresh_namespace(f"{load} && {doctor}").stdout
    assert msgspec.json.decode(unnamed, type=Diagnosis).namespace is None


@pytest.mark.kernel
@requires_kernel
def test_a_feature_that_apply_needs_is_missing(run: Run, first_in_path: Path) -> None:
    for tool in ("iptables-nft-restore", "iptables-legacy-restore"):
        program(first_in_path / tool, f'/bin/sed "s/-m statistic/-m nostat/" | exec /usr/sbin/{tool} "$@"')
    result = run("doctor")
    assert result.status == 1
    assert "apply lacks: statistic\n" in result.out
    assert "everything" not in result.out
    row = next(line for line in result.out.splitlines() if " statistic " in line)
    assert row.split()[0] == "missing"
    assert "help: use a kernel that has xt_statistic" in result.out
    assert "Couldn't load match `nostat'" in result.out


@pytest.mark.kernel
@requires_kernel
def test_a_feature_of_ipv6_or_of_the_other_variant_is_a_warning(run: Run, first_in_path: Path) -> None:
    tool = "ip6tables-nft-restore"
    program(first_in_path / tool, f'/bin/sed "s/-m recent/-m norecent/" | exec /usr/sbin/{tool} "$@"')
    result = run("doctor")
    assert result.status == 0
    row = next(line for line in result.out.splitlines() if " recent " in line)
    assert row.split()[0] == "warning"
    assert "iptables-nft IPv6: " in result.out


@pytest.mark.kernel
@requires_kernel
def test_without_privilege_it_cannot_say_that_all_is_well(run: Run, first_in_path: Path) -> None:
    program(first_in_path / "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    result = run("doctor")
    assert result.status == 1
    assert "needs root" in result.out
    assert "not everything was checked: run kproxy-nat doctor as root\n" in result.out
    assert "everything that apply needs is there" not in result.out
    assert "apply lacks" not in result.out


@pytest.mark.usefixtures("empty_path")
def test_without_any_tool_it_names_the_packages(run: Run) -> None:
    result = run("doctor")
    assert result.status == 1
    assert "apply lacks: iptables\n" in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert ["missing", "iptables", "not", "there"] in lines
    assert ["warning", "nft", "not", "there"] in lines
    words = " ".join(result.out.split())
    for package in tools.PACKAGES.values():
        assert f"help: install {package}" in words
    assert "not everything was checked: the program unshare is not there; install package util-linux" in words


@pytest.mark.usefixtures("empty_path")
def test_without_any_tool_the_json_says_so(run: Run) -> None:
    result = run("doctor", "-o", "json")
    assert result.status == 1
    found = decoded(result)
    assert not found.ok
    assert found.iptables == ""
    assert found.tools == (
        Item("iptables", "missing", True, remedy=tools.install_hint("iptables")),
        *(Item(n, "warning", False, remedy=tools.install_hint(n)) for n in ("nft", "nfacct", "conntrack")),
    )
    assert {item.status for item in found.features} == {"not checked"}
    assert found.faults == ()


def test_versions_with_faults_come_with_a_remedy(run: Run, empty_path: Path) -> None:
    program(empty_path / "nft", "echo 'nftables v1.0.0 (Fearless Fosdick #2)'")
    result = run("doctor")
    assert "versions with known faults" in result.out
    assert "nft-reads-whole-ruleset (nft before 1.0.1)" in result.out
    assert "help: update nftables to 1.0.1 or later" in result.out
    faults = decoded(run("doctor", "-o", "json")).faults
    assert {fault.id for fault in faults} >= {"nft-reads-whole-ruleset", "nft-crashes-on-newer-sets"}


@pytest.mark.usefixtures("empty_path")
def test_a_library_that_is_missing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    libraries = decoded(run("doctor", "-o", "json")).libraries
    assert [(item.name, item.status, item.required) for item in libraries] == [
        ("pyroute2", "missing", True),
        ("python-iptables", "warning", False),
    ]
    assert "kproxy-nat[python-iptables]" in libraries[1].remedy


@pytest.mark.usefixtures("empty_path")
def test_names_stand_below_each_other(run: Run) -> None:
    marks = ("ok", "warning", "missing", "not checked")
    rows = [line for line in run("doctor").out.splitlines() if line.strip().startswith(marks)]
    assert len(rows) > 5
    for row in rows:
        mark = next(mark for mark in marks if row.strip().startswith(mark))
        assert row.startswith(f"  {mark.ljust(11)}  ")
        assert row[15] != " "


@pytest.mark.usefixtures("empty_path")
def test_colour_is_that_of_standard_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run("doctor").out
    assert "\x1b[31mmissing" in run("--color", "always", "doctor").out
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b[31mmissing" in run("doctor").out
    assert "\x1b" not in run("--color", "never", "doctor").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("doctor").out


def test_a_namespace_that_is_not_there_is_an_error(run: Run) -> None:
    result = run("doctor", "--netns", "no-such-namespace")
    assert result.status == 5
    assert "error[KPN501]: there is no namespace no-such-namespace" in result.err
    assert result.out == ""


def test_a_namespace_and_the_host_exclude_each_other(run: Run) -> None:
    result = run("doctor", "--netns", "demo", "--host")
    assert result.status == 2
    assert "give either --netns or --host" in result.err


@pytest.mark.parametrize("kind", [Diagnosis, Item, FeatureItem, NamespaceItem, FaultItem])
def test_every_field_of_the_json_is_documented(kind: type[msgspec.Struct]) -> None:
    page = PAGE.read_text()
    for name in kind.__struct_fields__:
        assert f"`{name}`" in page, name
