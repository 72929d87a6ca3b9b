"""The host's own namespace: rules of each mode and layout, with packets, and the way back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.apply.bench import ROUTE_LOCALNET, Main, expected, wait_until
from tests.apply.processes import locks_are_free, started
from tests.kernel.netns import VARIANTS
from tests.kernel.packet_node import PacketNode
from tests.kernel.test_compact_packets import CONFIG, assert_served, objects
from tests.oracle.compiling import json_text
from tests.vm.conftest import HostBench, Keep

OPTIONS = ("--node", "node1", "--cluster-cidr", CONFIG["clusterCIDR"])
LAYOUTS = ("kube-proxy", "compact")
by_variant = pytest.mark.parametrize("variant", VARIANTS, indirect=True)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "services.json"
    path.write_text(json_text(objects()), encoding="utf-8")
    return path


@by_variant
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packets_with_iptables(
    host: PacketNode, bench: HostBench, manifests: Path, layout: str, keep: Keep
) -> None:
    foreign, setting = bench.dump(), bench.sysctl(ROUTE_LOCALNET)
    options = (*OPTIONS, "--layout", layout)
    bench.done("apply", manifests, *options)
    assert bench.dump() == expected(manifests, foreign, *options, "--nfacct")
    keep(f"iptables-{bench.variant}-{layout}", bench.dump())
    bench.break_rules()
    assert_served(host)
    bench.done("status")
    bench.done("delete")
    assert bench.sysctl(ROUTE_LOCALNET) == setting


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packets_with_nftables(
    host: PacketNode, bench: HostBench, manifests: Path, layout: str, keep: Keep
) -> None:
    before = bench.inside("nft", "list", "tables")
    bench.done("apply", manifests, *OPTIONS, "--mode", "nftables", "--layout", layout)
    listed = [bench.inside("nft", "list", "table", family, "kube-proxy") for family in ("ip", "ip6")]
    keep(f"nftables-{layout}", "".join(listed))
    assert_served(host, on_localhost=False)
    bench.done("status")
    bench.done("delete")
    assert bench.inside("nft", "list", "tables") == before


@by_variant
def test_rollback(bench: HostBench, first: Path, second: Path) -> None:
    bench.done("apply", second)
    before = bench.dump()
    bench.done("apply", first)
    assert bench.dump() != before
    bench.done("rollback")
    assert bench.dump() == before
    bench.done("delete")


def test_nobody_confirms(bench: HostBench, first: Path) -> None:
    before = bench.dump()
    with started(bench.command("apply", first, "--confirm", "1")) as process:
        assert process.wait() == 5
    assert bench.dump() == before


def test_killed_before_it_is_confirmed(bench: HostBench, first: Path) -> None:
    before = bench.dump()
    with started(bench.command("apply", first, "--confirm", "2")) as process:
        assert process.stderr is not None
        assert "in place" in process.stderr.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: locks_are_free(bench))
    assert bench.dump() == before


@pytest.mark.parametrize("name", ["pid:1", "/proc/1/ns/net"])
def test_by_another_name_it_is_refused(bench: HostBench, first: Path, name: str) -> None:
    before = bench.dump()
    result = bench.main("apply", str(first), "--netns", name, "--state-dir", str(bench.state_dir))
    assert result.status != 0
    assert "--host" in result.err
    assert bench.dump() == before


def test_doctor_finds_everything(kproxy_nat: Main) -> None:
    result = kproxy_nat("doctor", "--host")
    assert result.status == 0, result.out
