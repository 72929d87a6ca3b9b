"""Probes of the real kernel, what they find with tools that are made to fail, and that they leave no trace.

So do the questions that are asked about a namespace. And known faults are what the tools of this machine do,
where they have those versions.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from kproxy_nat.apply.kernel_features import (
    CONNTRACK_NETLINK,
    NEEDS_ROOT,
    NFACCT,
    NFT_NUMGEN,
    NFT_SLOTS,
    Finding,
    State,
    probe_kernel,
)
from kproxy_nat.apply.known_faults import known_faults
from kproxy_nat.apply.tools import Variant, find_iptables, require_tool
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import VARIANTS, WAIT, requires_kernel, run_in_fresh_namespace

pytestmark = [pytest.mark.kernel, requires_kernel]

REQUIRED = {
    "tables",
    "comment",
    "conntrack",
    "addrtype",
    "statistic",
    "recent",
    "mark",
    "masquerade-random-fully",
    "reject",
}
OPTIONAL = {"sctp", "multiport", "bpf", "nfacct"}

EVERYTHING_IN_THE_NAMESPACE = """
cat /proc/net/ip_tables_names /proc/net/ip6_tables_names
nft list ruleset
nfacct list
"""


def python(script: str) -> str:
    """Return a shell command that runs a script with this interpreter."""
    return f"{sys.executable} - <<'END'\n{script}\nEND\n"


def pick(findings: tuple[Finding, ...], name: str, tool: str, family: IpFamily | None = None) -> Finding:
    (found,) = (f for f in findings if (f.feature.name, f.tool, f.family) == (name, tool, family))
    return found


@pytest.fixture
def wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that comes first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_this_kernel_has_what_services_need() -> None:
    findings = probe_kernel()
    for variant in VARIANTS:
        for family in IpFamily:
            found = [f for f in findings if (f.tool, f.family) == (f"iptables-{variant}", family)]
            assert {f.feature.name for f in found} == REQUIRED | OPTIONAL
            needed = [f for f in found if f.feature.required]
            assert {f.feature.name for f in needed} == REQUIRED
            assert {(f.feature.name, f.state, f.message) for f in needed} == {
                (name, State.AVAILABLE, "") for name in REQUIRED
            }
            assert pick(tuple(found), "nfacct", f"iptables-{variant}", family).state is State.AVAILABLE
    assert pick(findings, CONNTRACK_NETLINK.name, "pyroute2").state is State.AVAILABLE
    assert pick(findings, NFT_NUMGEN.name, "nft").state is State.AVAILABLE
    assert pick(findings, NFT_SLOTS.name, "nft").state is State.AVAILABLE


@pytest.mark.parametrize(("feature", "word"), [("statistic", "statistic"), ("recent", "recent")])
def test_one_missing_match_is_told_in_the_tools_words(wrap: Path, feature: str, word: str) -> None:
    rename = f"/bin/sed 's/-m {word}/-m no{word}/' | exec /usr/sbin/iptables-nft-restore \"$@\""
    program(wrap / "iptables-nft-restore", rename)
    findings = probe_kernel()
    bad = pick(findings, feature, "iptables-nft", IpFamily.IPV4)
    assert bad.state is State.MISSING
    assert f"no{word}" in bad.message
    assert "\n" not in bad.message
    assert "--help" not in bad.message
    others = [f for f in findings if f.tool.startswith("iptables-") and f is not bad]
    assert {f.feature.name for f in others if f.state is not State.AVAILABLE and f.feature.required} == set()


def test_a_target_that_the_kernel_refuses_is_missing(wrap: Path) -> None:
    """The kernel itself refuses REJECT in the table nat; here it is asked to take it there."""
    moved = "/bin/sed 's/-A FORWARD -j REJECT/COMMIT\\n*nat\\n-A PREROUTING -j REJECT/'"
    program(wrap / "iptables-legacy-restore", f'{moved} | exec /usr/sbin/iptables-legacy-restore "$@"')
    findings = probe_kernel()
    assert pick(findings, "reject", "iptables-legacy", IpFamily.IPV4).state is State.MISSING
    assert pick(findings, "reject", "iptables-legacy", IpFamily.IPV6).state is State.AVAILABLE
    assert pick(findings, "reject", "iptables-nft", IpFamily.IPV4).state is State.AVAILABLE
    assert pick(findings, "mark", "iptables-legacy", IpFamily.IPV4).state is State.AVAILABLE


def test_a_tool_that_crashes_is_told_so(wrap: Path) -> None:
    program(wrap / "nft", "kill -SEGV $$")
    finding = pick(probe_kernel(), NFT_NUMGEN.name, "nft")
    assert finding.state is State.MISSING
    assert finding.message == "it crashed (SIGSEGV)"


def test_without_nfacct_its_counters_are_missing(
    tmp_path: Path, wrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("iptables-nft-restore", "ip6tables-nft-restore", "iptables-nft-save", "ip6tables-nft-save"):
        (wrap / name).symlink_to(f"/usr/sbin/{name}")
    (wrap / "unshare").symlink_to("/usr/bin/unshare")
    (wrap / "true").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(wrap))
    monkeypatch.setattr("kproxy_nat.apply.tools.SBIN", ())
    findings = probe_kernel()
    assert pick(findings, "tables", "iptables-nft", IpFamily.IPV4).state is State.AVAILABLE
    nfacct = pick(findings, NFACCT.name, "iptables-nft", IpFamily.IPV4)
    assert (nfacct.state, nfacct.message) == (State.MISSING, "nfacct is not there")
    assert not [f for f in findings if f.tool == "iptables-legacy"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", NEEDS_ROOT),
        ("echo 'unshare: unshare failed: No space left on device' >&2; exit 1", "No space left on device"),
    ],
)
def test_without_privilege_nothing_is_checked(wrap: Path, script: str, message: str) -> None:
    program(wrap / "unshare", script)
    findings = probe_kernel()
    assert {f.feature.name for f in findings} > REQUIRED
    assert {f.state for f in findings} == {State.NOT_CHECKED}
    assert all(f.message.endswith(message) for f in findings)


def test_without_namespaces_to_try_in_nothing_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = probe_kernel()
    assert {f.state for f in findings} == {State.NOT_CHECKED}
    assert "util-linux" in findings[0].message


def test_probes_leave_nothing_where_they_are_called_from() -> None:
    probe = python("from kproxy_nat.apply.kernel_features import probe_kernel\nprint(len(probe_kernel()))")
    done = run_in_fresh_namespace(f"{probe}{EVERYTHING_IN_THE_NAMESPACE}")
    count, *traces = done.stdout.split("\n")
    assert int(count) > 40
    assert [line for line in traces if line] == []


def test_probes_do_not_wait_for_the_lock_of_the_machine() -> None:
    """Another program holds the lock, in a mount namespace that hides the machine's own."""
    probe = python(
        "from kproxy_nat.apply.kernel_features import probe_kernel\n"
        "print({str(f.state) for f in probe_kernel() if f.feature.required})"
    )
    lock = "mount -t tmpfs none /run && exec 9>/run/xtables.lock && flock 9"
    done = run_in_fresh_namespace(["unshare", "-m", "sh", "-c", f"{lock}\n{probe}"])
    assert done.stdout == "{'available'}\n", done.stderr


@pytest.mark.parametrize("loaded", VARIANTS)
def test_the_variant_that_holds_service_rules_is_found(loaded: str) -> None:
    other = {"nft": "legacy", "legacy": "nft"}[loaded]
    ask = python(
        "from kproxy_nat.apply.tools import Variant, find_iptables, other_variant_problem\n"
        "variant = find_iptables().variant\n"
        "print(variant, other_variant_problem(variant), sep='\\n')"
    )
    tool = f"iptables-{loaded} {WAIT} -t nat"
    ours = f"{tool} -N KUBE-SERVICES && {tool} -A KUBE-SERVICES -j RETURN"
    alone = run_in_fresh_namespace(f"{ours}\n{ask}").stdout.splitlines()
    assert alone == [loaded, "None"]
    foreign = f"ip6tables-{other} {WAIT} -A INPUT -j ACCEPT"
    chosen, warning = run_in_fresh_namespace(f"{ours}\n{foreign}\n{ask}").stdout.splitlines()
    assert chosen == loaded
    assert f"iptables-{other} holds rules, too" in warning


def test_looking_for_rules_makes_no_table() -> None:
    ask = python(
        "from kproxy_nat.apply.tools import *\n"
        "find_iptables()\n"
        "print([int(holding(find_iptables(variant))) for variant in Variant])\n"
        "print([has_kube_proxy_table(family) for family in IpFamily])"
    )
    done = run_in_fresh_namespace(f"{ask}{EVERYTHING_IN_THE_NAMESPACE}")
    assert done.stdout == "[0, 0]\n[False, False]\n"


def test_the_table_of_kube_proxy_is_seen() -> None:
    ask = python(
        "from kproxy_nat.apply.tools import *\nprint([has_kube_proxy_table(family) for family in IpFamily])"
    )
    assert run_in_fresh_namespace(f"nft add table ip6 kube-proxy\n{ask}").stdout == "[False, True]\n"


RULES = (
    "*nat\n:A - [0:0]\n:B - [0:0]\n[5:50] -A A -s 192.0.2.1 -j RETURN\n-A A -s 192.0.2.2 -j RETURN\nCOMMIT\n"
)
CRASHED = 128 + signal.SIGSEGV
RESTORE_FAULTS = {
    "iptables-nft-restore-replace-crash": (
        "-A A -s 192.0.2.3 -j RETURN\n-R A 3 -s 192.0.2.4 -j RETURN",
        CRASHED,
    ),
    "iptables-nft-restore-rename": ("-E B C\n-A C -j RETURN", 1),
    "iptables-nft-restore-zero": (":A - [0:0]\n-Z A", 4),
}


def restore_status(variant: str, transaction: str, folder: Path) -> tuple[int, bool]:
    """Return the status of a transaction upon RULES, and whether it changed anything."""
    tool = f"iptables-{variant}"
    script = f"""
    printf '{RULES}' | {tool}-restore {WAIT} --counters || exit 99
    {tool}-save -c -t nat | grep -v '^#' > "$0"/before
    printf '*nat\n{transaction}\nCOMMIT\n' | {tool}-restore {WAIT} --noflush
    status=$?
    {tool}-save -c -t nat | grep -v '^#' | cmp -s - "$0"/before && echo same
    exit $status
    """
    done = run_in_fresh_namespace(["sh", "-c", script, str(folder)])
    return done.returncode, done.stdout != "same\n"


def test_known_faults_of_restore_are_what_this_version_does(tmp_path: Path) -> None:
    versions = {"iptables-nft": find_iptables(Variant.NFT).version}
    for fault in known_faults(versions):
        if fault.id in RESTORE_FAULTS:
            transaction, status = RESTORE_FAULTS[fault.id]
            assert restore_status("nft", transaction, tmp_path) == (status, False), fault.id


@pytest.mark.parametrize("fault", RESTORE_FAULTS)
def test_the_legacy_variant_does_not_have_the_faults_of_the_other(fault: str, tmp_path: Path) -> None:
    assert restore_status("legacy", RESTORE_FAULTS[fault][0], tmp_path)[0] == 0


def test_nft_lists_no_map_with_jhash_where_that_fault_is_known() -> None:
    key = "typeof ip daddr . jhash ip saddr mod 4 seed 1 : ip daddr"
    load = f"nft 'add table ip t; add map ip t m {{ {key}; }}' || exit 99"
    text, json = (run_in_fresh_namespace(f"{load}\nnft {form} list ruleset") for form in ("", "-j"))
    if "nft-list-jhash-crash" in {fault.id for fault in known_faults({"nft": require_tool("nft").version})}:
        assert text.returncode == CRASHED
        assert json.returncode == 0


def test_nft_lists_no_flags_of_tables_as_json_where_that_fault_is_known() -> None:
    script = "nft 'add table ip t { flags dormant; }' || exit 99\nnft -j list table ip t"
    listed = run_in_fresh_namespace(script).stdout
    versions = {"nft": require_tool("nft").version}
    if "nft-json-table-flags" in {fault.id for fault in known_faults(versions)}:
        assert '"flags": ' in listed
        assert "dormant" not in listed
