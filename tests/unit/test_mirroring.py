"""Endpoints that somebody wrote become slices, as in the control plane, for Services without selector."""

from __future__ import annotations

from kproxy_nat.controlplane.mirroring import mirror_endpoints
from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import (
    DerivedEndpoint,
    EndpointConditions,
    EndpointSlice,
    SlicePort,
    TargetRef,
)
from kproxy_nat.model.workloads import Pod, PodMeta

SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: 10.0.0.1, ports: [{port: 1}]}}\n"  # noqa: E501
WITH_SELECTOR = SERVICE.replace("spec: {", "spec: {selector: {app: db}, ")
SUBSET = "{addresses: [{ip: 192.0.2.1}], ports: [{port: 5432}]}"
SLICE = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: db}}}\n"  # noqa: E501


def endpoints(subsets: str = SUBSET, metadata: str = "") -> str:
    meta = f"{{name: db, namespace: shop, {metadata}}}"
    return f"{{apiVersion: v1, kind: Endpoints, metadata: {meta}, subsets: [{subsets}]}}\n"


def cluster(*documents: str) -> Cluster:
    loaded = load_texts([SourceText("x.yaml", "---\n".join(documents))])
    assert loaded.problems == []
    return loaded.cluster


def mirrored(*documents: str) -> list[EndpointSlice]:
    slices, problems = mirror_endpoints(cluster(*documents))
    assert problems == []
    return [source.value for source in slices]


def refused(*documents: str) -> Problem:
    slices, problems = mirror_endpoints(cluster(*documents))
    assert slices == []
    assert len(problems) == 1
    return problems[0]


def addresses(endpoint_slice: EndpointSlice) -> list[str]:
    return [endpoint.addresses[0] for endpoint in endpoint_slice.endpoints or ()]


def test_a_slice_belongs_to_the_service_and_keeps_labels() -> None:
    (made,) = mirrored(SERVICE, endpoints(metadata="labels: {tier: data}"))
    assert made.service_name == "db"
    assert made.metadata.namespace == "shop"
    assert made.metadata.labels["tier"] == "data"
    assert made.metadata.labels["endpointslice.kubernetes.io/managed-by"] == (
        "endpointslicemirroring-controller.k8s.io"
    )
    assert made.address_type == "IPv4"
    assert made.ports == [SlicePort(port=5432)]


def test_only_ready_is_set() -> None:
    subset = "{addresses: [{ip: 192.0.2.1}], notReadyAddresses: [{ip: 192.0.2.2}], ports: [{port: 1}]}"
    (made,) = mirrored(SERVICE, endpoints(subset))
    assert [endpoint.conditions for endpoint in made.endpoints or ()] == [
        EndpointConditions(ready=True),
        EndpointConditions(ready=False),
    ]


def test_addresses_are_made_canonical_and_keep_their_node() -> None:
    (made,) = mirrored(
        SERVICE, endpoints("{addresses: [{ip: 192.000.002.01, nodeName: n1}], ports: [{port: 1}]}")
    )
    assert made.endpoints is not None
    assert (made.endpoints[0].addresses, made.endpoints[0].node_name) == (["192.0.2.1"], "n1")


def test_there_is_a_slice_for_each_subset() -> None:
    first, second = mirrored(
        SERVICE,
        endpoints(
            f"{SUBSET}, {{addresses: [{{ip: 192.0.2.9}}], ports: [{{port: 1, name: a, protocol: UDP}}]}}"
        ),
    )
    assert (addresses(first), addresses(second)) == (["192.0.2.1"], ["192.0.2.9"])
    assert second.ports == [SlicePort("a", 1, "UDP")]
    assert first.metadata.name != second.metadata.name


def test_a_subset_of_two_families_becomes_two_slices() -> None:
    subset = "{addresses: [{ip: 192.0.2.1}, {ip: 'fd00::1'}, {ip: 192.0.2.2}], ports: [{port: 1}]}"
    made = {s.address_type: addresses(s) for s in mirrored(SERVICE, endpoints(subset))}
    assert made == {"IPv4": ["192.0.2.1", "192.0.2.2"], "IPv6": ["fd00::1"]}


def test_of_a_large_subset_the_first_thousand_are_taken_ready_ones_first() -> None:
    many = ", ".join(f"{{ip: 10.9.{n // 250}.{n % 250}}}" for n in range(990))
    more = ", ".join(f"{{ip: 10.8.0.{n}}}" for n in range(1, 21))
    subset = f"{{notReadyAddresses: [{many}], addresses: [{more}], ports: [{{port: 1}}]}}"
    (made,) = mirrored(SERVICE, endpoints(subset))
    assert made.endpoints is not None
    assert len(made.endpoints) == 1000
    assert sum(endpoint.conditions.ready is True for endpoint in made.endpoints) == 20


def test_no_subsets_make_no_slices() -> None:
    assert mirrored(SERVICE, endpoints("")) == []
    assert mirrored(SERVICE, endpoints().replace("subsets: [", "other: [")) == []


def test_endpoints_that_opt_out_are_left_alone() -> None:
    skip = "labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}"
    leader = "annotations: {control-plane.alpha.kubernetes.io/leader: '{}'}"
    assert mirrored(SERVICE, endpoints(metadata=skip)) == []
    assert mirrored(SERVICE, endpoints(metadata=leader)) == []
    assert len(mirrored(SERVICE, endpoints(metadata=skip.replace("true", "false")))) == 1


def test_slices_that_the_controller_wrote_are_not_written_again() -> None:
    by_controller = SLICE.replace(
        "labels: {",
        "labels: {endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io, ",
    )
    assert mirrored(SERVICE, by_controller, endpoints()) == []
    assert len(mirrored(SERVICE, SLICE, endpoints())) == 1


def test_a_service_with_selector_is_warned_of_unless_its_slices_are_there() -> None:
    problem = refused(WITH_SELECTOR, endpoints())
    assert (problem.code, problem.severity) == (Code.NOT_MIRRORED, Severity.WARNING)
    assert problem.message == "not mirrored into EndpointSlices, and so not used: its Service has a selector"
    assert problem.subject == "Endpoints shop/db"
    assert str(problem.location) == "x.yaml:3:52"
    assert "kubectl get endpointslices" in problem.hint
    assert mirrored(WITH_SELECTOR, SLICE, endpoints()) == []


def test_endpoints_without_service_are_warned_of() -> None:
    problem = refused(endpoints())
    assert (
        problem.message
        == "not mirrored into EndpointSlices, and so not used: there is no Service of this name"
    )
    assert problem.hint == "add the Service"
    assert refused(SERVICE.replace("shop", "mall"), endpoints()).code is Code.NOT_MIRRORED


def test_annotations_host_names_and_targets_are_copied() -> None:
    subset = (
        "{addresses: [{ip: 192.0.2.1, hostname: db-0, targetRef: {kind: Pod, namespace: shop, name: p}}],"
        " ports: [{port: 5432}]}"
    )
    notes = "annotations: {note: kept, kubectl.kubernetes.io/last-applied-configuration: '{}'}"
    (one,) = mirrored(SERVICE, endpoints(subset, notes))
    assert one.metadata.annotations == {"note": "kept"}
    (endpoint,) = one.endpoints or ()
    assert isinstance(endpoint, DerivedEndpoint)
    assert endpoint.hostname == "db-0"
    assert endpoint.target_ref == TargetRef("Pod", "shop", "p")


def test_endpoints_that_a_cluster_wrote_are_its_own_account_of_the_pods() -> None:
    labels = "labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}"
    found = cluster(WITH_SELECTOR, endpoints(metadata=labels))
    assert len(mirror_endpoints(found)[1]) == 1
    found.pods = [Sourced(Pod(PodMeta("p", "shop")), found.services[0].origin)]
    assert mirror_endpoints(found) == ([], [])


def test_endpoints_of_services_without_rules_are_warned_of() -> None:
    external = SERVICE.replace("clusterIP: 10.0.0.1", "type: ExternalName, externalName: a.example")
    for text, kind in ((SERVICE.replace("10.0.0.1", "None"), "headless"), (external, "ExternalName")):
        slices, (problem,) = mirror_endpoints(cluster(text, endpoints()))
        assert len(slices) == 1
        assert problem.code is Code.ENDPOINTS_WITHOUT_RULES
        assert problem.severity is Severity.WARNING
        assert problem.message == f"its Service is {kind}, so no rule leads to these addresses"
        assert str(problem.location) == "x.yaml:3:52"
