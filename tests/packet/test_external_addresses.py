"""Connections to load balancers' addresses and to external IPs."""

from __future__ import annotations

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import requires_kernel
from tests.packet.cases import (
    BRIEFLY,
    ENOUGH,
    by_host,
    by_transport,
    external_ip,
    load_balancer,
    node_port,
)
from tests.packet.conftest import Cluster
from tests.packet.expect import assert_served
from tests.packet.manifests import external_ips, manifests
from tests.packet.world import (
    CLIENT,
    ENDPOINTS,
    LOAD_BALANCER_IP,
    LOCAL_ENDPOINTS,
    NODE,
    STRANGER,
    VISITOR,
)

pytestmark = [pytest.mark.kernel, requires_kernel]

CLIENTS_ONLY = ["198.51.100.0/24", "fd00:198::/64"]


@by_transport
@by_host(CLIENT, NODE, VISITOR)
def test_load_balancer(cluster: Cluster, family: IpFamily, transport: Transport, who: Host) -> None:
    cluster.load(manifests(transport=transport, load_balancer=True))
    replies = cluster.ask_many(who, load_balancer(family, transport), ENOUGH)
    assert_served(replies, ENDPOINTS, NODE.address(family))


def test_load_balancer_with_external_policy_local(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(load_balancer=True, externalTrafficPolicy="Local"))
    outside = cluster.ask_many(CLIENT, load_balancer(family), ENOUGH)
    assert_served(outside, LOCAL_ENDPOINTS, CLIENT.address(family))
    inside = cluster.ask_many(VISITOR, load_balancer(family), ENOUGH)
    assert_served(inside, ENDPOINTS, VISITOR.address(family))


def test_source_ranges(cluster: Cluster, family: IpFamily) -> None:
    """Who is in a range is served, who is not is dropped; node ports stay open to all."""
    cluster.load(manifests(load_balancer=True, loadBalancerSourceRanges=CLIENTS_ONLY))
    served = cluster.ask_many(CLIENT, load_balancer(family), ENOUGH)
    assert_served(served, ENDPOINTS, NODE.address(family))
    assert cluster.ask(STRANGER, load_balancer(family), timeout=BRIEFLY).outcome is Outcome.TIMED_OUT
    if cluster.has_counters:
        dropped = cluster.packets(family, "KUBE-PROXY-FIREWALL", f"-d {LOAD_BALANCER_IP[family]}.* -j DROP")
        assert sum(dropped.values()) >= 1
    assert_served(cluster.ask_many(STRANGER, node_port(family), ENOUGH), ENDPOINTS, NODE.address(family))


def test_source_ranges_guard_against_the_cluster_too(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(load_balancer=True, loadBalancerSourceRanges=CLIENTS_ONLY))
    assert cluster.ask(VISITOR, load_balancer(family), timeout=BRIEFLY).outcome is Outcome.TIMED_OUT


def test_source_ranges_of_the_node(cluster: Cluster, family: IpFamily) -> None:
    own = [f"{address}/{family_.bits}" for family_, address in zip(IpFamily, NODE.addresses, strict=True)]
    cluster.load(manifests(load_balancer=True, loadBalancerSourceRanges=own))
    assert_served(cluster.ask_many(NODE, load_balancer(family), ENOUGH), ENDPOINTS, NODE.address(family))
    assert cluster.ask(CLIENT, load_balancer(family), timeout=BRIEFLY).outcome is Outcome.TIMED_OUT


@by_transport
@by_host(CLIENT, VISITOR)
def test_external_ip(cluster: Cluster, family: IpFamily, transport: Transport, who: Host) -> None:
    cluster.load(manifests(transport=transport, externalIPs=external_ips()))
    replies = cluster.ask_many(who, external_ip(family, transport), ENOUGH)
    assert_served(replies, ENDPOINTS, NODE.address(family))


def test_external_ip_with_external_policy_local(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(externalIPs=external_ips(), externalTrafficPolicy="Local"))
    replies = cluster.ask_many(CLIENT, external_ip(family), ENOUGH)
    assert_served(replies, LOCAL_ENDPOINTS, CLIENT.address(family))
