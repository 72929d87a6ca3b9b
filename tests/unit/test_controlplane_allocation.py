"""Families, cluster IPs, node ports and load balancer addresses that manifests leave open."""

from __future__ import annotations

import msgspec
import pytest

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.families import ServiceFamilies, configured_families, resolve_families
from kproxy_nat.controlplane.pools import (
    Band,
    Pool,
    node_port_bands,
    service_bands,
    stable_hash,
)
from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.service import LoadBalancerIngress, Service, ServiceSpec
from kproxy_nat.net.addresses import IpFamily, address_value, cidr_contains, parse_address, parse_cidr

V4, V6 = IpFamily.IPV4, IpFamily.IPV6
ONE_PORT = "ports: [{port: 80}]"
TWO_PORTS = "ports: [{name: http, port: 80}, {name: https, port: 443}]"


def service(name: str, spec: str = ONE_PORT, status: str = "{}") -> str:
    meta = f"{{name: {name}, namespace: shop}}"
    return f"{{apiVersion: v1, kind: Service, metadata: {meta}, spec: {{{spec}}}, status: {status}}}\n"


def ranges(
    *cidrs: str, node_ports: tuple[int, int] = (30000, 32767), pool: tuple[str, ...] = ()
) -> AllocationOptions:
    service_cidrs = tuple(map(parse_cidr, cidrs or ("10.96.0.0/12",)))
    return AllocationOptions(service_cidrs, node_ports, tuple(map(parse_cidr, pool)))


DUAL = ranges("10.96.0.0/12", "fd00:10:96::/112")
DUAL6 = ranges("fd00:10:96::/112", "10.96.0.0/12")
SINGLE = ranges()


def loaded(*documents: str) -> list[Sourced[Service]]:
    result = load_texts([SourceText("x.yaml", "---\n".join(documents))], needs_workloads=lambda _: True)
    assert result.problems == []
    return result.cluster.services


def completed(*documents: str, options: AllocationOptions = DUAL) -> list[Service]:
    services, derivation = complete_services(loaded(*documents), options)
    assert derivation.problems == []
    return [sourced.value for sourced in services]


def spec_of(spec: str, options: AllocationOptions = DUAL) -> ServiceSpec:
    (made,) = completed(service("web", spec), options=options)
    return made.spec


def derived(*documents: str, options: AllocationOptions = DUAL) -> Derivation:
    return complete_services(loaded(*documents), options)[1]


def texts(*documents: str, options: AllocationOptions = DUAL) -> list[str]:
    derivation = derived(*documents, options=options)
    assert derivation.problems == []
    return [f"{assumption.subject}: {assumption.text}" for assumption in derivation.assumptions]


def refused(*documents: str, options: AllocationOptions = DUAL) -> Problem:
    services = loaded(*documents)
    _, derivation = complete_services(services, options)
    (problem,) = derivation.problems
    assert problem.severity is Severity.ERROR
    assert not any(assumption.subject == problem.subject for assumption in derivation.assumptions)
    return problem


def place(problem: Problem) -> str:
    assert problem.location is not None
    return str(problem.location)


class TestFamilies:
    """Section 12.2."""

    def test_the_families_of_a_cluster_are_those_of_its_service_cidrs_in_order(self) -> None:
        assert configured_families(DUAL.service_cidrs) == (V4, V6)
        assert configured_families(DUAL6.service_cidrs) == (V6, V4)
        two = ranges("10.0.0.0/24", "10.0.1.0/24")
        assert configured_families(two.service_cidrs) == (V4,)

    @pytest.mark.parametrize("options, family", [(DUAL, "IPv4"), (DUAL6, "IPv6")])
    def test_the_default_is_one_address_of_the_first_family(
        self, options: AllocationOptions, family: str
    ) -> None:
        spec = spec_of(ONE_PORT, options)
        assert spec.ip_family_policy == "SingleStack"
        assert spec.ip_families == [family]
        assert spec.cluster_ips == [spec.cluster_ip]
        assert (":" in spec.cluster_ip) == (family == "IPv6")

    @pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
    @pytest.mark.parametrize(
        "options, families", [(DUAL, ["IPv4", "IPv6"]), (DUAL6, ["IPv6", "IPv4"])], ids=["v4v6", "v6v4"]
    )
    def test_dual_stack_policies_add_the_second_family(
        self, policy: str, options: AllocationOptions, families: list[str]
    ) -> None:
        spec = spec_of(f"ipFamilyPolicy: {policy}, {ONE_PORT}", options)
        assert spec.ip_families == families
        assert [":" in ip for ip in spec.cluster_ips] == [family == "IPv6" for family in families]
        assert spec.cluster_ip == spec.cluster_ips[0]
        assert spec.ip_family_policy == policy

    def test_prefer_dual_stack_makes_do_with_one_family(self) -> None:
        spec = spec_of(f"ipFamilyPolicy: PreferDualStack, {ONE_PORT}", SINGLE)
        assert spec.ip_families == ["IPv4"]
        assert spec.ip_family_policy == "PreferDualStack"

    def test_require_dual_stack_needs_both_families(self) -> None:
        problem = refused(service("web", f"ipFamilyPolicy: RequireDualStack, {ONE_PORT}"), options=SINGLE)
        assert problem.code is Code.FAMILY_UNAVAILABLE
        assert problem.message == "RequireDualStack cannot be met: the cluster has IPv4 only"
        assert place(problem).startswith("x.yaml:1:")

    def test_a_named_family_is_the_first(self) -> None:
        assert spec_of(f"ipFamilies: [IPv6], {ONE_PORT}").ip_families == ["IPv6"]
        policy = f"ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6], {ONE_PORT}"
        assert spec_of(policy).ip_families == ["IPv6", "IPv4"]

    def test_a_named_family_that_the_cluster_has_not_is_refused(self) -> None:
        problem = refused(service("web", f"ipFamilies: [IPv6], {ONE_PORT}"), options=SINGLE)
        assert problem.code is Code.FAMILY_UNAVAILABLE
        assert problem.message == "the cluster has no IPv6 service CIDR"

    def test_given_cluster_ips_fix_the_families_in_order(self) -> None:
        ips = 'clusterIP: "fd00:10:96::5", clusterIPs: ["fd00:10:96::5", 10.96.0.5]'
        spec = spec_of(f"{ips}, {ONE_PORT}")
        assert spec.ip_families == ["IPv6", "IPv4"]
        assert spec.ip_family_policy == "RequireDualStack"

    def test_a_given_cluster_ip_is_the_first_of_two(self) -> None:
        spec = spec_of(f'ipFamilyPolicy: PreferDualStack, clusterIP: "fd00:10:96::5", {ONE_PORT}')
        assert spec.ip_families == ["IPv6", "IPv4"]
        assert spec.cluster_ips[0] == spec.cluster_ip == "fd00:10:96::5"
        assert spec.cluster_ips[1].startswith("10.")

    def test_two_families_without_a_policy_mean_both(self) -> None:
        assert spec_of(f"ipFamilies: [IPv6, IPv4], {ONE_PORT}").ip_family_policy == "RequireDualStack"

    def test_two_families_contradict_single_stack(self) -> None:
        spec = f"ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6], {ONE_PORT}"
        assert refused(service("web", spec)).code is Code.INCONSISTENT

    def test_an_unknown_policy_is_refused(self) -> None:
        problem = refused(service("web", f"ipFamilyPolicy: DualStack, {ONE_PORT}"))
        assert problem.code is Code.UNSUPPORTED_VALUE

    @pytest.mark.parametrize("configured", [(V4,), (V4, V6)])
    def test_headless_without_selector_has_both_families_in_every_cluster(
        self, configured: tuple[IpFamily, ...]
    ) -> None:
        spec = ServiceSpec(cluster_ip="None")
        assert resolve_families(spec, configured) == ServiceFamilies((V4, V6), "RequireDualStack")

    def test_headless_with_selector_has_the_default_family(self) -> None:
        spec = ServiceSpec(cluster_ip="None", selector={"app": "web"})
        assert resolve_families(spec, (V6, V4)) == ServiceFamilies((V6,), "SingleStack")


class TestUntouched:
    def test_external_name(self) -> None:
        services = loaded(service("web", "type: ExternalName, externalName: example.com"))
        result, derivation = complete_services(services, DUAL)
        assert result[0] is services[0]
        assert derivation == Derivation()

    @pytest.mark.parametrize("field", ["clusterIP: None", "clusterIPs: [None]"])
    def test_headless_services_get_families_only(self, field: str) -> None:
        (one,), derivation = complete_services(
            loaded(service("web", f"{field}, selector: {{a: b}}, {ONE_PORT}")), DUAL
        )
        spec = one.value.spec
        assert (spec.cluster_ip, spec.cluster_ips) == ("None", ["None"])
        assert (spec.ip_families, spec.ip_family_policy) == (["IPv4"], "SingleStack")
        assert derivation == Derivation()

    def test_a_load_balancer_with_its_address_is_from_a_cluster(self) -> None:
        """Only a cluster writes status: there, a node port that is not there was not wanted."""
        text = service("web", f"type: LoadBalancer, clusterIP: 172.20.0.9, {ONE_PORT}")
        services = loaded(text.replace("status: {}", "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}"))
        assert complete_services(services, DUAL) == (services, Derivation())

    def test_complete_services_of_a_cluster_even_of_other_ranges(self) -> None:
        complete = (
            "type: NodePort, clusterIP: 172.20.0.9, clusterIPs: [172.20.0.9], ipFamilies: [IPv4], "
            "ipFamilyPolicy: PreferDualStack, ports: [{port: 80, nodePort: 20080}]"
        )
        services = loaded(service("web", complete))
        result, derivation = complete_services(services, DUAL)
        assert result[0] is services[0]
        assert derivation == Derivation()

    def test_what_a_cluster_stored_comes_first(self) -> None:
        stored = (
            "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack"
        )
        problem = refused(
            service("aaa", f"clusterIP: 10.96.0.9, {ONE_PORT}"), service("zzz", f"{stored}, {ONE_PORT}")
        )
        assert problem.subject == "Service shop/aaa"

    def test_fields_that_are_not_open_are_kept(self) -> None:
        (before,) = loaded(service("web", f"selector: {{a: b}}, externalIPs: [192.0.2.1], {TWO_PORTS}"))
        (after,) = completed(service("web", f"selector: {{a: b}}, externalIPs: [192.0.2.1], {TWO_PORTS}"))
        restored = msgspec.structs.replace(
            after.spec, cluster_ip="", cluster_ips=[], ip_families=[], ip_family_policy=""
        )
        assert restored == before.value.spec
        assert after.metadata == before.value.metadata


class TestClusterIps:
    """Section 12.3."""

    @pytest.mark.parametrize(
        "cidr, upper, lower",
        [
            ("10.96.0.0/12", ("10.96.1.1", "10.111.255.254"), ("10.96.0.1", "10.96.1.0")),
            ("10.0.0.0/20", ("10.0.1.1", "10.0.15.254"), ("10.0.0.1", "10.0.1.0")),
            ("10.0.0.0/23", ("10.0.0.33", "10.0.1.254"), ("10.0.0.1", "10.0.0.32")),
            ("10.0.0.0/24", ("10.0.0.17", "10.0.0.254"), ("10.0.0.1", "10.0.0.16")),
            ("10.0.0.0/27", ("10.0.0.17", "10.0.0.30"), ("10.0.0.1", "10.0.0.16")),
            ("fd00::/112", ("fd00::101", "fd00::ffff"), ("fd00::1", "fd00::100")),
            ("fd00::/64", ("fd00::101", "fd00::ffff:ffff:ffff:ffff"), ("fd00::1", "fd00::100")),
        ],
    )
    def test_static_and_dynamic_band(self, cidr: str, upper: tuple[str, str], lower: tuple[str, str]) -> None:
        expected = [Band(*(address_value(parse_address(text)) for text in ends)) for ends in (upper, lower)]
        assert list(service_bands(parse_cidr(cidr))) == expected

    @pytest.mark.parametrize("cidr, usable", [("10.0.0.0/28", 14), ("10.0.0.0/30", 2), ("fd00::/124", 15)])
    def test_ranges_of_16_have_one_band_without_network_and_ipv4_broadcast(
        self, cidr: str, usable: int
    ) -> None:
        upper, lower = service_bands(parse_cidr(cidr))
        assert (upper.size, lower.size) == (usable, 0)

    def test_addresses_come_from_the_dynamic_band(self) -> None:
        band = service_bands(parse_cidr("10.96.0.0/12"))[0]
        for made in completed(*(service(f"web{number}") for number in range(50))):
            value = address_value(parse_address(made.spec.cluster_ip))
            assert band.first <= value <= band.last

    def test_an_address_is_a_function_of_namespace_name_and_family(self) -> None:
        band = service_bands(parse_cidr("10.96.0.0/12"))[0]
        value = band.first + stable_hash("clusterIP/shop/web/IPv4") % band.size
        assert address_value(parse_address(spec_of(ONE_PORT).cluster_ip)) == value
        assert spec_of(f"type: NodePort, selector: {{a: b}}, {TWO_PORTS}").cluster_ip == (
            spec_of(ONE_PORT).cluster_ip
        )

    def test_the_hash_is_the_same_in_every_release(self) -> None:
        assert spec_of(ONE_PORT).cluster_ip == "10.97.100.102"
        assert spec_of(f"ipFamilies: [IPv6], {ONE_PORT}").cluster_ip == "fd00:10:96::98d0"
        assert spec_of(f"type: NodePort, {ONE_PORT}").ports[0].node_port == 32221

    @pytest.mark.parametrize("address", ["10.96.0.1", "10.96.0.200", "10.99.0.1", "10.111.255.254"])
    def test_an_explicit_address_may_come_from_either_band(self, address: str) -> None:
        assert spec_of(f"clusterIP: {address}, {ONE_PORT}").cluster_ip == address

    @pytest.mark.parametrize(
        "address", ["10.95.0.1", "10.96.0.0", "10.111.255.255", '"fd00:10:97::1"', '"fd00:10:96::"']
    )
    def test_an_explicit_address_out_of_range_is_refused(self, address: str) -> None:
        problem = refused(service("ok"), service("web", f"clusterIP: {address}, {ONE_PORT}"))
        assert problem.code is Code.ADDRESS_OUT_OF_RANGE
        shown = address.strip('"')
        assert problem.message.startswith(f"clusterIP {shown} is not an address of the service CIDRs (10.")
        assert place(problem).startswith("x.yaml:3:")

    def test_an_address_of_a_family_without_cidr_is_refused(self) -> None:
        problem = refused(service("web", f'clusterIP: "fd00::1", {ONE_PORT}'), options=SINGLE)
        assert problem.code is Code.ADDRESS_OUT_OF_RANGE

    def test_an_address_that_two_ask_for_is_the_firsts_by_name(self) -> None:
        asked = f"clusterIP: 10.96.0.10, {ONE_PORT}"
        problem = refused(service("b", asked), service("a", asked))
        assert problem.code is Code.ADDRESS_TAKEN
        assert problem.subject == "Service shop/b"
        assert problem.message == "clusterIP 10.96.0.10 belongs to Service shop/a (x.yaml:3) already"
        assert place(problem).startswith("x.yaml:1:")

    def test_addresses_are_compared_by_value(self) -> None:
        one, same = (f'clusterIP: "{text}", {ONE_PORT}' for text in ("fd00:10:96::a", "fd00:10:96:0::000A"))
        assert refused(service("a", one), service("b", same)).code is Code.ADDRESS_TAKEN

    def test_an_explicit_address_is_never_given_away(self) -> None:
        usual = spec_of(ONE_PORT).cluster_ip
        other, web = completed(service("other", f"clusterIP: {usual}, {ONE_PORT}"), service("web"))
        assert other.spec.cluster_ip == usual
        assert address_value(parse_address(web.spec.cluster_ip)) == address_value(parse_address(usual)) + 1

    def test_a_collision_is_reported(self) -> None:
        usual = spec_of(ONE_PORT).cluster_ip
        assert texts(service("other", f"clusterIP: {usual}, {ONE_PORT}"), service("web")) == [
            f"Service shop/web: clusterIP 10.97.100.103; its usual address {usual} "
            "is taken by Service shop/other"
        ]

    def test_the_lower_band_is_used_when_the_upper_one_is_full(self) -> None:
        options = ranges("10.0.0.0/27")
        services = completed(*(service(f"s{number}") for number in range(30)), options=options)
        values = sorted(address_value(parse_address(made.spec.cluster_ip)) & 31 for made in services)
        assert values == list(range(1, 31))
        some = completed(*(service(f"s{number}") for number in range(14)), options=options)
        assert min(address_value(parse_address(made.spec.cluster_ip)) & 31 for made in some) == 17

    @pytest.mark.parametrize(
        "cidr, usable", [("10.0.0.0/30", 2), ("10.0.0.0/29", 6), ("10.0.0.0/32", 0), ("fd00::/126", 3)]
    )
    def test_a_full_range_is_an_error(self, cidr: str, usable: int) -> None:
        documents = [service(f"s{number}") for number in range(usable + 1)]
        services, derivation = complete_services(loaded(*documents), ranges(cidr))
        assert len({sourced.value.spec.cluster_ip for sourced in services}) == usable + 1
        (problem,) = derivation.problems
        assert problem.code is Code.RANGE_EXHAUSTED
        assert problem.message == f"no clusterIP is left: all of {cidr} is taken"
        assert problem.hint == "enlarge the range with --service-cidr"
        assert place(problem).startswith("x.yaml:")

    def test_several_cidrs_any_that_holds_an_explicit_address_and_the_next_when_one_is_full(self) -> None:
        options = ranges("10.0.0.0/30", "10.0.1.0/30")
        asked = service("z", f"clusterIP: 10.0.1.2, {ONE_PORT}")
        services = completed(asked, *(service(f"s{number}") for number in range(3)), options=options)
        assert sorted(made.spec.cluster_ip for made in services) == [
            *("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2")
        ]
        first = spec_of(ONE_PORT, options).cluster_ip
        assert cidr_contains(options.service_cidrs[0], parse_address(first))

    def test_ipv6_cidrs_have_at_least_64_bits_of_prefix(self) -> None:
        services = loaded(service("web"))
        result, derivation = complete_services(services, ranges("fd00::/63"))
        assert result == services
        (problem,) = derivation.problems
        assert problem.code is Code.BAD_OPTION
        assert place(problem) == "--service-cidr"
        assert not derived(service("web"), options=ranges("fd00::/64")).problems

    @pytest.mark.parametrize(
        "options, option",
        [
            (AllocationOptions(()), "--service-cidr"),
            (ranges(node_ports=(32767, 30000)), "--node-port-range"),
            (ranges(node_ports=(0, 100)), "--node-port-range"),
            (ranges(node_ports=(1, 65536)), "--node-port-range"),
            (ranges(pool=("10.0.0.0/8",)), "--load-balancer-pool"),
        ],
    )
    def test_ranges_that_make_no_sense_are_errors_of_the_option(
        self, options: AllocationOptions, option: str
    ) -> None:
        (problem,) = derived(service("web"), options=options).problems
        assert (problem.code, place(problem)) == (Code.BAD_OPTION, option)


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


class TestLoadBalancerAddresses:
    POOLED = ranges("10.96.0.0/12", "fd00:10:96::/112", pool=("203.0.113.0/29", "2001:db8::/124"))
    KIND = f"type: LoadBalancer, {ONE_PORT}"

    def ingress(self, *documents: str) -> list[list[str]]:
        services = completed(*documents, options=self.POOLED)
        return [[entry.ip for entry in made.status.load_balancer.ingress] for made in services]

    def test_an_address_for_each_family(self) -> None:
        ((one,), (four, six)) = self.ingress(
            service("one", self.KIND), service("two", f"ipFamilyPolicy: PreferDualStack, {self.KIND}")
        )
        assert one != four
        assert cidr_contains(self.POOLED.load_balancer_pool[0], parse_address(one))
        assert cidr_contains(self.POOLED.load_balancer_pool[1], parse_address(six))

    def test_it_is_reported(self) -> None:
        ((address,),) = self.ingress(service("web", self.KIND))
        found = texts(service("web", self.KIND), options=self.POOLED)
        assert found[-1] == f"Service shop/web: load balancer IP {address}"

    def test_no_pool_no_address(self) -> None:
        (made,) = completed(service("web", self.KIND))
        assert made.status.load_balancer.ingress == []

    def test_other_types_have_none(self) -> None:
        assert self.ingress(service("web"), service("np", f"type: NodePort, {ONE_PORT}")) == [[], []]

    def test_given_addresses_are_kept_and_never_given_away(self) -> None:
        ((usual,),) = self.ingress(service("web", self.KIND))
        status = f"{{loadBalancer: {{ingress: [{{ip: {usual}}}]}}}}"
        (held, (moved,)) = self.ingress(service("other", self.KIND, status), service("web", self.KIND))
        assert held == [usual]
        assert moved != usual
        (_, (again,)) = self.ingress(
            service("ext", f"externalIPs: [{usual}], {ONE_PORT}"), service("web", self.KIND)
        )
        assert again == moved

    def test_a_host_name_is_an_address_too(self) -> None:
        status = "{loadBalancer: {ingress: [{hostname: lb.example.com}]}}"
        (made,) = completed(service("web", self.KIND, status), options=self.POOLED)
        assert made.status.load_balancer.ingress == [LoadBalancerIngress(hostname="lb.example.com")]

    def test_an_empty_pool_is_an_error(self) -> None:
        options = ranges(pool=("203.0.113.9/32",))
        problem = refused(service("a", self.KIND), service("b", self.KIND), options=options)
        assert problem.code is Code.RANGE_EXHAUSTED
        assert problem.message == "no load balancer IP is left: all of 203.0.113.9/32 is taken"

    def test_a_pool_of_the_other_family_is_a_warning(self) -> None:
        options = ranges(pool=("2001:db8::/124",))
        services, derivation = complete_services(loaded(service("web", self.KIND)), options)
        (problem,) = derivation.problems
        assert (problem.code, problem.severity) == (Code.FAMILY_UNAVAILABLE, Severity.WARNING)
        assert services[0].value.spec.cluster_ip


class TestPool:
    def test_those_displaced_push_nobody_aside(self) -> None:
        """Two requests with one usual value, a third one's is the next: it keeps that."""
        band = Band(0, 9)
        by_start: dict[int, list[str]] = {}
        for number in range(100):
            by_start.setdefault(band.start(stable_hash(str(number))), []).append(str(number))
        first, second, third = *by_start[4][:2], by_start[5][0]
        pool: Pool[str] = Pool("", [band])
        assigned = pool.assign([(first, "first"), (second, "second"), (third, "third")])
        assert assigned == [(4, 4, None), (6, 4, "first"), (5, 5, None)]

    def test_probing_goes_around_at_the_end_of_the_band(self) -> None:
        band = Band(10, 12)
        pool: Pool[str] = Pool("", [band])
        key = next(str(n) for n in range(99) if band.start(stable_hash(str(n))) == 12)
        pool.hold(12, "other")
        assert pool.assign([(key, "a"), (key, "b"), (key, "c")]) == [
            *((10, 12, "other"), (11, 12, "other"), None)
        ]


def test_every_chosen_value_is_listed_with_its_origin() -> None:
    spec = f"type: LoadBalancer, externalTrafficPolicy: Local, ipFamilyPolicy: RequireDualStack, {TWO_PORTS}"
    options = ranges("10.96.0.0/12", "fd00:10:96::/112", pool=("203.0.113.0/24",))
    (before,) = loaded(service("web", spec))
    (after,), derivation = complete_services([before], options)
    made, ports = after.value.spec, after.value.spec.ports
    assert [assumption.text for assumption in derivation.assumptions] == [
        f"clusterIP {made.cluster_ips[0]}",
        f"clusterIP {made.cluster_ips[1]}",
        f"nodePort {ports[0].node_port} for port http",
        f"nodePort {ports[1].node_port} for port https",
        f"healthCheckNodePort {made.health_check_node_port}",
        f"load balancer IP {after.value.status.load_balancer.ingress[0].ip}",
    ]
    assert {(a.subject, a.origin) for a in derivation.assumptions} == {("Service shop/web", before.origin)}


def test_an_unnamed_port_is_called_by_its_number() -> None:
    assert texts(service("web", f"type: NodePort, {ONE_PORT}"))[1].endswith(" for port 80")


def test_what_follows_from_the_manifest_alone_is_no_assumption() -> None:
    assert texts(service("web", f"clusterIP: 10.96.0.10, {ONE_PORT}")) == []
    assert spec_of(f"clusterIP: 10.96.0.10, {ONE_PORT}").cluster_ips == ["10.96.0.10"]
