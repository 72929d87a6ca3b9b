"""Laws of derived Pods and slices, for every cluster."""

from __future__ import annotations

import random
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import EndpointHints, EndpointSlice
from kproxy_nat.model.endpoints_validation import validate_slice
from kproxy_nat.model.node_validation import validate_node
from kproxy_nat.model.workload_validation import validate_pod
from kproxy_nat.model.workloads import Pod
from tests.controlplane.builders import Manifest, complete, load, node, pod, service, workload

MOST_REPLICAS = 4
"""As many as are told by name, so that reports of second choices are complete."""

names = st.sampled_from("web api db cache mail".split())
apps = st.fixed_dictionaries({"app": names}, optional={"tier": st.sampled_from(["a", "b"])})


@st.composite
def workloads(draw: st.DrawFn) -> Manifest:
    kind = draw(st.sampled_from(["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"]))
    spec: dict[str, Any] = {"labels": draw(apps), "pod": {"hostNetwork": draw(st.booleans())}}
    ports = [{"name": draw(st.sampled_from(["web", "http"])), "containerPort": draw(st.integers(1, 65535))}]
    spec["pod"]["containers"] = [{"name": "c", "ports": ports}]
    if kind != "DaemonSet":
        spec["replicas"] = draw(st.integers(0, MOST_REPLICAS))
    return workload(kind, draw(names), **spec)


@st.composite
def services(draw: st.DrawFn) -> Manifest:
    families = draw(st.sampled_from([["IPv4"], ["IPv4", "IPv6"], []]))
    auto = {"service.kubernetes.io/topology-mode": "Auto"}
    return service(
        draw(names),
        draw(st.sampled_from([None, 8080, "web", "http"])),
        ipFamilies=families,
        selector=draw(apps),
        publishNotReadyAddresses=draw(st.booleans()),
        trafficDistribution=draw(st.sampled_from(["", "PreferClose", "PreferSameNode"])),
        annotations=draw(st.sampled_from([{}, auto])),
    )


@st.composite
def pods(draw: st.DrawFn) -> Manifest:
    ip = draw(st.one_of(st.just(""), st.integers(2, 250).map(lambda n: f"10.1.1.{n}")))
    on = draw(st.sampled_from(["", "n1", "n2", "gone"]))
    ready = draw(st.sampled_from(["True", "False"]))
    return pod(f"typed-{draw(names)}", ip, on, draw(apps), ready=ready)


NODES = [
    node("n1", "10.1.1.0/24", "fd00:1:1::/64", zone="a"),
    node("n2", "10.1.2.0/24", "fd00:1:2::/64", zone="b", cpu="6"),
    node("n3", zone="a"),
]


def unlike(manifests: list[Manifest]) -> list[Manifest]:
    """Leave out what is there twice."""
    return list({(one["kind"], one["metadata"]["name"]): one for one in manifests}.values())


clusters = st.builds(
    lambda nodes, *parts: unlike([*nodes, *(one for part in parts for one in part)]),
    st.sampled_from([[], NODES[:1], NODES]),
    st.lists(workloads(), max_size=5),
    st.lists(services(), max_size=4),
    st.lists(pods(), max_size=3),
)

laws = settings(max_examples=120, deadline=None)


def derived(manifests: list[Manifest]) -> tuple[Cluster, Derivation]:
    cluster = load(*manifests)
    return cluster, complete(cluster)


def values(cluster: Cluster) -> tuple[list[Any], list[Any], list[Any]]:
    pods, nodes, slices = cluster.pods, cluster.nodes, cluster.slices
    return [s.value for s in pods], [s.value for s in nodes], [s.value for s in slices]


@laws
@given(clusters, st.randoms(use_true_random=False))
def test_permuting_the_input_changes_nothing(manifests: list[Manifest], chance: random.Random) -> None:
    shuffled = manifests[:]
    chance.shuffle(shuffled)
    one, first = derived(manifests)
    other, second = derived(shuffled)
    assert values(one) == values(other)
    assert [(a.subject, a.text) for a in first.assumptions] == [
        (a.subject, a.text) for a in second.assumptions
    ]
    assert sorted(p.message for p in first.problems) == sorted(p.message for p in second.problems)


def pods_by_name(cluster: Cluster) -> dict[str, Pod]:
    return {source.value.metadata.name: source.value for source in cluster.pods}


def second_choices(derivation: Derivation) -> set[str]:
    """The names of Pods that did not get their first choice."""
    texts = [a.text.partition("second choice: ")[2] for a in derivation.assumptions]
    return {name for text in texts for name in re.findall(r"(\S+) \(the first", text)}


@laws
@given(clusters, workloads())
def test_another_workload_moves_no_pod_unless_both_chose_one_address_and_that_is_reported(
    manifests: list[Manifest], added: Manifest
) -> None:
    added["metadata"]["name"] = "added"
    before, first = derived(manifests)
    after, second = derived([*manifests, added])
    reported = second_choices(first) | second_choices(second)
    now = pods_by_name(after)
    for name, old in pods_by_name(before).items():
        assert name in now
        assert now[name].spec.node_name == old.spec.node_name
        if name not in reported:
            assert now[name] == old


@laws
@given(clusters, st.integers(1, MOST_REPLICAS))
def test_another_deployment_that_no_service_selects_changes_no_slice(
    manifests: list[Manifest], replicas: int
) -> None:
    added = workload("Deployment", "added", replicas=replicas, labels={"app": "nobody"})
    before, first = derived(manifests)
    after, second = derived([*manifests, added])
    if not second_choices(first) | second_choices(second):
        assert values(before)[2] == values(after)[2]


@laws
@given(clusters)
def test_deriving_twice_is_deriving_once(manifests: list[Manifest]) -> None:
    cluster, _ = derived(manifests)
    once = values(cluster)
    complete(cluster)
    assert values(cluster) == once


@laws
@given(clusters)
def test_slices_taken_away_are_made_again(manifests: list[Manifest]) -> None:
    cluster, _ = derived(manifests)
    once = values(cluster)
    cluster.slices = []
    complete(cluster)
    assert values(cluster) == once


@laws
@given(clusters)
def test_every_derived_object_is_valid_and_has_a_name_of_its_own(manifests: list[Manifest]) -> None:
    cluster, _ = derived(manifests)
    assert [f for source in cluster.pods for f in validate_pod(source.value)] == []
    assert [f for source in cluster.nodes for f in validate_node(source.value)] == []
    assert [f for source in cluster.slices for f in validate_slice(source.value)] == []
    for objects in values(cluster):
        assert len({(one.metadata.namespace, one.metadata.name) for one in objects}) == len(objects)


@laws
@given(clusters)
def test_every_derived_slice_is_within_the_limits_of_the_api(manifests: list[Manifest]) -> None:
    cluster, _ = derived(manifests)
    for source in cluster.slices:
        endpoints = source.value.endpoints or ()
        assert len(endpoints) <= 1000
        assert len({port.name for port in source.value.ports or ()}) == len(source.value.ports or ())
        for endpoint in endpoints:
            assert 1 <= len(endpoint.addresses) <= 100
            hints = endpoint.hints or EndpointHints()
            assert len(hints.for_zones or ()) <= 8
            assert len(hints.for_nodes or ()) <= 8


@laws
@given(clusters)
def test_no_two_pods_share_an_address_but_those_of_the_node_s_network(manifests: list[Manifest]) -> None:
    given_ips = {ip for source in load(*manifests).pods for ip in source.value.ips}
    cluster, _ = derived(manifests)
    seen: set[str] = set()
    for source in cluster.pods:
        one = source.value
        if not one.spec.host_network:
            fresh = [ip for ip in one.ips if ip not in given_ips]
            assert not seen.intersection(fresh)
            seen.update(fresh)


def slice_size(one: EndpointSlice) -> int:
    return len(one.endpoints or ())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 450))
def test_all_pods_are_endpoints_in_slices_of_at_most_100(replicas: int) -> None:
    big = node("n1", "10.8.0.0/16")
    cluster, _ = derived([big, workload(replicas=replicas), service()])
    sizes = [slice_size(source.value) for source in cluster.slices]
    assert sum(sizes) == replicas
    assert max(sizes) <= 100
    assert len(sizes) == max(1, -(-replicas // 100))
