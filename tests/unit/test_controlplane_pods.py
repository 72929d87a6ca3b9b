"""Pods of the input and Pods that workloads would make: names, Nodes, addresses, and what is told of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kproxy_nat.controlplane.node_networks import Network
from kproxy_nat.controlplane.pods import make_pods
from kproxy_nat.errors import Code, Severity
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.workloads import Pod, PodCondition
from kproxy_nat.net.addresses import parse_address, parse_cidr
from tests.controlplane.builders import Manifest, load, node, pod, pods_from, service, workload

N1 = node("n1", "10.1.1.0/24", "fd00:1:1::/64", zone="a")
N2 = node("n2", "10.1.2.0/24", "fd00:1:2::/64", zone="b")


def ips(one: Pod) -> list[str]:
    return [entry.ip for entry in one.status.pod_ips]


def owner(kind: str, name: str) -> list[Manifest]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True}]


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_pods_of_a_deployment_or_replicaset_have_five_letters_after_its_name(kind: str) -> None:
    made, _, _ = pods_from(workload(kind, replicas=3))
    assert len(made) == 3
    assert all(re.fullmatch("web-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in made)


def test_names_are_the_same_every_time() -> None:
    made, _, _ = pods_from(workload(replicas=2))
    assert sorted(made) == ["web-hbpt5", "web-q4rxr"]


def test_scaling_renames_no_pod() -> None:
    few, _, _ = pods_from(workload(replicas=2))
    many, _, _ = pods_from(workload(replicas=9))
    assert few.keys() <= many.keys()
    assert all(few[name].spec.node_name == many[name].spec.node_name for name in few)


def test_a_long_name_is_cut_as_the_api_server_does() -> None:
    made, _, _ = pods_from(workload(name="x" * 63, replicas=1))
    assert [len(name) for name in made] == [63]


def test_pods_of_a_statefulset_are_numbered_and_know_their_hostname() -> None:
    made, _, _ = pods_from(workload("StatefulSet", replicas=2, serviceName="peers", ordinals={"start": 5}))
    assert list(made) == ["web-5", "web-6"]
    assert (made["web-5"].spec.hostname, made["web-5"].spec.subdomain) == ("web-5", "peers")
    assert made["web-6"].metadata.labels["statefulset.kubernetes.io/pod-name"] == "web-6"
    assert made["web-6"].metadata.labels["apps.kubernetes.io/pod-index"] == "6"


def test_a_daemonset_has_one_pod_a_node() -> None:
    made, _, _ = pods_from(N1, N2, workload("DaemonSet"))
    assert sorted(one.spec.node_name for one in made.values()) == ["n1", "n2"]


def test_made_pods_run_are_ready_and_have_the_templates_labels_and_ports() -> None:
    made, _, _ = pods_from(N1, workload(replicas=1, labels={"app": "web", "tier": "front"}))
    (one,) = made.values()
    assert one.status.phase == "Running"
    assert one.is_ready
    assert one.metadata.labels == {"app": "web", "tier": "front"}
    assert one.spec.containers[0].ports[0].name == "web"


def test_pods_go_round_robin_over_the_nodes() -> None:
    made, _, _ = pods_from(N1, N2, workload(replicas=6))
    assert sorted(one.spec.node_name for one in made.values()) == ["n1"] * 3 + ["n2"] * 3


def test_workloads_begin_their_rounds_at_places_of_their_own() -> None:
    made, _, _ = pods_from(N1, N2, *(workload(name=f"w{number}", replicas=1) for number in range(20)))
    assert {one.spec.node_name for one in made.values()} == {"n1", "n2"}


def test_a_node_that_the_template_names_gets_all() -> None:
    made, _, _ = pods_from(N1, N2, workload(replicas=3, pod={"nodeName": "n2"}))
    assert {one.spec.node_name for one in made.values()} == {"n2"}


def test_addresses_are_of_the_nodes_networks_in_both_families_with_one_host_number() -> None:
    made, _, _ = pods_from(N1, workload(replicas=1))
    (one,) = made.values()
    four, six = ips(one)
    assert one.status.pod_ip == four
    assert four.startswith("10.1.1.")
    assert six == f"fd00:1:1::{int(four.rpartition('.')[2]):x}"


def test_the_first_network_gives_the_first_address() -> None:
    made, _, _ = pods_from(node("n1", "fd00:1:1::/64", "10.1.1.0/24"), workload(replicas=1))
    (one,) = made.values()
    assert ":" in one.status.pod_ip


@pytest.mark.parametrize(
    "cidr, first, last",
    [
        ("10.0.0.0/24", 2, 254),
        ("10.0.0.0/30", 2, 2),
        ("10.0.0.0/31", 0, 1),
        ("10.0.0.7/32", 0, 0),
        ("fd00::/126", 2, 3),
    ],
)
def test_network_bridge_and_broadcast_addresses_are_not_given_out(cidr: str, first: int, last: int) -> None:
    assert Network(parse_cidr(cidr)).hosts == (first, last)


@pytest.mark.parametrize("cidr, host, text", [("::/96", 258, "::102"), ("fd00::/64", 1, "fd00::1")])
def test_addresses_are_printed_canonically(cidr: str, host: int, text: str) -> None:
    assert Network(parse_cidr(cidr)).address(host) == text == parse_address(text)


def test_an_explicit_address_is_never_given_away() -> None:
    small = node("n1", "10.1.1.0/29")  # hosts .2 to .6
    taken = [pod(f"taken-{last}", f"10.1.1.{last}", "n1") for last in (2, 3, 5, 6)]
    made, _, derivation = pods_from(small, *taken, workload(replicas=1))
    (one,) = (one for name, one in made.items() if not name.startswith("taken"))
    assert ips(one) == ["10.1.1.4"]
    assert derivation.problems == []


def test_of_two_pods_with_one_first_choice_the_first_by_name_has_it_and_the_other_is_reported() -> None:
    small = node("n1", "10.1.1.0/28")
    names = [f"p{number}" for number in range(8)]
    made, _, derivation = pods_from(small, *(pod(name) for name in names))
    assert len({made[name].status.pod_ip for name in names}) == len(names)
    moved = [a for a in derivation.assumptions if "second choice" in a.text]
    assert moved
    for one in moved:
        first = re.search(r"the first, (\S+), is that of Pod shop/(\S+)\)", one.text)
        assert first
        assert made[first[2]].status.pod_ip == first[1]


def test_hostnetwork_pods_have_the_nodes_internal_addresses() -> None:
    made, _, _ = pods_from(N1, workload(replicas=1, pod={"hostNetwork": True}))
    (one,) = made.values()
    assert ips(one) == ["192.0.2.10", "2001:db8::10"]


def test_hostnetwork_without_internal_address_is_warned_of() -> None:
    bare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    _, _, derivation = pods_from(bare, workload(replicas=1, pod={"hostNetwork": True}))
    (problem,) = derivation.problems
    assert (problem.code, problem.severity) == (Code.POD_NOT_PLACED, Severity.WARNING)
    assert "Node n1 has no InternalIP" in problem.message


# --- Nodes


def test_without_nodes_some_are_assumed() -> None:
    _, nodes, derivation = pods_from(workload(replicas=1), assume_nodes=2)
    assert list(nodes) == ["node-1", "node-2"]
    second = nodes["node-2"]
    assert second.pod_cidrs == ["10.244.2.0/24", "fd00:10:244:2::/64"]
    assert [address.address for address in second.status.addresses] == ["192.168.99.2", "fd00:192:168:99::2"]
    assert [one.zone for one in nodes.values()] == ["zone-a", "zone-b"]
    assert [a.subject for a in derivation.assumptions] == ["Nodes", "Deployment shop/web"]
    assert derivation.assumptions[0].text.startswith("2 Nodes: node-1 (zone-a, InternalIP 192.168.99.1, ")


def test_no_node_is_assumed_where_nothing_is_to_be_put_on_one() -> None:
    _, nodes, derivation = pods_from(service(), workload(replicas=0))
    assert nodes == {}
    assert derivation.assumptions == []


def test_nodes_of_the_input_are_not_added_to() -> None:
    _, nodes, _ = pods_from(N1, workload(replicas=1))
    assert list(nodes) == ["n1"]


def test_without_nodes_those_that_pods_name_are_assumed_without_zone() -> None:
    made, nodes, derivation = pods_from(pod("web-0", "10.9.0.1", "worker"))
    assert list(nodes) == ["worker"]
    assert nodes["worker"].zone == ""
    assert made["web-0"].spec.node_name == "worker"
    assert derivation.assumptions == []


def test_workloads_are_not_spread_over_nodes_of_which_only_the_name_is_known() -> None:
    made, nodes, _ = pods_from(pod("web-0", "10.9.0.1", "worker"), workload(replicas=4))
    assert list(nodes) == ["node-1", "node-2", "worker"]
    assert sorted(one.spec.node_name for one in made.values()) == ["node-1"] * 2 + ["node-2"] * 2 + ["worker"]


def test_a_node_without_podcidrs_gets_assumed_networks() -> None:
    made, nodes, derivation = pods_from(node("a"), node("b", "10.244.7.0/24"), pod("p", node="a"))
    number = made["p"].status.pod_ip.split(".")[2]
    assert f"pod networks 10.244.{number}.0/24, fd00:10:244:{number}::/64" in [
        a.text for a in derivation.assumptions if a.subject == "Node a"
    ]
    assert number != "7"
    assert nodes["a"].pod_cidrs == []


@pytest.mark.parametrize("count", [0, 255])
def test_only_1_to_254_nodes_can_be_assumed(count: int) -> None:
    with pytest.raises(ValueError, match="cannot be assumed"):
        make_pods(load(workload(replicas=1)), count)


def test_a_pod_on_a_node_that_is_not_there_is_warned_of_once_a_node() -> None:
    _, _, derivation = pods_from(N1, pod("a", "10.9.0.1", "gone"), pod("b", node="gone"))
    (problem,) = derivation.problems
    assert (problem.code, problem.severity) == (Code.POD_NOT_PLACED, Severity.WARNING)
    assert problem.message == "Node gone is not in the input, so its Pods are no endpoints (and 1 more on it)"
    assert problem.subject == "Pod shop/a"


# --- Pods of the input


def test_a_cluster_s_own_pod_stays_as_it_is() -> None:
    pending = pod("pending", status={"phase": "Pending"})
    cluster = load(N1, pod("own", "10.1.1.9", "n1", ready="False"), pending)
    pods, _, derivation = make_pods(cluster, 2)
    assert [p.value for p in pods] == [p.value for p in cluster.pods]
    assert derivation.assumptions == []


def test_a_pod_typed_by_hand_is_completed() -> None:
    made, _, derivation = pods_from(N1, pod("typed"))
    one = made["typed"]
    assert (one.spec.node_name, one.status.phase, one.is_ready) == ("n1", "Running", True)
    assert len(ips(one)) == 2
    assert [(a.subject, a.text) for a in derivation.assumptions] == [
        ("Pod shop/typed", f"Running, Ready, on n1, podIPs {', '.join(ips(one))}")
    ]


def test_what_a_pod_typed_by_hand_says_stands() -> None:
    status = {"conditions": [{"type": "Ready", "status": "False"}], "podIP": "10.1.2.77"}
    made, _, _ = pods_from(N1, N2, pod("typed", status=status))
    one = made["typed"]
    assert one.spec.node_name == "n2"
    assert ips(one) == ["10.1.2.77"]
    assert one.status.conditions == [PodCondition("Ready", "False")]


def test_other_conditions_do_not_make_it_unready() -> None:
    status = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
    made, _, _ = pods_from(N1, pod("typed", status=status))
    assert made["typed"].is_ready


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "DaemonSet"])
def test_pods_that_a_workload_owns_are_used_instead_of_new_ones(kind: str) -> None:
    made, _, _ = pods_from(
        N1, workload(kind, replicas=1), pod("web-abc", "10.1.1.9", "n1", owners=owner(kind, "web"))
    )
    assert list(made) == ["web-abc"]


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_a_workload_that_has_some_of_its_pods_makes_the_others(kind: str) -> None:
    own = pod("web-abc", "10.1.1.9", "n1", owners=owner(kind, "web"))
    made, _, derivation = pods_from(N1, workload(kind, replicas=3), own)
    assert len(made) == 3
    assert made["web-abc"].ips == ["10.1.1.9"]
    assert [a.text.partition(":")[0] for a in derivation.assumptions] == ["2 Pods"]


def test_a_daemonset_adds_pods_on_nodes_where_it_has_none() -> None:
    own = pod("web-abc", "10.1.1.9", "n1", owners=owner("DaemonSet", "web"))
    made, _, _ = pods_from(N1, N2, workload("DaemonSet"), own)
    assert sorted(one.spec.node_name for one in made.values()) == ["n1", "n2"]


def test_pods_taken_away_are_made_again_as_they_were() -> None:
    whole, _, _ = pods_from(N1, N2, workload(replicas=4))
    kept = list(whole.values())[1:3]
    own = [pod(p.metadata.name, p.ips, p.spec.node_name, owners=owner("Deployment", "web")) for p in kept]
    again, _, _ = pods_from(N1, N2, workload(replicas=4), *own)
    assert {name: (p.ips, p.spec.node_name) for name, p in again.items()} == {
        name: (p.ips, p.spec.node_name) for name, p in whole.items()
    }


def test_more_pods_than_replicas_stay() -> None:
    own = [pod(f"web-{n}", f"10.1.1.{n}", "n1", owners=owner("Deployment", "web")) for n in (5, 6)]
    made, _, _ = pods_from(N1, workload(replicas=1), *own)
    assert list(made) == ["web-5", "web-6"]


@pytest.mark.parametrize(
    "parts", [{"meta": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"status": {"phase": "Failed"}}]
)
def test_pods_that_end_are_replaced(parts: dict[str, Any]) -> None:
    own = pod("web-abc", "10.1.1.9", "n1", owners=owner("Deployment", "web"), **parts)
    made, _, _ = pods_from(N1, workload(replicas=1), own)
    assert len(made) == 2


def test_pods_of_a_replicaset_of_a_deployment_are_used() -> None:
    replica_set = workload("ReplicaSet", "web-123", replicas=1, owners=owner("Deployment", "web"))
    own = pod("web-123-x", "10.1.1.9", "n1", owners=owner("ReplicaSet", "web-123"))
    made, _, _ = pods_from(N1, workload(replicas=1), replica_set, own)
    assert list(made) == ["web-123-x"]


def test_the_template_hash_leads_to_the_deployment_without_the_replicaset() -> None:
    labels = {"app": "web", "pod-template-hash": "5f7"}
    own = pod("web-5f7-x", "10.1.1.9", "n1", labels, owners=owner("ReplicaSet", "web-5f7"))
    made, _, _ = pods_from(N1, workload(replicas=1), own)
    assert list(made) == ["web-5f7-x"]


def test_a_replicaset_leaves_making_pods_to_its_deployment() -> None:
    replica_set = workload("ReplicaSet", "web-123", replicas=3, owners=owner("Deployment", "web"))
    made, _, _ = pods_from(N1, workload(replicas=2), replica_set)
    assert len(made) == 2
    alone, _, _ = pods_from(N1, replica_set)
    assert len(alone) == 3


def test_a_pod_with_a_statefulset_s_name_takes_its_place() -> None:
    made, _, _ = pods_from(N1, workload("StatefulSet", replicas=2), pod("web-0", "10.1.1.9", "n1"))
    assert list(made) == ["web-0", "web-1"]
    assert made["web-0"].status.pod_ip == "10.1.1.9"


# --- more Pods than there is room


def test_more_pods_than_the_networks_hold_are_an_error_with_its_place() -> None:
    made, _, derivation = pods_from(node("n1", "10.1.1.0/29"), workload(replicas=9))
    (problem,) = derivation.problems
    assert (problem.code, problem.severity) == (Code.TOO_MANY_PODS, Severity.ERROR)
    assert problem.message == "9 Pods wanted, but the Nodes' pod networks have room for 5 of them only"
    assert problem.subject == "Deployment shop/web"
    assert problem.location is not None
    assert len(made) == 5


def test_a_hundred_thousand_pods_without_room_are_one_error() -> None:
    made, _, derivation = pods_from(workload(replicas=100_000), assume_nodes=1)
    assert len(made) == 253
    assert [problem.code for problem in derivation.problems] == [Code.TOO_MANY_PODS]


def test_a_full_node_leaves_pods_to_the_next() -> None:
    made, _, derivation = pods_from(node("a", "10.1.1.0/29"), node("b", "10.1.2.0/24"), workload(replicas=20))
    assert derivation.problems == []
    assert sorted(one.spec.node_name for one in made.values()) == ["a"] * 5 + ["b"] * 15


def test_pods_bound_to_a_node_come_first() -> None:
    made, _, derivation = pods_from(
        node("a", "10.1.1.0/30"),
        node("b", "10.1.2.0/24"),
        workload(name="a", replicas=20),
        workload("DaemonSet", "z"),
    )
    assert derivation.problems == []
    assert sum(one.spec.node_name == "a" for one in made.values()) == 1
    assert {one.spec.node_name for name, one in made.items() if name.startswith("z-")} == {"a", "b"}


def test_a_daemonset_without_room_on_one_node_is_an_error() -> None:
    full = [node("a", "10.1.1.0/30"), pod("x", "10.1.1.2", "a"), node("b", "10.1.2.0/24")]
    made, _, derivation = pods_from(*full, workload("DaemonSet", "d"))
    assert [problem.code for problem in derivation.problems] == [Code.TOO_MANY_PODS]
    assert "2 Pods wanted" in derivation.problems[0].message
    assert "room for 1 of them" in derivation.problems[0].message
    assert len(made) == 2


def test_a_pod_typed_by_hand_without_room_stays_and_is_an_error() -> None:
    made, _, derivation = pods_from(node("a", "10.1.1.0/30"), pod("x", "10.1.1.2", "a"), pod("y"))
    assert [problem.message for problem in derivation.problems] == [
        "the Nodes' pod networks have no room for it"
    ]
    assert made["y"].ips == []


def test_many_pods_are_told_in_short() -> None:
    _, _, derivation = pods_from(N1, workload(replicas=9))
    (told,) = derivation.assumptions
    assert told.text.startswith("9 Pods: web-")
    assert ", and 5 more" in told.text


def test_an_empty_cluster_yields_nothing() -> None:
    pods, nodes, derivation = make_pods(Cluster(), 2)
    assert (pods, nodes, derivation.assumptions, derivation.problems) == ([], [], [], [])
