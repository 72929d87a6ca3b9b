"""Services that claim one address and port, or one node port: the layouts settle it alike."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, build_view
from tests.oracle.compiling import cluster_of, options_of
from tests.oracle.manifests import endpoint, endpoint_slice, node, port, service
from tests.semantics import test_nft_layouts_agree
from tests.semantics.test_layouts_agree import COMPACT, WITHOUT_BPF, assert_agree

CLUSTERS = int(os.environ.get("KPROXY_NAT_SEMANTICS_CLUSTERS", "30"))

CLUSTER_IPS = ("10.96.0.10", "10.96.0.11", "10.96.0.12")
EXTERNAL = ("203.0.113.5", "192.168.0.2", "10.96.0.10")
VIPS = ("198.51.100.7", "203.0.113.5")
PORTS = (80, 81, 30080)
NODE_PORTS = (30080, 30081)
ENDPOINTS = (
    endpoint("10.180.0.1", "node1"),
    endpoint("10.180.0.2", "node2"),
    endpoint("192.168.0.2", "node1"),
    endpoint("203.0.113.5", "node2"),
)


def conflicting_services(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Return Services that draw from few addresses and ports, with policies and endpoints at random."""
    objects = [node()]
    for number in range(count):
        name = f"shop/s{number}"
        protocol = rng.choice(("TCP", "TCP", "UDP"))
        ports = [port(rng.choice(PORTS), protocol=protocol, nodePort=rng.choice((0, *NODE_PORTS)))]
        fields: dict[str, Any] = {
            "type": rng.choice(("NodePort", "LoadBalancer")),
            "externalTrafficPolicy": rng.choice(("Cluster", "Local")),
            "internalTrafficPolicy": rng.choice(("Cluster", "Cluster", "Local")),
            "externalIPs": rng.sample(EXTERNAL, rng.randint(0, 2)),
        }
        if rng.random() < 0.3:
            fields["loadBalancerSourceRanges"] = ["192.0.2.0/24"]
        if rng.random() < 0.2:
            affinity = {"clientIP": {"timeoutSeconds": 60}}
            fields |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": affinity}
        vips = rng.sample(VIPS, rng.randint(0, 2))
        objects.append(service(name, rng.choice(CLUSTER_IPS), ports=ports, vips=vips, **fields))
        chosen = rng.sample(ENDPOINTS, rng.choice((0, 1, 1, 2, 3)))
        slice_port = port(rng.choice((80, 8080)), protocol=protocol)
        objects.append(endpoint_slice(name, chosen, ports=[slice_port]))
    return objects


def view(seed: int, mode: ProxyMode = ProxyMode.IPTABLES) -> NodeView:
    rng = random.Random(seed)
    config = rng.choice(({}, {"clusterCIDR": "10.180.0.0/16"}, {mode.value: {"masqueradeAll": True}}))
    cluster = cluster_of(conflicting_services(rng, rng.choice((2, 4, 30))), config)
    nfacct = mode is ProxyMode.IPTABLES and seed % 2 == 0
    return build_view(cluster, options_of(cluster, nfacct=nfacct, mode=mode), IpFamily.IPV4)


@pytest.mark.parametrize("seed", range(CLUSTERS))
def test_conflicts_are_settled_alike(seed: int) -> None:
    assert assert_agree(view(seed), seed, WITHOUT_BPF if seed % 5 == 0 else COMPACT)


@pytest.mark.parametrize("seed", range(CLUSTERS))
def test_conflicts_are_settled_alike_in_nftables(seed: int) -> None:
    found = view(seed, ProxyMode.NFTABLES)
    assert test_nft_layouts_agree.assert_agree(found, seed)
    assert not any(left_over(found))


def left_over(found: NodeView) -> Iterator[tuple[object, ...]]:
    """Yield the elements of shared maps that nobody can come to, since another Service has their key."""
    (table,) = Layout(LayoutName.COMPACT).nft_ruleset(found).tables.values()
    led_to: dict[str, set[object]] = {}
    for name in ("service-ips", "service-nodeports"):
        for *address, _, number in table.sets[name].elements:
            kind = "nodeport-" if not address else ""
            led_to.setdefault(kind, set()).add((*address, number))
    for name, named in table.sets.items():
        if name.startswith("endpoints-") and "/" not in name:
            frontends = led_to.get("nodeport-" if "-nodeport-" in name else "", set())
            yield from (key for key in named.elements if key[:-1] not in frontends)
