"""Laws of completing a whole input: Services without addresses, workloads without Pods."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.completion import ControlPlaneOptions, complete_cluster
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints_validation import validate_slice
from kproxy_nat.model.service import Service
from kproxy_nat.model.service_validation import validate_service
from tests.controlplane.builders import Manifest, load, service
from tests.property.test_controlplane_laws import NODES, apps, names, pods, second_choices, unlike, workloads

laws = settings(max_examples=100, deadline=None)


@st.composite
def open_services(draw: st.DrawFn) -> Manifest:
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))
    return service(
        draw(names),
        draw(st.sampled_from([None, 8080, "web"])),
        type=kind,
        clusterIP=draw(st.sampled_from(["", "", "None" if kind == "ClusterIP" else ""])),
        ipFamilies=[],
        ipFamilyPolicy=draw(st.sampled_from(["", "PreferDualStack"])),
        selector=draw(st.one_of(st.none(), apps)),
        externalTrafficPolicy="" if kind == "ClusterIP" else draw(st.sampled_from(["Cluster", "Local"])),
    )


inputs = st.builds(
    lambda nodes, *parts: unlike([*nodes, *(one for part in parts for one in part)]),
    st.sampled_from([[], NODES]),
    st.lists(open_services(), min_size=1, max_size=5),
    st.lists(workloads(), max_size=4),
    st.lists(pods(), max_size=2),
)


def completed(manifests: list[Manifest]) -> tuple[Cluster, Derivation]:
    cluster = load(*manifests)
    return cluster, complete_cluster(cluster, ControlPlaneOptions())


def services_by_name(cluster: Cluster) -> dict[str, Service]:
    return {source.value.metadata.name: source.value for source in cluster.services}


def everything(cluster: Cluster) -> list[list[Any]]:
    """All objects by kind, in an order that depends on them alone."""
    kinds = (cluster.services, cluster.pods, cluster.nodes, cluster.slices)
    return [sorted((source.value for source in kind), key=lambda one: one.metadata.name) for kind in kinds]


def moved(*derivations: Derivation) -> bool:
    """Whether anything had to make do with a second choice."""
    texts = [a.text for derivation in derivations for a in derivation.assumptions]
    return any("its usual" in text for text in texts) or any(map(second_choices, derivations))


@laws
@given(inputs, st.randoms(use_true_random=False))
def test_permuting_the_input_changes_nothing(manifests: list[Manifest], chance: random.Random) -> None:
    shuffled = manifests[:]
    chance.shuffle(shuffled)
    assert everything(completed(manifests)[0]) == everything(completed(shuffled)[0])


@laws
@given(inputs)
def test_completing_twice_is_completing_once(manifests: list[Manifest]) -> None:
    cluster, _ = completed(manifests)
    once = everything(cluster)
    again = complete_cluster(cluster, ControlPlaneOptions())
    assert everything(cluster) == once
    assert again.assumptions == []


@laws
@given(inputs, open_services())
def test_another_service_changes_no_address(manifests: list[Manifest], added: Manifest) -> None:
    """Pods that no Service needs have none before."""
    added["metadata"]["name"] = "added"
    before, first = completed(manifests)
    after, second = completed([*manifests, added])
    if not moved(first, second):
        now = services_by_name(after)
        assert all(now[name] == one for name, one in services_by_name(before).items())
        present = {source.value.metadata.name: source.value for source in after.pods}
        running = [s.value for s in before.pods if s.value.ips]
        assert all(present[one.metadata.name].ips == one.ips for one in running)


@laws
@given(inputs, workloads())
def test_another_workload_changes_no_address(manifests: list[Manifest], added: Manifest) -> None:
    added["metadata"]["name"] = "added"
    before, first = completed(manifests)
    after, second = completed([*manifests, added])
    assert services_by_name(after) == services_by_name(before)
    if not moved(first, second):
        present = {source.value.metadata.name: source.value for source in after.pods}
        assert all(present[s.value.metadata.name] == s.value for s in before.pods)


@laws
@given(inputs)
def test_everything_that_comes_out_is_valid_and_has_its_addresses(manifests: list[Manifest]) -> None:
    cluster, derivation = completed(manifests)
    assert [p for p in derivation.problems if p.severity == "error"] == []
    for source in cluster.services:
        assert list(validate_service(source.value)) == []
        assert len(source.value.spec.cluster_ips) == (
            1 if source.value.is_headless else len(source.value.spec.ip_families)
        )
    assert [f for source in cluster.slices for f in validate_slice(source.value)] == []
