"""The other tests can fail: without some of the rules, packets fare otherwise."""

from __future__ import annotations

import pytest

from kproxy_nat.lab.traffic import Outcome
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import requires_kernel
from tests.packet.cases import BRIEFLY, cluster_ip, node_port
from tests.packet.conftest import Cluster
from tests.packet.expect import assert_served
from tests.packet.manifests import manifests
from tests.packet.world import CLIENT, POD_A, POD_FAR, VISITOR
from tests.patience import patient

pytestmark = [pytest.mark.kernel, requires_kernel]


def test_without_masquerading_a_local_endpoint_sees_the_client(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(endpoints=[POD_A]))
    cluster.delete_rules(family, "masquerading")
    assert_served([cluster.ask(CLIENT, node_port(family))], [POD_A], CLIENT.address(family))


def test_without_masquerading_a_remote_endpoint_answers_past_the_node(
    cluster: Cluster, family: IpFamily
) -> None:
    """The client, which asked the node, has no use for an answer from a pod."""
    cluster.load(manifests(endpoints=[POD_FAR]))
    cluster.delete_rules(family, "masquerading")
    assert cluster.ask(CLIENT, node_port(family), timeout=BRIEFLY).outcome is not Outcome.ANSWERED


def test_without_masquerading_there_is_no_hairpin(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(endpoints=[POD_A]))
    cluster.delete_rules(family, "masquerading")
    assert cluster.ask(POD_A, cluster_ip(family), timeout=BRIEFLY).outcome is not Outcome.ANSWERED


def test_without_filter_rules_nothing_is_refused(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests(endpoints=[]))
    cluster.delete_rules(family, "refusing")
    assert cluster.ask(VISITOR, cluster_ip(family), timeout=patient(2)).outcome is not Outcome.REFUSED


def test_without_jumps_there_is_no_service(cluster: Cluster, family: IpFamily) -> None:
    cluster.load(manifests())
    cluster.delete_rules(family, "dispatching")
    assert cluster.ask(VISITOR, cluster_ip(family), timeout=BRIEFLY).outcome is not Outcome.ANSWERED
    assert cluster.ask(CLIENT, node_port(family)).outcome is Outcome.REFUSED
