"""Connections to a cluster IP, from everywhere and over every transport; and a node that has no rules."""

from __future__ import annotations

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome, Target
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from tests.kernel.netns import requires_kernel
from tests.packet.cases import (
    BRIEFLY,
    ENOUGH,
    TCP,
    by_host,
    by_transport,
    cluster_ip,
)
from tests.packet.conftest import Cluster
from tests.packet.expect import answer_of, assert_served
from tests.packet.loading import NFT_LAYOUTS
from tests.packet.manifests import manifests
from tests.packet.world import (
    CLIENT,
    CLUSTER_IP,
    ENDPOINTS,
    LOCAL_ENDPOINTS,
    NODE,
    POD_A,
    TARGET_PORT,
    VISITOR,
)

pytestmark = [pytest.mark.kernel, requires_kernel]


@by_transport
@by_host(VISITOR, NODE, CLIENT)
def test_cluster_ip(cluster: Cluster, family: IpFamily, transport: Transport, who: Host) -> None:
    """Pods keep their addresses; who is not of the cluster's network comes with the node's."""
    cluster.load(manifests(transport=transport))
    replies = cluster.ask_many(who, cluster_ip(family, transport), ENOUGH)
    assert_served(replies, ENDPOINTS, (who if who is VISITOR else NODE).address(family))


def test_all_is_masqueraded_where_asked_for(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(config={str(mode): {"masqueradeAll": True} for mode in ProxyMode}))
    replies = cluster.ask_many(VISITOR, cluster_ip(family), ENOUGH)
    assert_served(replies, ENDPOINTS, NODE.address(family))


@by_transport
def test_hairpin(cluster: Cluster, family: IpFamily, transport: Transport) -> None:
    """A pod that is its own Service's endpoint meets itself, as if the node had asked."""
    cluster.load(manifests(transport=transport, endpoints=[POD_A]))
    reply = cluster.ask(POD_A, cluster_ip(family, transport))
    answer = answer_of(reply)
    assert (answer.server, answer.peer) == (POD_A.name, NODE.address(family))


def test_pod_that_is_one_endpoint_of_several(cluster: Cluster, family: IpFamily) -> None:
    """It is masqueraded on the way to itself, and only there."""
    cluster.load(manifests())
    replies = cluster.ask_many(POD_A, cluster_ip(family), ENOUGH)
    answers = {(answer_of(reply).server, answer_of(reply).peer) for reply in replies}
    own, node = POD_A.address(family), NODE.address(family)
    assert answers == {(pod.name, node if pod is POD_A else own) for pod in ENDPOINTS}


def test_internal_policy_local(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(internalTrafficPolicy="Local"))
    replies = cluster.ask_many(VISITOR, cluster_ip(family), ENOUGH)
    assert_served(replies, LOCAL_ENDPOINTS, VISITOR.address(family))


def test_other_port_is_no_service(cluster: Cluster, family: IpFamily) -> None:
    """Rules of iptables leave it to routing, which leads nowhere here; those of nftables refuse it.

    The first refusal may go unheard: it can come while the socket is still sending. The next comes a second
    later.
    """
    cluster.load(manifests())
    target = Target(TCP, CLUSTER_IP[family], TARGET_PORT)
    if cluster.kind in NFT_LAYOUTS:
        assert cluster.ask(VISITOR, target).outcome is Outcome.REFUSED
    else:
        outcome = cluster.ask(VISITOR, target, timeout=BRIEFLY).outcome
        assert outcome in (Outcome.TIMED_OUT, Outcome.UNREACHABLE)
