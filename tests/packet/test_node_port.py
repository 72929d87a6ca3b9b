"""Connections to node ports, on the node's address and on its loopback address."""

from __future__ import annotations

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome, Target
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import requires_kernel
from tests.packet.cases import (
    BRIEFLY,
    ENOUGH,
    TCP,
    by_host,
    by_transport,
    node_port,
)
from tests.packet.conftest import Cluster
from tests.packet.expect import assert_served
from tests.packet.loading import IPTABLES_ONLY, NFTABLES_ONLY, tables
from tests.packet.manifests import NODE_PORT, manifests
from tests.packet.world import (
    CLIENT,
    ENDPOINTS,
    LOCAL_ENDPOINTS,
    LOOPBACK,
    NODE,
    POD_FAR,
    TARGET_PORT,
    VISITOR,
)

pytestmark = [pytest.mark.kernel, requires_kernel]


@by_transport
@by_host(CLIENT, NODE, VISITOR)
def test_external_policy_cluster_masquerades(
    cluster: Cluster, family: IpFamily, transport: Transport, who: Host
) -> None:
    cluster.load(manifests(transport=transport))
    assert_served(
        cluster.ask_many(who, node_port(family, transport), ENOUGH), ENDPOINTS, NODE.address(family)
    )


@by_transport
def test_external_policy_local_keeps_the_clients_address(
    cluster: Cluster, family: IpFamily, transport: Transport
) -> None:
    cluster.load(manifests(transport=transport, externalTrafficPolicy="Local"))
    replies = cluster.ask_many(CLIENT, node_port(family, transport), ENOUGH)
    assert_served(replies, LOCAL_ENDPOINTS, CLIENT.address(family))


def test_external_policy_local_is_not_for_the_cluster(cluster: Cluster, family: IpFamily) -> None:
    """The node and its pods take the short cut to all endpoints; pods are not masqueraded on it."""
    cluster.load(manifests(externalTrafficPolicy="Local"))
    assert_served(cluster.ask_many(NODE, node_port(family), ENOUGH), ENDPOINTS, NODE.address(family))
    assert_served(cluster.ask_many(VISITOR, node_port(family), ENOUGH), ENDPOINTS, VISITOR.address(family))


def test_external_policy_local_without_local_endpoints(cluster: Cluster, family: IpFamily) -> None:
    """Outsiders' packets are dropped, so that another node may be tried; insiders are served."""
    cluster.load(manifests(externalTrafficPolicy="Local", endpoints=[POD_FAR]))
    assert cluster.ask(CLIENT, node_port(family), timeout=BRIEFLY).outcome is Outcome.TIMED_OUT
    if cluster.has_counters:
        dropped = cluster.packets(family, "KUBE-EXTERNAL-SERVICES", f"--dport {NODE_PORT} .*-j DROP")
        assert sum(dropped.values()) >= 1
    assert_served([cluster.ask(VISITOR, node_port(family))], [POD_FAR], VISITOR.address(family))


@IPTABLES_ONLY
@by_transport
def test_on_the_loopback_address(cluster: Cluster, transport: Transport) -> None:
    cluster.load(manifests(transport=transport))
    target = Target(transport, LOOPBACK[IpFamily.IPV4], NODE_PORT)
    assert_served(cluster.ask_many(NODE, target, ENOUGH), ENDPOINTS, NODE.address(IpFamily.IPV4))


@IPTABLES_ONLY
def test_on_the_loopback_address_with_external_policy_local(cluster: Cluster) -> None:
    """The node's own connections take the short cut, and have to lose their loopback address on it."""
    cluster.load(manifests(externalTrafficPolicy="Local"))
    target = Target(TCP, LOOPBACK[IpFamily.IPV4], NODE_PORT)
    assert_served(cluster.ask_many(NODE, target, ENOUGH), ENDPOINTS, NODE.address(IpFamily.IPV4))


def test_not_on_the_loopback_address_of_ipv6(cluster: Cluster) -> None:
    cluster.load(manifests())
    target = Target(TCP, LOOPBACK[IpFamily.IPV6], NODE_PORT)
    assert cluster.ask(NODE, target).outcome is Outcome.REFUSED


@NFTABLES_ONLY
def test_not_on_the_loopback_address(cluster: Cluster) -> None:
    cluster.load(manifests())
    assert cluster.ask(NODE, Target(TCP, LOOPBACK[IpFamily.IPV4], NODE_PORT)).outcome is Outcome.REFUSED


@IPTABLES_ONLY
def test_not_on_the_loopback_address_when_turned_off(cluster: Cluster) -> None:
    cluster.load(manifests(config={"iptables": {"localhostNodePorts": False}}))
    target = Target(TCP, LOOPBACK[IpFamily.IPV4], NODE_PORT)
    assert cluster.ask(NODE, target).outcome is Outcome.REFUSED


def test_only_on_chosen_addresses(cluster: Cluster, family: IpFamily) -> None:
    """Here on none: the node has no address in these networks."""
    networks = ["10.250.0.0/16", "fd00:250::/64"]
    cluster.load(manifests(config={"nodePortAddresses": networks}))
    assert cluster.ask(CLIENT, node_port(family)).outcome is Outcome.REFUSED


@IPTABLES_ONLY
def test_masqueraded_packets_pass_a_host_that_forwards_nothing(cluster: Cluster, family: IpFamily) -> None:
    """KUBE-FORWARD accepts them, there and back; others meet the policy."""
    cluster.load(manifests())
    policy = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    tables(cluster.lab.of(NODE), cluster.kind, family, "restore", "--noflush", stdin=policy)
    assert_served(cluster.ask_many(CLIENT, node_port(family), ENOUGH), ENDPOINTS, NODE.address(family))
    direct = Target(TCP, POD_FAR.address(family), TARGET_PORT)
    assert cluster.ask(VISITOR, direct, timeout=BRIEFLY).outcome is Outcome.TIMED_OUT
