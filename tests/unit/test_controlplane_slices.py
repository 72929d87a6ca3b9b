"""Sections 11.1 and 11.2: the slices that the EndpointSlice controller makes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.model.endpoints import (
    DerivedEndpoint,
    EndpointConditions,
    EndpointSlice,
    SlicePort,
    TargetRef,
)
from tests.controlplane.builders import Manifest, node, pod, service, slices_from

N1 = node("n1", zone="a")
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "s", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
}


def only_slice(*manifests: Manifest) -> EndpointSlice:
    (made,), _ = slices_from(N1, *manifests)
    return made


def only_endpoint(*manifests: Manifest) -> DerivedEndpoint:
    (endpoint,) = only_slice(*manifests).endpoints or ()
    assert isinstance(endpoint, DerivedEndpoint)
    return endpoint


def addresses(*manifests: Manifest) -> list[str]:
    return [endpoint.addresses[0] for endpoint in only_slice(*manifests).endpoints or ()]


def warning(*manifests: Manifest) -> Problem:
    _, derivation = slices_from(N1, *manifests)
    (problem,) = derivation.problems
    assert problem.severity is Severity.WARNING
    return problem


# --- 11.1 Services and Pods that count


def test_externalname_gets_nothing() -> None:
    assert slices_from(N1, pod(ip="10.1.0.1", node="n1"), service(type="ExternalName"))[0] == []


@pytest.mark.parametrize("selector", [None, {}])
def test_a_service_without_selector_gets_nothing(selector: dict[str, str] | None) -> None:
    given = service()
    if selector is None:
        del given["spec"]["selector"]
    else:
        given["spec"]["selector"] = selector
    assert slices_from(N1, pod(ip="10.1.0.1", node="n1"), given)[0] == []


def test_a_service_with_a_slice_in_the_input_is_left_alone() -> None:
    assert slices_from(N1, pod(ip="10.1.0.1", node="n1"), service(), SLICE)[0] == []


def test_pods_are_matched_by_all_labels_of_the_selector() -> None:
    pods = [
        pod("both", "10.1.0.1", "n1", {"app": "web", "tier": "a", "more": "x"}),
        pod("one", "10.1.0.2", "n1", {"app": "web"}),
        pod("other", "10.1.0.3", "n1", {"app": "web", "tier": "b"}),
    ]
    assert addresses(*pods, service(selector={"app": "web", "tier": "a"})) == ["10.1.0.1"]


def test_pods_of_other_namespaces_do_not_match() -> None:
    elsewhere = pod("x", "10.1.0.2", "n1", namespace="else")
    assert addresses(pod(ip="10.1.0.1", node="n1"), elsewhere, service()) == ["10.1.0.1"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_do_not_count(phase: str) -> None:
    ended = pod("x", "10.1.0.2", "n1", status={"phase": phase})
    assert addresses(pod(ip="10.1.0.1", node="n1"), ended, service()) == ["10.1.0.1"]


def test_pods_without_address_do_not_count() -> None:
    waiting = pod("x", node="n1", status={"phase": "Pending"})
    assert addresses(pod(ip="10.1.0.1", node="n1"), waiting, service()) == ["10.1.0.1"]


def test_terminating_pods_are_included() -> None:
    leaving = pod(ip="10.1.0.1", node="n1", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert only_endpoint(leaving, service()).conditions == EndpointConditions(False, True, True)


def test_hostnetwork_pods_are_no_special_case_and_may_share_an_address() -> None:
    pods = [pod(name, "192.0.2.10", "n1", hostNetwork=True) for name in ("b", "a")]
    made = only_slice(*pods, service())
    references = [e.target_ref for e in made.endpoints or () if isinstance(e, DerivedEndpoint)]
    assert [reference.name for reference in references if reference] == ["a", "b"]


# --- 11.1 target ports


def ports_of(target: int | str | None, **spec: Any) -> list[SlicePort]:
    return only_slice(pod(ip="10.1.0.1", node="n1", **spec), service(target=target)).ports or []


def containers(*ports: tuple[str, int, str]) -> list[Manifest]:
    """One container for each port."""
    return [
        {"name": f"c{n}", "ports": [{"name": name, "containerPort": number, "protocol": protocol}]}
        for n, (name, number, protocol) in enumerate(ports)
    ]


def test_a_numeric_target_port_is_used_as_it_is() -> None:
    assert ports_of(9999) == [SlicePort("http", 9999)]


@pytest.mark.parametrize("target", [None, 0, ""])
def test_without_target_port_it_is_the_service_s_port(target: int | str | None) -> None:
    assert ports_of(target) == [SlicePort("http", 80)]


def test_a_named_target_port_is_the_first_of_that_name_and_protocol() -> None:
    found = containers(("web", 1, "UDP"), ("web", 2, "TCP"), ("web", 3, "TCP"))
    assert ports_of("web", containers=found) == [SlicePort("http", 2)]


def test_sidecars_come_after_containers() -> None:
    sidecar = {**containers(("web", 5, "TCP"))[0], "restartPolicy": "Always"}
    assert ports_of("web", initContainers=[sidecar], containers=[]) == [SlicePort("http", 5)]
    assert ports_of("web", initContainers=[sidecar]) == [SlicePort("http", 8080)]


def test_other_init_containers_have_no_ports() -> None:
    assert ports_of("web", initContainers=containers(("web", 5, "TCP")), containers=[]) == []


def test_a_port_that_is_not_found_is_left_out_for_that_pod() -> None:
    ports = [{"name": "a", "port": 1, "targetPort": "web"}, {"name": "b", "port": 2, "targetPort": "none"}]
    made = only_slice(pod(ip="10.1.0.1", node="n1"), service(ports=ports))
    assert made.ports == [SlicePort("a", 8080)]


def test_the_host_port_plays_no_role() -> None:
    with_host_port = {"name": "c", "ports": [{"name": "web", "containerPort": 7, "hostPort": 8}]}
    assert ports_of("web", containers=[with_host_port]) == [SlicePort("http", 7)]


# --- 11.2 families, conditions, details


def test_one_reconciliation_for_each_of_ipfamilies() -> None:
    both = pod(ip=["10.1.0.1", "fd00::1"], node="n1")
    made, _ = slices_from(N1, both, service(clusterIP="fd00::9", ipFamilies=["IPv6", "IPv4"]))
    assert [(one.address_type, (one.endpoints or [])[0].addresses) for one in made] == [
        ("IPv4", ["10.1.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]


@pytest.mark.parametrize(
    "spec, families",
    [
        ({"clusterIP": "10.96.0.1"}, ["IPv4"]),
        ({"clusterIP": "fd00::9"}, ["IPv6"]),
        ({"clusterIP": "", "clusterIPs": ["fd00::9"]}, ["IPv6"]),
        ({"clusterIP": "None"}, ["IPv4", "IPv6"]),
        ({"clusterIP": ""}, ["IPv4", "IPv6"]),
    ],
)
def test_without_ipfamilies_the_cluster_ip_tells_else_both(spec: Manifest, families: list[str]) -> None:
    made, _ = slices_from(N1, pod(ip="10.1.0.1", node="n1"), service(ipFamilies=[], **spec))
    assert [one.address_type for one in made] == families


def test_addresses_are_canonical() -> None:
    given = pod(ip="FD00:0::01", node="n1")
    assert addresses(given, service(clusterIP="fd00::9", ipFamilies=["IPv6"])) == ["fd00::1"]


@pytest.mark.parametrize("older", [True, False])
def test_the_pod_ip_counts_from_the_field_of_either_age(older: bool) -> None:
    given = pod(ip="10.1.0.1", node="n1")
    del given["status"]["podIPs" if older else "podIP"]
    assert addresses(given, service()) == ["10.1.0.1"]


@pytest.mark.parametrize(
    "ready, terminating, publish, conditions",
    [
        ("True", False, False, (True, True, False)),
        ("False", False, False, (False, False, False)),
        ("Unknown", False, False, (False, False, False)),
        ("True", True, False, (False, True, True)),
        ("False", True, False, (False, False, True)),
        ("False", False, True, (True, False, False)),
        ("True", True, True, (True, True, True)),
    ],
)
def test_ready_is_published_or_serving_and_not_terminating(
    ready: str, terminating: bool, publish: bool, conditions: tuple[bool, bool, bool]
) -> None:
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if terminating else {}
    given = pod(ip="10.1.0.1", node="n1", ready=ready, meta=meta)
    endpoint = only_endpoint(given, service(publishNotReadyAddresses=publish))
    assert endpoint.conditions == EndpointConditions(*conditions)


def test_a_pod_without_the_condition_ready_does_not_serve() -> None:
    given = pod(ip="10.1.0.1", node="n1", status={"conditions": []})
    assert only_endpoint(given, service()).conditions.serving is False


def test_node_zone_and_pod_are_told() -> None:
    endpoint = only_endpoint(pod(ip="10.1.0.1", node="n1"), service())
    assert (endpoint.node_name, endpoint.zone, endpoint.hostname) == ("n1", "a", None)
    assert endpoint.target_ref == TargetRef("Pod", "shop", "web-0")


@pytest.mark.parametrize(
    "hostname, subdomain, told", [("h", "web", "h"), ("h", "other", None), ("", "web", None), ("h", "", None)]
)
def test_the_hostname_is_told_where_the_subdomain_is_the_service(
    hostname: str, subdomain: str, told: str | None
) -> None:
    given = pod(ip="10.1.0.1", node="n1", hostname=hostname, subdomain=subdomain)
    assert only_endpoint(given, service()).hostname == told


@pytest.mark.parametrize("name", ["gone", ""])
def test_pods_whose_node_is_not_there_are_skipped_unless_published(name: str) -> None:
    given = pod(ip="10.1.0.1", node=name)
    assert only_slice(given, service()).endpoints == []
    endpoint = only_endpoint(given, service(publishNotReadyAddresses=True))
    assert (endpoint.node_name, endpoint.zone) == (name or None, None)


# --- 11.2 ports, labels, sizes


def test_endpoints_are_grouped_by_the_ports_that_they_resolve() -> None:
    pods = [
        pod("a", "10.1.0.1", "n1", containers=containers(("web", 1, "TCP"))),
        pod("b", "10.1.0.2", "n1", containers=containers(("web", 2, "TCP"))),
        pod("c", "10.1.0.3", "n1", containers=containers(("web", 1, "TCP"))),
        pod("d", "10.1.0.4", "n1", containers=[]),
    ]
    made, derivation = slices_from(N1, *pods, service(target="web"))
    assert [(one.ports, [e.addresses[0] for e in one.endpoints or ()]) for one in made] == [
        ([], ["10.1.0.4"]),
        ([SlicePort("http", 1)], ["10.1.0.1", "10.1.0.3"]),
        ([SlicePort("http", 2)], ["10.1.0.2"]),
    ]
    assert derivation.problems == []


def test_ports_have_the_service_port_s_name_protocol_and_application_protocol() -> None:
    ports = [{"port": 53, "protocol": "UDP", "appProtocol": "dns"}]
    assert only_slice(pod(ip="10.1.0.1", node="n1"), service(ports=ports)).ports == [
        SlicePort("", 53, "UDP", "dns")
    ]


def test_a_headless_service_may_have_no_ports() -> None:
    made = only_slice(pod(ip="10.1.0.1", node="n1"), service(clusterIP="None", ports=[]))
    assert (made.ports, len(made.endpoints or ())) == ([], 1)


def test_labels_are_the_service_s_and_the_controller_s() -> None:
    own = {"team": "a", "kubernetes.io/service-name": "x", "service.kubernetes.io/headless": "x"}
    assert only_slice(service(labels=own)).metadata.labels == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }


@pytest.mark.parametrize("cluster_ip, headless", [("None", True), ("", True), ("10.96.0.1", False)])
def test_the_headless_label_is_there_without_cluster_ip(cluster_ip: str, headless: bool) -> None:
    labels = only_slice(service(clusterIP=cluster_ip)).metadata.labels
    assert labels.get("service.kubernetes.io/headless") == ("" if headless else None)


def test_names_are_the_service_s_with_five_letters_that_differ() -> None:
    made, _ = slices_from(N1, service(ipFamilies=["IPv4", "IPv6"]))
    names = [one.metadata.name for one in made]
    assert all(re.fullmatch("web-[a-z0-9]{5}", name) for name in names)
    assert len(set(names)) == 2
    assert names == [one.metadata.name for one in slices_from(N1, service(ipFamilies=["IPv4", "IPv6"]))[0]]


@pytest.mark.parametrize("count, sizes", [(100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_a_slice_has_at_most_100_endpoints(count: int, sizes: list[int]) -> None:
    pods = [pod(f"p{n}", f"10.1.{n // 200}.{n % 200 + 1}", "n1") for n in range(count)]
    made, _ = slices_from(N1, *pods, service())
    assert [len(one.endpoints or ()) for one in made] == sizes
    assert len({one.metadata.name for one in made}) == len(sizes)


def test_without_pods_a_placeholder_remains_for_each_family() -> None:
    made, _ = slices_from(N1, service(ipFamilies=["IPv4", "IPv6"]))
    assert [(one.address_type, one.endpoints, one.ports) for one in made] == [
        ("IPv4", [], []),
        ("IPv6", [], []),
    ]


def test_a_family_that_no_pod_has_gets_a_placeholder() -> None:
    made, _ = slices_from(
        N1, pod(ip="10.1.0.1", node="n1"), service(clusterIP="fd00::9", ipFamilies=["IPv6"])
    )
    assert [(one.address_type, one.endpoints, one.ports) for one in made] == [("IPv6", [], [])]


def test_endpoints_stand_in_the_order_of_their_addresses() -> None:
    pods = [pod(f"p{n}", f"10.1.0.{last}", "n1") for n, last in enumerate((10, 9, 100))]
    assert addresses(*pods, service()) == ["10.1.0.9", "10.1.0.10", "10.1.0.100"]


# --- warnings


def test_a_selector_that_matches_nothing_names_the_nearest_labels() -> None:
    problem = warning(
        pod(ip="10.1.0.1", node="n1", labels={"app": "datarc"}), service(selector={"app": "datrac"})
    )
    assert problem.code is Code.SELECTOR_WITHOUT_PODS
    assert problem.message == "the selector app=datrac matches no Pod"
    assert problem.hint == "Pods in namespace shop have app=datarc"
    assert problem.subject == "Service shop/web"
    assert problem.location is not None


def test_labels_of_the_same_key_are_near() -> None:
    problem = warning(pod(ip="10.1.0.1", node="n1", labels={"a": "blue"}), service(selector={"a": "zzzzzz"}))
    assert problem.hint == "Pods in namespace shop have a=blue"


def test_pods_of_another_namespace_are_told() -> None:
    problem = warning(pod(ip="10.1.0.1", node="n1", namespace="other"), service())
    assert problem.hint == "there are such Pods in namespace other, but a selector stays in its own"


def test_a_namespace_without_pods_is_told() -> None:
    assert warning(service()).hint.startswith("there are no Pods in namespace shop")


def test_labels_that_no_pod_has_together_are_told() -> None:
    pods = [pod("a", "10.1.0.1", "n1", {"x": "1"}), pod("b", "10.1.0.2", "n1", {"y": "1"})]
    assert warning(*pods, service(selector={"x": "1", "y": "1"})).hint.startswith(
        "compare it with the labels"
    )


def test_pods_that_do_not_count_are_told() -> None:
    problem = warning(pod(ip="10.1.0.1", node="n1", status={"phase": "Failed"}), service())
    assert problem.message == "the selector app=web matches only Pods that have ended or have no address (1)"


def test_labels_are_looked_up_for_the_first_services_only() -> None:
    _, derivation = slices_from(N1, *(service(f"s{n}") for n in range(30)))
    assert sum(bool(problem.hint) for problem in derivation.problems) == 20


@pytest.mark.parametrize(
    "target, spec, hint",
    [
        ("wbe", {}, "did you mean web?"),
        ("8080", {}, "remove the quotes: targetPort: 8080"),
        ("metrics", {}, "their containers have: web"),
        (
            "web",
            {"containers": containers(("web", 1, "UDP"))},
            "web is there for UDP; the protocols must agree",
        ),
        ("web", {"containers": []}, "give the container's port that name, or write its number"),
    ],
)
def test_a_named_port_that_no_container_has(target: str, spec: Manifest, hint: str) -> None:
    problem = warning(pod(ip="10.1.0.1", node="n1", **spec), service(target=target))
    assert problem.code is Code.TARGET_PORT_NOT_FOUND
    assert problem.message == f"its Pod has no container port named {target} for TCP"
    assert problem.hint == hint


def test_a_named_port_that_none_of_several_pods_has() -> None:
    pods = [pod(f"p{n}", f"10.1.0.{n + 1}", "n1") for n in range(2)]
    assert (
        warning(*pods, service(target="x")).message
        == "none of its 2 Pods has a container port named x for TCP"
    )
