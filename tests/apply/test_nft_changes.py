"""From any rules of nftables to any others, in the kernel: what is read back is what was planned."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.nft_engine import NftEngine
from kproxy_nat.apply.nft_planning import predict
from kproxy_nat.apply.nft_script import nft_removal, nft_script
from kproxy_nat.apply.planners import plan_change
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.tools import require_tool
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.nft_dump import join_listing, split_listing
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.lowering.nftables_compact import SHARED_ELEMENTS
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from tests.apply.bench import load
from tests.kernel.netns import fresh_namespace, requires_kernel
from tests.oracle.compiling import cluster_of, options_of, random_input
from tests.oracle.manifests import endpoint, endpoint_slice, many_endpoints, node, port, service
from tests.property import examples

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)

pytestmark = [pytest.mark.kernel, requires_kernel]

SEEDS = range(examples(8))
BACKENDS = {IpFamily.IPV4: Backend.NFT_IP, IpFamily.IPV6: Backend.NFT_IP6}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with fresh_namespace("change") as made:
        yield made


def dumps(family: IpFamily) -> list[Dump]:
    """Return rules to go through one after the other: none, those of random clusters, and none again.

    The layouts take turns, such that each comes after itself and after the other.
    """
    layouts = itertools.cycle((KUBE_PROXY, KUBE_PROXY, COMPACT, COMPACT))
    views = (random_input(seed).nft_view(family) for seed in SEEDS)
    compiled = [rules_for(view, layout) for view, layout in zip(views, layouts, strict=False)]
    return [Dump(family), *compiled, Dump(family)]


@pytest.mark.parametrize("family", IpFamily)
def test_from_one_to_the_next(namespace: Namespace, family: IpFamily) -> None:
    engine = NftEngine(require_tool("nft"))
    for old, new in pairwise(dumps(family)):
        live = LiveRules("", split_listing(namespace.run(engine.save, family, counters=True), family))
        assert live.dump == old
        change = plan_change(BACKENDS[family], live, new)
        assert predict(live.dump, change) == new
        namespace.run(engine.test, change)
        namespace.run(load, engine, change)
        text = namespace.run(engine.save, family, counters=True)
        assert split_listing(text, family) == new
        assert plan_change(BACKENDS[family], LiveRules(text, new), new).tables == ()


@pytest.mark.parametrize("family", IpFamily)
def test_a_record_is_read_as_it_was_written(family: IpFamily) -> None:
    for dump in dumps(family):
        assert split_listing(join_listing(dump), family) == dump


@pytest.mark.parametrize("family", IpFamily)
def test_a_record_can_be_loaded_by_hand(namespace: Namespace, family: IpFamily) -> None:
    engine = NftEngine(require_tool("nft"))
    wanted = rules_for(random_input(1).nft_view(family), Layout())
    done = namespace.run(
        subprocess.run,
        ["nft", "-f", "-"],
        input=join_listing(wanted).encode(),
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert split_listing(namespace.run(engine.save, family, counters=True), family) == wanted


def test_chains_are_removed_after_all_else() -> None:
    """Kernels before 6.2 would refuse them together with the elements that led to them."""
    old, new = (rules_for(random_input(seed).nft_view(IpFamily.IPV4), Layout()) for seed in (0, 1))
    change = plan_change(Backend.NFT_IP, LiveRules("", old), new)
    gone = {block.name for part in change.tables for block in part.chains if block.after is None}
    chains = {name.split(" ", 1)[1] for name in gone if name.startswith("chain ")}
    assert chains
    assert "delete chain" not in nft_script(change)
    assert set(nft_removal(change).splitlines()) == {f"delete chain ip kube-proxy {name}" for name in chains}


@pytest.mark.parametrize("addresses", [("10.96.0.10", "10.96.0.11"), ("fd00:10:96::10", "fd00:10:96::11")])
def test_services_that_exchange_their_addresses(namespace: Namespace, addresses: tuple[str, str]) -> None:
    """nft would pass over an element that is there with another comment: it has to go, and come back."""
    engine = NftEngine(require_tool("nft"))
    family = IpFamily.IPV6 if ":" in addresses[0] else IpFamily.IPV4
    pod = "10.180.0.1" if family is IpFamily.IPV4 else "fd00:10:180::1"
    wanted: list[Dump] = []
    for order in (addresses, addresses[::-1]):
        objects = [service(f"shop/{name}", address) for name, address in zip("ab", order, strict=True)]
        objects += [endpoint_slice(f"shop/{n}", [endpoint(pod)], family=str(family)) for n in "ab"]
        cluster = cluster_of([node(), *objects])
        view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), family)
        wanted.append(rules_for(view, COMPACT))
    for old, new in pairwise([Dump(family), *wanted]):
        change = plan_change(BACKENDS[family], LiveRules("", old), new)
        namespace.run(engine.prepare(change).commit)
        assert split_listing(namespace.run(engine.save, family, counters=True), family) == new
    (part,) = change.tables
    assert [block.name for block in part.chains] == ["map service-ips"]
    listed = wanted[1].table("kube-proxy").chains["map service-ips"].splitlines()[1:]
    assert listed == [
        f'{address} . tcp . 80 comment "shop/{name}:http" : goto balance-tcp-1'
        for name, address in zip("ba", addresses, strict=True)
    ]


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_rules_upon_maps_that_are_there(namespace: Namespace, protocol: str) -> None:
    """nft 1.0.6 would refuse them, had the maps been declared with ports of any protocol."""
    engine = NftEngine(require_tool("nft"))
    ports = [port(80, protocol=protocol, nodePort=30080)]
    wanted: list[Dump] = []
    for count in (2, 3, SHARED_ELEMENTS + 1, SHARED_ELEMENTS + 2):
        backends = endpoint_slice("shop/web", many_endpoints(count), ports=[port(8080, protocol=protocol)])
        local: dict[str, Any] = {"type": "NodePort", "externalTrafficPolicy": "Local"}
        cluster = cluster_of([node(), service("shop/web", "10.96.0.10", ports=ports, **local), backends])
        view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), IpFamily.IPV4)
        wanted.append(rules_for(view, COMPACT))
    for old, new in pairwise([Dump(IpFamily.IPV4), *wanted]):
        namespace.run(load, engine, plan_change(Backend.NFT_IP, LiveRules("", old), new))
        text = namespace.run(engine.save, IpFamily.IPV4, counters=True)
        assert split_listing(text, IpFamily.IPV4) == new
