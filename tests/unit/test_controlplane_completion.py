"""What is derived from an input as a whole, and what is not."""

from __future__ import annotations

from typing import Any

from kproxy_nat.controlplane.allocation import AllocationOptions
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.completion import ControlPlaneOptions, complete_cluster, needs_pods
from kproxy_nat.errors import Code
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import parse_cidr
from tests.controlplane.builders import Manifest, load, pod, service, workload


def completed(*manifests: Manifest, options: ControlPlaneOptions | None = None) -> tuple[Cluster, Derivation]:
    cluster = load(*manifests)
    return cluster, complete_cluster(cluster, options or ControlPlaneOptions())


def open_service(name: str = "web", **spec: Any) -> Manifest:
    return service(name, **{"clusterIP": "", "ipFamilies": [], **spec})


def kubernetes() -> Manifest:
    return service("kubernetes", namespace="default", selector=None, clusterIP="10.96.0.1")


def test_no_legacy_endpoints_are_derived() -> None:
    """A proxy reads slices only, and so does everything here."""
    cluster, _ = completed(open_service(), workload())
    assert cluster.endpoints == []
    assert len(cluster.slices) == 1


def test_the_api_server_s_own_endpoints_are_not_derived() -> None:
    """Where an API server listens cannot be known from manifests: its Service stays without endpoints."""
    cluster, derivation = completed(kubernetes(), open_service(), workload())
    assert {source.value.service_name for source in cluster.slices} == {"web"}
    assert not any("kubernetes" in a.subject for a in derivation.assumptions)


def test_nothing_is_done_where_nothing_is_open() -> None:
    stored = service(clusterIPs=["10.96.0.10"])
    before = load(stored)
    cluster, derivation = completed(stored)
    assert (cluster, derivation) == (before, Derivation())


def test_pods_are_needed_where_a_selector_has_no_slice() -> None:
    assert needs_pods(load(service()))
    assert not needs_pods(load(service(selector=None)))
    assert not needs_pods(load(service(type="ExternalName")))


def test_pods_are_left_alone_where_every_selector_has_a_slice() -> None:
    made: Manifest = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
    }
    cluster, derivation = completed(service(), made, workload(), pod())
    assert [source.value.metadata.name for source in cluster.slices] == ["s"]
    assert cluster.nodes == []
    assert derivation == Derivation()


def test_a_selector_without_any_pod_in_the_input_is_warned_of_in_typed_services_only() -> None:
    _, typed = completed(open_service())
    assert [problem.code for problem in typed.problems] == [Code.SELECTOR_WITHOUT_PODS]
    cluster, complete = completed(service())
    assert complete.problems == []
    assert cluster.slices == []


def test_with_pods_in_the_input_it_is_warned_of_in_all() -> None:
    _, derivation = completed(service(selector={"app": "other"}), pod())
    assert [problem.code for problem in derivation.problems] == [Code.SELECTOR_WITHOUT_PODS]


def test_a_stored_load_balancer_gets_an_address_only_from_a_pool_that_is_given() -> None:
    """And nothing else: its missing node port was not wanted."""
    stored = service(clusterIPs=["10.96.0.10"], type="LoadBalancer")
    assert completed(stored)[1] == Derivation()
    pool = ControlPlaneOptions(AllocationOptions(load_balancer_pool=(parse_cidr("203.0.113.0/30"),)))
    _, derivation = completed(stored, options=pool)
    assert [a.text.partition(" 203")[0] for a in derivation.assumptions] == ["load balancer IP"]


def test_refused_services_are_taken_out() -> None:
    cluster, derivation = completed(
        open_service("a"), open_service("b", clusterIP="192.0.2.1", type="NodePort")
    )
    assert [source.value.metadata.name for source in cluster.services] == ["a"]
    assert Code.ADDRESS_OUT_OF_RANGE in {problem.code for problem in derivation.problems}


def test_nodes_are_added_for_pods_without_room_and_move_no_other() -> None:
    few, _ = completed(open_service(), workload(replicas=20))
    many, derivation = completed(open_service(), workload(replicas=20), workload(name="x", replicas=1000))
    assert (len(few.nodes), len(many.nodes)) == (2, 5)
    assert derivation.problems == []
    assert len({ip for source in many.pods for ip in source.value.ips}) == 2 * 1020
    now = {source.value.metadata.name: source.value.spec.node_name for source in many.pods}
    assert all(now[s.value.metadata.name] == s.value.spec.node_name for s in few.pods)


def test_a_number_of_nodes_that_is_given_is_not_exceeded() -> None:
    options = ControlPlaneOptions(assume_nodes=1, stated=frozenset(["--assume-nodes"]))
    cluster, derivation = completed(open_service(), workload(replicas=300), options=options)
    assert len(cluster.nodes) == 1
    assert [problem.code for problem in derivation.problems] == [Code.TOO_MANY_PODS]
