"""Live namespaces as sources of diff and import, and edits that the kernel takes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.apply.nft_standby import STANDBY, standing_by
from kproxy_nat.apply.tools import require_tool
from tests.conformance.command_line import run
from tests.golden.gallery import GALLERY
from tests.kernel.netns import VARIANTS, WAIT, requires_kernel
from tests.patience import patient

pytestmark = [pytest.mark.kernel, requires_kernel]

PAIR = GALLERY / "diffs" / "endpoint-added"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    name = f"kpn-diff-{os.getpid()}"
    with open_namespace(name, create=True) as opened:
        yield opened
    subprocess.run(["ip", "netns", "del", name], check=True)


def load(namespace: Namespace, variant: str, rules: str) -> None:
    argv = ["ip", "netns", "exec", namespace.label, f"iptables-{variant}-restore", WAIT]
    subprocess.run(argv, check=True, input=rules, text=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_namespace_against_manifests(namespace: Namespace, variant: str) -> None:
    _, rules, _ = run("compile", PAIR / "old.yaml", "--family", "ipv4")
    load(namespace, variant, rules)
    source = f"netns:{namespace.label}"
    status, out, _ = run("diff", source, PAIR / "old.yaml", "--only", "endpoints")
    assert (status, out.splitlines()[0]) == (0, "nothing that was asked for differs")
    status, out, _ = run("diff", source, PAIR / "new.yaml")
    assert status == 1
    assert "    + endpoint 10.180.2.6:8080, gets 1/3" in out


def test_a_namespace_by_process(namespace: Namespace) -> None:
    argv = ["ip", "netns", "exec", namespace.label, "sleep", "60"]
    with subprocess.Popen(argv) as sleeping:
        try:
            load(namespace, "nft", run("compile", PAIR / "old.yaml")[1])
            by_name, by_process = f"netns:{namespace.label}", f"netns:pid:{sleeping.pid}"
            wait_for_namespace(sleeping.pid, namespace)
            assert run("diff", by_name, by_process)[0] == 0
        finally:
            sleeping.terminate()


def wait_for_namespace(pid: int, namespace: Namespace) -> None:
    """Wait until ``ip netns exec`` has entered the namespace."""
    wanted = os.fstat(namespace.descriptor).st_ino
    deadline = time.monotonic() + patient(10)
    while Path(f"/proc/{pid}/ns/net").stat().st_ino != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_import_of_a_namespace(namespace: Namespace) -> None:
    _, rules, _ = run("compile", PAIR / "old.yaml")
    load(namespace, "nft", rules)
    status, out, _ = run("import", f"netns:{namespace.label}")
    assert status == 0
    assert "clusterIP: 10.96.0.20" in out
    assert "- 10.180.1.5" in out


def test_a_unified_diff_leads_the_kernel_to_the_other_side(namespace: Namespace, tmp_path: Path) -> None:
    """What patch(1) makes of the old rules is what the manifests say, and the kernel takes it."""
    file = tmp_path / "live.rules"
    file.write_text(run("compile", PAIR / "old.yaml")[1])
    new = tmp_path / "new.rules"
    new.write_text(run("compile", PAIR / "new.yaml")[1])
    _, patch, _ = run("diff", file, new, "--level", "text")
    subprocess.run(["patch", "-s", str(file)], check=True, input=patch, text=True)
    load(namespace, "nft", file.read_text())
    assert run("diff", f"netns:{namespace.label}", PAIR / "new.yaml", "--only", "endpoints")[0] == 0


def test_a_second_table_while_the_layout_is_changed(namespace: Namespace) -> None:
    """It is none of the rules that were applied, and has an owner, which plain tables have not."""
    source, mode = f"netns:{namespace.label}", ("--mode", "nftables")
    layouts = ("kube-proxy", "compact")
    old, new = (run("compile", PAIR / "old.yaml", *mode, "--layout", layout)[1] for layout in layouts)
    namespace.run(subprocess.run, ["nft", "-f", "-"], input=old, text=True, check=True)
    table = new.split("table ip6 ")[0].replace("table ip kube-proxy {", f"table ip {STANDBY} {{\nflags owner")
    with ExitStack() as stack:
        namespace.run(stack.enter_context, standing_by(require_tool("nft").path, table, ()))
        listed = namespace.run(subprocess.run, ["nft", "list", "tables"], capture_output=True, check=True)
        assert STANDBY.encode() in listed.stdout
        status, out, err = run("diff", source, PAIR / "old.yaml", *mode)
        assert (status, err) == (0, ""), out
