"""Laws of allocation: who else is there does not matter, and nothing is chosen twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.errors import FieldPath, Location
from kproxy_nat.model.base import ObjectMeta, Sourced
from kproxy_nat.model.service import Service, ServicePortSpec, ServiceSpec
from kproxy_nat.model.service_validation import validate_service
from kproxy_nat.net.addresses import Address, cidr_contains, parse_cidr

Strategy = st.SearchStrategy
LARGE = AllocationOptions()
DUAL_SMALL = AllocationOptions(
    (parse_cidr("10.0.0.0/27"), parse_cidr("fd00::/123")), (30000, 30039), (parse_cidr("203.0.113.0/28"),)
)
SIX_FIRST = AllocationOptions((parse_cidr("fd00::/112"), parse_cidr("10.0.0.0/24")), (30000, 30100))
TINY = AllocationOptions((parse_cidr("10.0.0.0/29"),), (30000, 30002), (parse_cidr("203.0.113.0/30"),))
OPTIONS = (LARGE, DUAL_SMALL, SIX_FIRST, TINY)


@dataclass(frozen=True)
class Place:
    """An origin without a text."""

    source: str = "x.yaml"
    line: int = 1

    def locate(self, path: FieldPath) -> Location:
        return Location(self.source, self.line)


@st.composite
def specs(draw: st.DrawFn) -> ServiceSpec:
    kind = draw(st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer", "ClusterIP", "ExternalName")))
    numbers = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True))
    explicit = draw(st.integers(0, 9)) if kind == "NodePort" else 9
    ports = [
        ServicePortSpec(
            number, f"p{number}", node_port=30000 + explicit if not position and explicit < 4 else 0
        )
        for position, number in enumerate(numbers)
    ]
    if draw(st.booleans()):
        ports.append(ServicePortSpec(numbers[0], "udp", "UDP"))
    return ServiceSpec(
        type=kind,
        cluster_ip=draw(st.sampled_from(("", "", "", "", "None", "10.0.0.3", "10.0.0.20", "10.99.0.1")))
        if kind == "ClusterIP"
        else "",
        ports=ports,
        ip_family_policy=draw(st.sampled_from(("", "SingleStack", "PreferDualStack", "RequireDualStack"))),
        external_traffic_policy=draw(st.sampled_from(("Cluster", "Local"))),
        allocate_load_balancer_node_ports=draw(st.booleans()),
    )


def sourced(name: str, spec: ServiceSpec) -> Sourced[Service]:
    return Sourced(Service(ObjectMeta(name, "shop"), spec), Place())


NAMES = st.integers(0, 60).map(lambda number: f"s{number}")
SERVICES: Strategy[list[Sourced[Service]]] = st.dictionaries(NAMES, specs(), max_size=14).map(
    lambda found: [sourced(name, spec) for name, spec in found.items()]
)
laws = settings(max_examples=200, deadline=None)
any_options = pytest.mark.parametrize("options", OPTIONS, ids=["large", "dual-small", "six-first", "tiny"])


def by_name(services: Sequence[Sourced[Service]]) -> dict[str, Service]:
    return {found.value.metadata.name: found.value for found in services}


def reported(derivation: Derivation) -> set[str]:
    """Return the names of Services that had a collision or a problem."""
    collisions = [found.subject for found in derivation.assumptions if "its usual" in found.text]
    return {
        subject.rpartition("/")[2] for subject in (*collisions, *(p.subject for p in derivation.problems))
    }


def given_out(services: Sequence[Sourced[Service]], names: set[str]) -> list[str]:
    """Return the cluster IPs, node ports and load balancer IPs of ``names``."""
    values = []
    for service in (found.value for found in services if found.value.metadata.name in names):
        values += [ip for ip in service.spec.cluster_ips if ip != "None"]
        values += {f"{port.node_port}/{port.port}" for port in service.spec.ports if port.node_port}
        values += [f"{service.spec.health_check_node_port}/h"] if service.spec.health_check_node_port else []
        values += [entry.ip for entry in service.status.load_balancer.ingress]
    return values


@any_options
@laws
@given(services=SERVICES, seed=st.integers(0, 99))
def test_permuting_the_input_changes_nothing(
    options: AllocationOptions, services: list[Sourced[Service]], seed: int
) -> None:
    result, derivation = complete_services(services, options)
    permuted = random.Random(seed).sample(services, len(services))
    again, derivation_again = complete_services(permuted, options)
    assert by_name(again) == by_name(result)
    assert derivation_again == derivation
    assert [found.value.metadata.name for found in again] == [s.value.metadata.name for s in permuted]


@any_options
@laws
@given(services=SERVICES, extra=specs())
def test_adding_or_removing_a_service_moves_no_other_unless_that_reports_a_collision(
    options: AllocationOptions, services: list[Sourced[Service]], extra: ServiceSpec
) -> None:
    without, derivation = complete_services(services, options)
    with_extra, derivation_with = complete_services([*services, sourced("s30x", extra)], options)
    excused = reported(derivation) | reported(derivation_with)
    now = by_name(with_extra)
    for name, service in by_name(without).items():
        assert now[name] == service or name in excused


@any_options
@laws
@given(services=SERVICES)
def test_completing_twice_is_completing_once(
    options: AllocationOptions, services: list[Sourced[Service]]
) -> None:
    once, first = complete_services(services, options)
    twice, second = complete_services(once, options)
    assert twice == once
    accepted = [found for found in once if found.value.metadata.name not in reported(first)]
    unchanged, third = complete_services(accepted, options)
    assert all(one is other for one, other in zip(unchanged, accepted, strict=True))
    assert third == Derivation()
    assert second.assumptions == []


@any_options
@laws
@given(services=SERVICES)
def test_values_are_unique_within_their_ranges_and_validate(
    options: AllocationOptions, services: list[Sourced[Service]]
) -> None:
    result, derivation = complete_services(services, options)
    refused = {problem.subject.rpartition("/")[2] for problem in derivation.problems}
    accepted = set(by_name(result)) - refused
    values = given_out(result, accepted)
    numbers = [value.partition("/")[0] for value in values if value != "None"]
    assert len(set(numbers)) == len(numbers)
    low, high = options.node_port_range
    cidrs = (*options.service_cidrs, *options.load_balancer_pool)
    for number in numbers:
        in_ports = number.isdecimal() and low <= int(number) <= high
        assert in_ports or any(cidr_contains(cidr, Address(number)) for cidr in cidrs)
    for name, service in by_name(result).items():
        assert name in refused or list(validate_service(service)) == []


@any_options
@laws
@given(services=SERVICES)
def test_a_service_with_an_error_comes_back_as_it_was(
    options: AllocationOptions, services: list[Sourced[Service]]
) -> None:
    result, derivation = complete_services(services, options)
    errors = {p.subject.rpartition("/")[2] for p in derivation.problems if p.severity == "error"}
    for before, after in zip(services, result, strict=True):
        name = before.value.metadata.name
        if name in errors:
            assert after is before
        elif before.value.spec.cluster_ip != "None" and before.value.spec.type != "ExternalName":
            assert after.value.spec.cluster_ips
    assert not errors & {found.subject.rpartition("/")[2] for found in derivation.assumptions}


@any_options
@laws
@given(services=SERVICES)
def test_exactly_the_values_that_were_open_are_assumed(
    options: AllocationOptions, services: list[Sourced[Service]]
) -> None:
    result, derivation = complete_services(services, options)
    names = set(by_name(result))
    before, after = given_out(services, names), given_out(result, names)
    before += [s.value.spec.cluster_ip for s in services if s.value.spec.cluster_ip.startswith("10.")]
    held = {p.subject for p in derivation.problems if p.severity == "error"}
    explicit = {
        s.value.spec.cluster_ip
        for s in services
        if s.value.spec.cluster_ip.startswith("10.") and f"Service shop/{s.value.metadata.name}" not in held
    }
    new = [value for value in after if value not in before and value not in explicit]
    assert len(derivation.assumptions) == len(new)


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_5000_services_find_room_in_nearly_full_ranges(kind: str) -> None:
    options = AllocationOptions(
        (parse_cidr("10.0.0.0/19"), parse_cidr("fd00::/112")), (20000, 35999), (parse_cidr("192.168.0.0/19"),)
    )
    ports = [ServicePortSpec(80, "a"), ServicePortSpec(443, "b")]
    spec = ServiceSpec(kind, ports=ports, ip_family_policy="PreferDualStack", external_traffic_policy="Local")
    services = [sourced(f"s{number}", spec) for number in range(5000)]
    result, derivation = complete_services(services, options)
    assert derivation.problems == []
    assert all(len(found.value.spec.cluster_ips) == 2 for found in result)
