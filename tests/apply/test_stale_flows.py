"""UDP flows to endpoints that are gone: removed after each change of rules, and listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apply.bench import GALLERY, Bench
from tests.kernel.netns import requires_kernel

pytestmark = [
    pytest.mark.kernel,
    requires_kernel,
    pytest.mark.parametrize("variant", ["nft"], indirect=True),
]

MANIFESTS = GALLERY / "dns-udp-tcp" / "manifests.yaml"
OLD, NEW = "10.180.1.3", "10.180.1.4"
CLIENT = "192.0.2.7"


def add_flow(bench: Bench, endpoint: str, port: int) -> str:
    """Let a client have asked that endpoint at the cluster IP; return how the flow is listed."""
    there = f"-s {CLIENT} -d 10.96.0.10 --sport {port} --dport 53"
    back = f"-r {endpoint} -q {CLIENT} --reply-port-src 53 --reply-port-dst {port}"
    bench.inside("conntrack", "-I", "-p", "udp", *there.split(), *back.split(), "-t", "600")
    return f"{bench.name}: removed stale flow UDP {CLIENT}:{port} -> 10.96.0.10:53 (was {endpoint}:53)"


def flows(bench: Bench) -> set[str]:
    """Return the endpoints of the flows that there are."""
    lines = bench.inside("conntrack", "-L", "-p", "udp").splitlines()
    return {word.removeprefix("src=") for line in lines for word in line.split() if word.startswith("src=10")}


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """Return the same Service with its endpoint elsewhere."""
    path = tmp_path / "moved.yaml"
    text = MANIFESTS.read_text(encoding="utf-8")
    assert OLD in text
    path.write_text(text.replace(OLD, NEW), encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_apply_and_rollback(bench: Bench, moved: Path, mode: str) -> None:
    bench.done("apply", MANIFESTS, "--mode", mode)
    stale = add_flow(bench, OLD, 4000)
    add_flow(bench, NEW, 4001)
    assert stale in bench.done("apply", moved, "--mode", mode).out.splitlines()
    assert flows(bench) == {NEW}
    stale = add_flow(bench, NEW, 4002)
    add_flow(bench, OLD, 4003)
    assert stale in bench.done("rollback").out.splitlines()
    assert flows(bench) == {OLD}


def test_nothing_to_change_but_a_flow(bench: Bench) -> None:
    bench.done("apply", MANIFESTS)
    stale = add_flow(bench, NEW, 4000)
    assert bench.done("apply", MANIFESTS).out.splitlines() == [f"{bench.name}: nothing to change", stale]
    assert flows(bench) == set()


def test_a_delete_that_is_taken_back(bench: Bench) -> None:
    bench.done("apply", MANIFESTS)
    bench.done("delete")
    stale = add_flow(bench, NEW, 4000)
    assert stale in bench.done("rollback").out.splitlines()


def test_back_to_nothing_leaves_flows(bench: Bench) -> None:
    """There is no Service any more that they could be compared with."""
    bench.done("apply", MANIFESTS)
    add_flow(bench, NEW, 4000)
    assert "stale" not in bench.done("rollback").out
    assert flows(bench) == {NEW}
