"""Node ports and health check node ports that manifests leave open."""

from __future__ import annotations

import pytest

from kproxy_nat.controlplane.allocation import complete_services
from kproxy_nat.controlplane.pools import (
    Band,
    node_port_bands,
)
from kproxy_nat.errors import Code
from tests.unit.allocations import (
    ONE_PORT,
    TWO_PORTS,
    completed,
    loaded,
    place,
    ranges,
    refused,
    service,
    spec_of,
    texts,
)


class TestNodePorts:
    """Section 12.4."""

    @pytest.mark.parametrize(
        "low, high, upper, lower",
        [
            (30000, 32767, Band(30086, 32767), Band(30000, 30085)),
            (30000, 30015, Band(30000, 30015), Band(30000, 29999)),
            (30000, 30016, Band(30016, 30016), Band(30000, 30015)),
            (30000, 30639, Band(30020, 30639), Band(30000, 30019)),
            (1024, 65535, Band(1152, 65535), Band(1024, 1151)),
        ],
    )
    def test_static_and_dynamic_band(self, low: int, high: int, upper: Band, lower: Band) -> None:
        assert node_port_bands(low, high) == (upper, lower)

    @pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
    def test_types_with_node_ports(self, kind: str) -> None:
        ports = [port.node_port for port in spec_of(f"type: {kind}, {TWO_PORTS}").ports]
        assert len(set(ports)) == 2
        assert all(30086 <= port <= 32767 for port in ports)

    def test_a_cluster_ip_service_has_none(self) -> None:
        assert [port.node_port for port in spec_of(TWO_PORTS).ports] == [0, 0]

    def test_a_load_balancer_may_do_without(self) -> None:
        ports = "ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 443}]"
        spec = spec_of(f"type: LoadBalancer, allocateLoadBalancerNodePorts: false, {ports}")
        assert [port.node_port for port in spec.ports] == [30080, 0]

    def test_explicit_ports_without_allocation_are_taken_all_the_same(self) -> None:
        kind = "type: LoadBalancer, allocateLoadBalancerNodePorts: false"
        asked = "ports: [{port: 80, nodePort: 30080}]"
        problem = refused(service("a", f"{kind}, {asked}"), service("b", f"type: NodePort, {asked}"))
        assert problem.code is Code.NODE_PORT_TAKEN

    def test_a_node_port_does_not_depend_on_the_services_other_ports_or_their_order(self) -> None:
        (alone,) = spec_of(f"type: NodePort, {ONE_PORT}").ports
        swapped = "ports: [{name: https, port: 443}, {name: http, port: 80}]"
        first = {port.port: port.node_port for port in spec_of(f"type: NodePort, {TWO_PORTS}").ports}
        again = {port.port: port.node_port for port in spec_of(f"type: LoadBalancer, {swapped}").ports}
        assert first == again
        assert first[80] == alone.node_port

    def test_protocols_of_one_port_share_a_node_port(self) -> None:
        ports = "ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}, {name: m, port: 9153}]"
        spec = spec_of(f"type: NodePort, {ports}")
        first, second, other = (port.node_port for port in spec.ports)
        assert first == second != other
        assert texts(service("web", f"type: NodePort, {ports}"))[1:] == [
            f"Service shop/web: nodePort {first} for port t and u",
            f"Service shop/web: nodePort {other} for port m",
        ]

    @pytest.mark.parametrize("tcp, udp", [("nodePort: 30053, ", ""), ("", "nodePort: 30053, ")])
    def test_a_given_node_port_is_shared_with_the_other_protocol(self, tcp: str, udp: str) -> None:
        ports = f"ports: [{{{tcp}name: t, port: 53}}, {{{udp}name: u, port: 53, protocol: UDP}}]"
        assert [port.node_port for port in spec_of(f"type: NodePort, {ports}").ports] == [30053, 30053]

    def test_ports_are_allocated_by_number_whatever_the_protocol(self) -> None:
        problem = refused(
            service("a", "type: NodePort, ports: [{port: 53, nodePort: 30053}]"),
            service("b", "type: NodePort, ports: [{port: 53, protocol: UDP, nodePort: 30053}]"),
        )
        assert problem.code is Code.NODE_PORT_TAKEN
        assert problem.message == "nodePort 30053 belongs to Service shop/a (x.yaml:1) already"
        assert place(problem).startswith("x.yaml:3:")

    @pytest.mark.parametrize("number", [29999, 32768])
    def test_an_explicit_port_out_of_range_is_refused(self, number: int) -> None:
        spec = f"type: NodePort, ports: [{{port: 80, nodePort: {number}}}]"
        problem = refused(service("web", spec))
        assert problem.code is Code.NODE_PORT_OUT_OF_RANGE
        assert problem.message == f"nodePort {number} is not in the range of node ports, 30000-32767"

    @pytest.mark.parametrize("number", [30000, 32600, 32767])
    def test_an_explicit_port_may_come_from_either_band(self, number: int) -> None:
        spec = spec_of(f"type: NodePort, ports: [{{port: 80, nodePort: {number}}}]")
        assert spec.ports[0].node_port == number

    def test_health_check_node_ports_come_from_the_same_range(self) -> None:
        kind = "type: LoadBalancer, externalTrafficPolicy: Local"
        port = spec_of(f"{kind}, {ONE_PORT}").health_check_node_port
        assert 30086 <= port <= 32767
        assert f"Service shop/web: healthCheckNodePort {port}" in texts(service("web", f"{kind}, {ONE_PORT}"))
        taken = f"type: NodePort, ports: [{{port: 80, nodePort: {port}}}]"
        _, web = completed(service("other", taken), service("web", f"{kind}, {ONE_PORT}"))
        assert web.spec.health_check_node_port == port + 1

    def test_health_checks_do_not_depend_on_node_ports_being_allocated(self) -> None:
        kind = "type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: false"
        assert spec_of(f"{kind}, {ONE_PORT}").health_check_node_port

    @pytest.mark.parametrize(
        "kind", ["type: LoadBalancer", "type: NodePort, externalTrafficPolicy: Local", "type: ClusterIP"]
    )
    def test_only_load_balancers_with_policy_local_have_health_checks(self, kind: str) -> None:
        assert spec_of(f"{kind}, {ONE_PORT}").health_check_node_port == 0

    def test_a_health_check_cannot_have_the_port_of_a_port(self) -> None:
        kind = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30080"
        problem = refused(service("web", f"{kind}, ports: [{{port: 80, nodePort: 30080}}]"))
        assert problem.code is Code.NODE_PORT_TAKEN

    def test_the_lower_band_is_used_when_the_upper_one_is_full(self) -> None:
        options = ranges(node_ports=(30000, 30031))
        documents = [service(f"s{number}", f"type: NodePort, {ONE_PORT}") for number in range(32)]
        some = completed(*documents[:16], options=options)
        assert sorted(made.spec.ports[0].node_port for made in some) == list(range(30016, 30032))
        every = completed(*documents, options=options)
        assert sorted(made.spec.ports[0].node_port for made in every) == list(range(30000, 30032))

    def test_a_full_range_is_an_error(self) -> None:
        documents = [service(f"s{number}", f"type: NodePort, {TWO_PORTS}") for number in range(2)]
        services = loaded(*documents)
        result, derivation = complete_services(services, ranges(node_ports=(30000, 30002)))
        (problem,) = derivation.problems
        assert problem.code is Code.RANGE_EXHAUSTED
        assert problem.message.startswith("no nodePort for port http")
        assert problem.message.endswith("is left: all of 30000-30002 is taken")
        failed = [before is after for before, after in zip(services, result, strict=True)]
        assert sorted(failed) == [False, True]
        assert {assumption.subject for assumption in derivation.assumptions} != {problem.subject}
