"""What allocation leaves alone, which families it gives, and what it lists as assumed."""

from __future__ import annotations

import msgspec
import pytest

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.families import ServiceFamilies, configured_families, resolve_families
from kproxy_nat.errors import Code
from kproxy_nat.model.service import ServiceSpec
from kproxy_nat.net.addresses import IpFamily
from tests.unit.allocations import (
    DUAL,
    DUAL6,
    ONE_PORT,
    SINGLE,
    TWO_PORTS,
    V4,
    V6,
    completed,
    loaded,
    place,
    ranges,
    refused,
    service,
    spec_of,
    texts,
)


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
