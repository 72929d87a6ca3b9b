"""Laws of the choice of endpoints, for arbitrary endpoints under every policy."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from kproxy_nat.net.addresses import Address
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.ports import ServicePort, ServicePortName
from kproxy_nat.proxy.selection import Topology, select_endpoints, topology_of
from tests.oracle import reference_proxy as reference
from tests.oracle.structs import NoOrigin

NODES = ("node1", "node2", "node3")
ZONES = ("zone-a", "zone-b")

hints_of = {
    names: st.one_of(st.just(frozenset[str]()), st.frozensets(st.sampled_from(names), min_size=1))
    for names in (NODES, ZONES)
}


@st.composite
def endpoint_lists(draw: st.DrawFn) -> list[Endpoint]:
    """Endpoints with texts of their own, in order; hints are common, so that topology often applies."""
    numbers = sorted(draw(st.sets(st.integers(1, 30), max_size=8)))
    made = []
    for number in numbers:
        address = Address(f"10.0.0.{number}")
        made.append(
            Endpoint(
                f"{address}:80",
                address,
                80,
                is_local=draw(st.booleans()),
                ready=draw(st.booleans()),
                serving=draw(st.booleans()),
                terminating=draw(st.booleans()),
                zone_hints=draw(hints_of[ZONES]),
                node_hints=draw(hints_of[NODES]),
            )
        )
    return sorted(made, key=lambda item: item.text)


@st.composite
def ports(draw: st.DrawFn) -> ServicePort:
    return ServicePort(
        name=ServicePortName("shop", "web", "", "TCP"),
        text="shop/web",
        protocol="tcp",
        cluster_ip=Address("10.96.0.10"),
        port=80,
        node_port=draw(st.sampled_from([0, 30080])),
        external_ips=(),
        load_balancer_vips=(),
        source_ranges=(),
        affinity_seconds=0,
        internal_local=draw(st.booleans()),
        external_local=draw(st.booleans()),
        health_check_node_port=0,
        origin=NoOrigin(),
    )


zones = st.sampled_from(["", *ZONES])


def usable(item: Endpoint) -> bool:
    return item.ready or (item.serving and item.terminating)


@given(ports(), endpoint_lists(), zones)
def test_order_is_kept_and_nothing_is_invented(
    port: ServicePort, endpoints: list[Endpoint], zone: str
) -> None:
    found = select_endpoints(port, endpoints, "node1", zone)
    for chosen in (found.cluster, found.local, found.reachable):
        assert chosen == [item for item in endpoints if item in chosen]
        assert all(usable(item) for item in chosen)
    assert all(item.is_local for item in found.local)


@given(ports(), endpoint_lists(), zones)
def test_reachable_is_the_union(port: ServicePort, endpoints: list[Endpoint], zone: str) -> None:
    """Every endpoint that a rule may choose has rules of its own, and no other has."""
    found = select_endpoints(port, endpoints, "node1", zone)
    texts = {item.text for item in (*found.cluster, *found.local)}
    assert [item.text for item in found.reachable] == sorted(texts)


@given(ports(), endpoint_lists(), zones)
def test_ready_ones_go_before_those_that_end(port: ServicePort, endpoints: list[Endpoint], zone: str) -> None:
    found = select_endpoints(port, endpoints, "node1", zone)
    for chosen, candidates in (
        (found.cluster, endpoints if port.uses_cluster_endpoints else []),
        (found.local, [e for e in endpoints if e.is_local] if port.uses_local_endpoints else []),
    ):
        assert bool(chosen) == any(usable(item) for item in candidates)
        if any(item.ready for item in candidates):
            assert all(item.ready for item in chosen)
        else:
            assert all(item.serving and item.terminating for item in chosen)


@given(ports(), endpoint_lists(), zones)
def test_usable_if_any_node_could_serve(port: ServicePort, endpoints: list[Endpoint], zone: str) -> None:
    found = select_endpoints(port, endpoints, "node1", zone)
    assert found.any_usable == any(usable(item) for item in endpoints)


@given(endpoint_lists(), zones)
def test_topology_leaves_somebody(endpoints: list[Endpoint], zone: str) -> None:
    """Hints may narrow the choice, but never to nothing."""
    topology = topology_of(endpoints, "node1", zone)
    ready = [item for item in endpoints if item.ready]
    if topology is Topology.SAME_NODE:
        assert any("node1" in item.node_hints for item in ready)
    if topology is Topology.SAME_ZONE:
        assert any(zone in item.zone_hints for item in ready)


@given(ports(), endpoint_lists(), zones)
def test_unusable_endpoints_change_nothing(port: ServicePort, endpoints: list[Endpoint], zone: str) -> None:
    found = select_endpoints(port, endpoints, "node1", zone)
    rest = [item for item in endpoints if usable(item)]
    assert select_endpoints(port, rest, "node1", zone) == found


@given(ports(), endpoint_lists(), zones)
def test_as_the_reference_has_it(port: ServicePort, endpoints: list[Endpoint], zone: str) -> None:
    given_endpoints = [reference_endpoint(item) for item in endpoints]
    theirs = reference.categorise(reference_port(port), given_endpoints, "node1", zone)
    ours = select_endpoints(port, endpoints, "node1", zone)
    for mine, other in (
        (ours.cluster, theirs.cluster),
        (ours.local, theirs.local),
        (ours.reachable, theirs.all_reachable),
    ):
        assert [item.text for item in mine] == [item.identity for item in other]
    assert ours.any_usable == theirs.has_any


def reference_endpoint(item: Endpoint) -> reference.Endpoint:
    return reference.Endpoint(
        ipaddress.ip_address(item.address),
        item.port,
        item.is_local,
        item.ready,
        item.serving,
        item.terminating,
        set(item.zone_hints),
        set(item.node_hints),
    )


def reference_port(port: ServicePort) -> reference.ServicePort:
    return reference.ServicePort(
        namespace=port.name.namespace,
        service=port.name.service,
        port_name=port.name.port,
        protocol=port.name.protocol,
        cluster_ip=ipaddress.ip_address(port.cluster_ip),
        port=port.port,
        node_port=port.node_port,
        load_balancer_vips=[],
        external_ips=[],
        source_ranges=[],
        client_ip_affinity=False,
        affinity_seconds=0,
        internal_local=port.internal_local,
        external_local=port.external_local,
        health_check_node_port=0,
    )
