"""Section 11.3: hints from trafficDistribution and from the topology annotation."""

from __future__ import annotations

from collections import Counter

import pytest

from kproxy_nat.controlplane.hints import milli_cpus
from kproxy_nat.model.endpoints import EndpointHints, ForNode, ForZone, SliceEndpoint
from tests.controlplane.builders import Manifest, load, node, pod, service, slices_from

AUTO = {"service.kubernetes.io/topology-mode": "Auto"}
A, B = node("na", zone="a"), node("nb", zone="b")


def pods_on(*names: str) -> list[Manifest]:
    return [pod(f"p{number}", f"10.1.0.{number + 1}", name) for number, name in enumerate(names)]


def endpoints(*manifests: Manifest) -> list[SliceEndpoint]:
    made, _ = slices_from(*manifests)
    return [endpoint for one in made for endpoint in one.endpoints or ()]


def zones(*manifests: Manifest) -> list[str | None]:
    """The zone in each endpoint's hints."""
    return [
        e.hints.for_zones[0].name if e.hints and e.hints.for_zones else None for e in endpoints(*manifests)
    ]


@pytest.mark.parametrize("distribution", ["PreferClose", "PreferSameZone"])
def test_prefer_close_and_same_zone_hint_each_ready_endpoint_at_its_own_zone(distribution: str) -> None:
    found = endpoints(A, B, *pods_on("na", "nb"), service(trafficDistribution=distribution))
    assert [e.hints for e in found] == [EndpointHints([ForZone("a")]), EndpointHints([ForZone("b")])]


def test_prefer_same_node_hints_at_the_node_as_well() -> None:
    found = endpoints(A, *pods_on("na"), service(trafficDistribution="PreferSameNode"))
    assert [e.hints for e in found] == [EndpointHints([ForZone("a")], [ForNode("na")])]


def test_an_endpoint_that_is_not_ready_gets_no_hint() -> None:
    down = pod("p0", "10.1.0.1", "na", ready="False")
    assert zones(A, down, service(trafficDistribution="PreferClose")) == [None]


def test_an_endpoint_without_zone_gets_no_zone_hint() -> None:
    bare = node("bare")
    (found,) = endpoints(bare, *pods_on("bare"), service(trafficDistribution="PreferClose"))
    assert found.hints is None
    (found,) = endpoints(bare, *pods_on("bare"), service(trafficDistribution="PreferSameNode"))
    assert found.hints == EndpointHints(None, [ForNode("bare")])


@pytest.mark.parametrize("distribution", ["", "Elsewhere"])
def test_without_a_known_distribution_there_are_no_hints(distribution: str) -> None:
    assert zones(A, *pods_on("na"), service(trafficDistribution=distribution)) == [None]


@pytest.mark.parametrize("mode", ["Auto", "auto"])
@pytest.mark.parametrize("name", ["topology-mode", "topology-aware-hints"])
def test_the_annotation_hints_in_proportion_to_cpus(name: str, mode: str) -> None:
    annotated = service(annotations={f"service.kubernetes.io/{name}": mode})
    found = zones(A, node("nb", zone="b", cpu="12"), *pods_on(*["na"] * 4, *["nb"] * 4), annotated)
    assert Counter(found) == {"a": 2, "b": 6}


def test_endpoints_keep_their_own_zone_where_the_shares_allow() -> None:
    assert zones(A, B, *pods_on("na", "nb", "na", "nb"), service(annotations=AUTO)) == ["a", "b", "a", "b"]


def test_endpoints_are_given_to_a_zone_that_has_too_few() -> None:
    found = zones(A, B, *pods_on("na", "na", "na", "nb"), service(annotations=AUTO))
    assert Counter(found) == {"a": 2, "b": 2}


def test_the_annotation_wins_over_the_field() -> None:
    both = service(annotations=AUTO, trafficDistribution="PreferSameNode")
    found = endpoints(A, B, *pods_on("na", "nb"), both)
    assert [e.hints for e in found] == [EndpointHints([ForZone("a")]), EndpointHints([ForZone("b")])]
    assert zones(A, *pods_on("na"), both) == [None]


def test_an_annotation_that_is_not_auto_leaves_the_field() -> None:
    off = service(
        annotations={"service.kubernetes.io/topology-mode": "Disabled"}, trafficDistribution="PreferClose"
    )
    assert zones(A, *pods_on("na"), off) == ["a"]


def test_of_both_annotations_the_older_counts() -> None:
    both = {**AUTO, "service.kubernetes.io/topology-aware-hints": "Disabled"}
    assert zones(A, B, *pods_on("na", "nb"), service(annotations=both)) == [None, None]


TWO = pods_on("na", "nb")


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([A, node("nb", zone="a")], id="one zone only"),
        pytest.param([A, B, node("nc")], id="a Node without zone"),
        pytest.param([A, node("nb", zone="b", cpu="")], id="a Node without CPUs"),
        pytest.param([A, B, node("nc", zone="c")], id="fewer endpoints than zones"),
        pytest.param([node("na", zone="a", cpu="1"), node("nb", zone="b", cpu="9")], id="overload"),
    ],
)
def test_no_proportional_hints_with(others: list[Manifest]) -> None:
    assert zones(*others, *TWO, service(annotations=AUTO)) == [None, None]


@pytest.mark.parametrize(
    "other",
    [
        node("nc", ready="False"),
        node("nc", labels={"node-role.kubernetes.io/control-plane": ""}),
        node("nc", labels={"node-role.kubernetes.io/master": ""}),
    ],
)
def test_nodes_that_are_not_ready_or_of_the_control_plane_do_not_count(other: Manifest) -> None:
    assert zones(A, B, other, *TWO, service(annotations=AUTO)) == ["a", "b"]


def test_overload_up_to_a_fifth_is_accepted() -> None:
    # Of 3 endpoints, zone a should have 2.1, at least 1.75 and so 2; zone b 0.9, at least 0.75 and so 1.
    fitting = node("na", zone="a", cpu="7"), node("nb", zone="b", cpu="3")
    assert Counter(zones(*fitting, *pods_on("na", "na", "nb"), service(annotations=AUTO))) == {"a": 2, "b": 1}
    # With 2.7 and 0.3: at least 2.25 and so 3, and 0.25 and so 1, which is one more than there are.
    over = node("na", zone="a", cpu="9"), node("nb", zone="b", cpu="1")
    assert set(zones(*over, *pods_on("na", "na", "nb"), service(annotations=AUTO))) == {None}


def test_an_endpoint_on_a_node_without_zone_removes_all_hints() -> None:
    stray = node("nc", labels={"node-role.kubernetes.io/control-plane": ""})
    assert zones(A, B, stray, *pods_on("na", "nb", "nc"), service(annotations=AUTO)) == [None] * 3


def test_endpoints_that_are_not_ready_have_no_part_in_the_shares() -> None:
    down = pod("down", "10.1.0.9", "na", ready="False")
    assert zones(A, B, *TWO, down, service(annotations=AUTO)) == ["a", "b", None]


@pytest.mark.parametrize(
    "quantity, millis",
    [
        ("4", 4000),
        (4, 4000),
        (0.5, 500),
        ("3920m", 3920),
        ("1.5", 1500),
        ("2e3", 2_000_000),
        ("1k", 1_000_000),
        ("1Ki", 1_024_000),
        ("100u", 1),
        ("0", 0),
        ("-1", 0),
        ("", 0),
        ("many", 0),
        ("4x", 0),
        ("1.2.3", 0),
        (".", 0),
    ],
)
def test_quantities_of_cpu(quantity: str | int | float, millis: int) -> None:
    manifest = node("n")
    manifest["status"]["allocatable"] = {"cpu": quantity}
    assert milli_cpus(load(manifest).nodes[0].value) == millis
