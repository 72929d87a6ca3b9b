"""Which endpoint a connection gets: at random, or with session affinity the one from before."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host, of_family
from kproxy_nat.lab.traffic import Target
from kproxy_nat.net.addresses import IpFamily, join_host_port
from tests.kernel.netns import requires_kernel
from tests.packet.cases import (
    ENOUGH,
    TCP,
    by_transport,
    cluster_ip,
    node_port,
)
from tests.packet.conftest import Cluster
from tests.packet.expect import servers_of
from tests.packet.manifests import PORT, manifests
from tests.packet.world import CLIENT, CLUSTER_IP, CROWD, ENDPOINTS, TARGET_PORT, VISITOR
from tests.patience import patient

pytestmark = [pytest.mark.kernel, requires_kernel]

CONNECTIONS = 720
SIGMAS = 6
STICKY = 30
TIMEOUT = int(patient(2))
"""Seconds of affinity where it has to expire: longer than it takes to ask twice on a busy machine."""


def by_rules(cluster: Cluster, family: IpFamily, endpoints: Sequence[Host]) -> Counter[str]:
    """Return how many connections the rules have sent to each endpoint: the packets of its DNAT rule."""
    names = {join_host_port(pod.address(family), TARGET_PORT): pod.name for pod in endpoints}
    rules = cluster.packets(family, "KUBE-SEP-", "-j DNAT")
    return Counter(
        {names[re.sub(".*--to-destination ", "", rule)]: packets for rule, packets in rules.items()}
    )


def affinity(seconds: int) -> dict[str, Any]:
    return {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
    }


@by_transport
@pytest.mark.parametrize("count", [2, 3])
def test_even_distribution(cluster: Cluster, family: IpFamily, transport: Transport, count: int) -> None:
    """Rules and servers count the same, and no endpoint is off by more than chance explains."""
    endpoints = ENDPOINTS[:count]
    cluster.load(manifests(transport=transport, endpoints=endpoints))
    before = cluster.servers.answered()
    target = cluster_ip(family, transport)
    asked = Counter(servers_of(cluster.ask_many(VISITOR, target, CONNECTIONS)))
    assert cluster.servers.answered() - before == asked
    if cluster.has_counters:
        assert by_rules(cluster, family, endpoints) == asked
    share = 1 / count
    sigma = math.sqrt(CONNECTIONS * share * (1 - share))
    for endpoint in endpoints:
        assert abs(asked[endpoint.name] - CONNECTIONS * share) < SIGMAS * sigma


@by_transport
def test_affinity_sticks(cluster: Cluster, family: IpFamily, transport: Transport) -> None:
    cluster.load(manifests(f"sticky-{transport.lower()}", transport=transport, **affinity(10800)))
    target = cluster_ip(family, transport)
    first = servers_of([cluster.ask(VISITOR, target)])
    assert set(servers_of(cluster.ask_many(VISITOR, target, STICKY))) == set(first)


def test_affinity_covers_cluster_ip_and_node_port(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests("both", **affinity(10800)))
    first = servers_of([cluster.ask(CLIENT, cluster_ip(family))])
    assert set(servers_of(cluster.ask_many(CLIENT, node_port(family), STICKY))) == set(first)


def test_affinity_is_by_client(cluster: Cluster, family: IpFamily) -> None:
    """Each of many addresses stays with its endpoint, and they do not all have the same."""
    cluster.load(manifests("crowd", **affinity(10800)))
    first, second = (ask_as_crowd(cluster, family) for _ in range(2))
    assert first == second
    assert len(set(first)) > 1


def test_affinity_expires(cluster: Cluster, family: IpFamily) -> None:
    """After the timeout the endpoints are drawn anew. All being the same again has odds of 3^-16."""
    cluster.load(manifests("expiring", **affinity(TIMEOUT)))
    first, second = (ask_as_crowd(cluster, family) for _ in range(2))
    assert first == second
    time.sleep(TIMEOUT + 0.2)
    assert ask_as_crowd(cluster, family) != first


def test_endpoint_that_is_gone_ends_affinity(cluster: Cluster, family: IpFamily) -> None:
    target = cluster_ip(family)
    cluster.load(manifests("shrinking", **affinity(10800)))
    [first] = servers_of([cluster.ask(VISITOR, target)])
    rest = [pod for pod in ENDPOINTS if pod.name != first]
    cluster.load(manifests("shrinking", endpoints=rest, **affinity(10800)))
    again = set(servers_of(cluster.ask_many(VISITOR, target, STICKY)))
    assert len(again) == 1
    assert first not in again


def test_no_affinity_no_sticking(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests())
    target = cluster_ip(family)
    assert len(set(servers_of(cluster.ask_many(VISITOR, target, ENOUGH)))) == len(ENDPOINTS)


def ask_as_crowd(cluster: Cluster, family: IpFamily) -> list[str]:
    """Let each address of the client ask once, and return who answered them, in their order."""
    sources = list(of_family(CLIENT.addresses, family))
    assert len(sources) == CROWD
    targets = [Target(TCP, CLUSTER_IP[family], PORT, source) for source in sources]
    return servers_of(cluster.ask_all(CLIENT, targets))
