"""A Service without usable endpoints refuses at once, by whichever way one comes."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome, Target
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import VARIANTS, requires_kernel
from tests.packet.cases import (
    BRIEFLY,
    by_host,
    by_transport,
    cluster_ip,
    external_ip,
    load_balancer,
    node_port,
)
from tests.packet.conftest import Cluster
from tests.packet.expect import assert_served
from tests.packet.loading import IPTABLES_ONLY, NFTABLES_ONLY
from tests.packet.manifests import external_ips, manifests
from tests.packet.world import (
    CLIENT,
    CLUSTER_IP,
    NODE,
    POD_A,
    POD_FAR,
    VISITOR,
)

RANGES = ["198.51.100.0/24", "fd00:198::/64"]

pytestmark = [pytest.mark.kernel, requires_kernel]


def ways(cluster: Cluster, who: Host, family: IpFamily, transport: Transport) -> list[Target]:
    """Return what ``who`` may ask in vain. For outside addresses a node's own connections are not refused.

    kube-proxy has no such rules of iptables in OUTPUT: there it is left to routing.
    """
    inside = [cluster_ip(family, transport), node_port(family, transport)]
    outside = [load_balancer(family, transport), external_ip(family, transport)]
    return inside if who is NODE and cluster.kind in VARIANTS else inside + outside


@by_transport
@by_host(VISITOR, NODE, CLIENT)
def test_without_endpoints(cluster: Cluster, family: IpFamily, transport: Transport, who: Host) -> None:
    spec: dict[str, Any] = {"transport": transport, "load_balancer": True, "externalIPs": external_ips()}
    cluster.load(manifests(endpoints=[], **spec))
    targets = ways(cluster, who, family, transport)
    outcomes = [reply.outcome for reply in cluster.ask_all(who, targets)]
    assert outcomes == [Outcome.REFUSED] * len(targets)


def test_unready_endpoints_are_none(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(ready=False))
    reply = cluster.ask(VISITOR, cluster_ip(family))
    assert reply.outcome is Outcome.REFUSED


@by_transport
def test_scaled_down_to_nothing_and_up_again(
    cluster: Cluster, family: IpFamily, transport: Transport
) -> None:
    target = cluster_ip(family, transport)
    for endpoints in ([POD_A], [], [POD_FAR]):
        cluster.load(manifests(transport=transport, endpoints=endpoints))
        reply = cluster.ask(VISITOR, target)
        if endpoints:
            assert_served([reply], endpoints, VISITOR.address(family))
        else:
            assert reply.outcome is Outcome.REFUSED


def test_internal_policy_local_without_local_endpoints(cluster: Cluster, family: IpFamily) -> None:
    """There are endpoints elsewhere, so the packets are dropped and not refused."""
    cluster.load(manifests(internalTrafficPolicy="Local", endpoints=[POD_FAR]))
    target = cluster_ip(family)
    assert cluster.ask(VISITOR, target, timeout=BRIEFLY).outcome is Outcome.TIMED_OUT
    if cluster.has_counters:
        dropped = cluster.packets(family, "KUBE-SERVICES", f"-d {CLUSTER_IP[family]}.* -j DROP")
        assert sum(dropped.values()) >= 1


@IPTABLES_ONLY
def test_source_ranges_do_not_matter_then(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(load_balancer=True, loadBalancerSourceRanges=RANGES, endpoints=[]))
    reply = cluster.ask(VISITOR, load_balancer(family))
    assert reply.outcome is Outcome.REFUSED


@NFTABLES_ONLY
def test_source_ranges_matter_even_then(cluster: Cluster, family: IpFamily) -> None:
    """They are looked at first, whether there are endpoints or not."""
    cluster.load(manifests(load_balancer=True, loadBalancerSourceRanges=RANGES, endpoints=[]))
    outside = cluster.ask(VISITOR, load_balancer(family), timeout=BRIEFLY)
    assert outside.outcome is Outcome.TIMED_OUT
    assert cluster.ask(CLIENT, load_balancer(family)).outcome is Outcome.REFUSED
