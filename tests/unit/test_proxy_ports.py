"""What a Service means to the proxy of one family: its service ports."""

from __future__ import annotations

import pytest

from kproxy_nat.model.service import Service
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.ports import ServicePort, ServicePortName, service_ports, why_excluded
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import options_of
from tests.oracle.manifests import Manifest, node, port, service
from tests.oracle.structs import cluster_of_structs, sourced

V4, V6 = IpFamily.IPV4, IpFamily.IPV6
PROXY_NAME = "service.kubernetes.io/service-proxy-name"


def ports_of(manifest: Manifest, family: IpFamily = V4, *, gate: bool = True) -> list[ServicePort]:
    return list(service_ports(sourced(manifest, Service), family, allow_external_ips=gate))


def port_of(manifest: Manifest, family: IpFamily = V4, *, gate: bool = True) -> ServicePort:
    (only,) = ports_of(manifest, family, gate=gate)
    return only


class TestServicesWithoutPorts:
    @pytest.mark.parametrize(
        "manifest",
        [
            service(cluster_ip=""),
            service(cluster_ip="None"),
            service(cluster_ip="None", ipFamilies=["IPv4", "IPv6"]),
            service(type="ExternalName"),
            service(labels={PROXY_NAME: "other"}),
            service(labels={PROXY_NAME: ""}),
        ],
        ids=[
            "no cluster IP",
            "headless",
            "headless in both",
            "ExternalName",
            "other proxy",
            "label without value",
        ],
    )
    def test_in_neither_family(self, manifest: Manifest) -> None:
        assert ports_of(manifest, V4) == ports_of(manifest, V6) == []

    def test_another_label_excludes_nothing(self) -> None:
        assert why_excluded(sourced(service(labels={"app": "x"}), Service).value) == ""


class TestClusterIp:
    def test_family_by_position_of_ip_families(self) -> None:
        addresses: Manifest = {"clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"]}
        dual = service(cluster_ip="fd00::1", **addresses)
        assert port_of(dual, V4).cluster_ip == "10.96.0.1"
        assert port_of(dual, V6).cluster_ip == "fd00::1"

    def test_families_without_addresses_yield_nothing(self) -> None:
        dual = service("shop/web", "10.96.0.1", ipFamilies=["IPv4", "IPv6"])
        assert port_of(dual, V4).cluster_ip == "10.96.0.1"
        assert ports_of(dual, V6) == []

    def test_cluster_ip_does_not_count_where_families_are_set(self) -> None:
        odd = service("shop/web", "10.96.0.1", clusterIPs=["10.96.0.2"], ipFamilies=["IPv4"])
        assert port_of(odd).cluster_ip == "10.96.0.2"

    @pytest.mark.parametrize("address, family", [("10.96.0.1", V4), ("fd00::1", V6)])
    def test_old_objects_without_families(self, address: str, family: IpFamily) -> None:
        """Only clusterIP counts there, in its own family; clusterIPs is passed over."""
        old = service("shop/web", address, ipFamilies=[], clusterIPs=[address, "10.96.0.9", "fd00::9"])
        assert port_of(old, family).cluster_ip == address
        assert ports_of(old, family.other) == []

    @pytest.mark.parametrize(
        "written, canonical, family",
        [
            ("010.096.000.041", "10.96.0.41", V4),
            ("::ffff:10.96.0.7", "10.96.0.7", V4),
            ("FD00:10:96:0:0:0:0:0001", "fd00:10:96::1", V6),
        ],
    )
    def test_odd_spellings_become_canonical(self, written: str, canonical: str, family: IpFamily) -> None:
        old = service("shop/web", written, ipFamilies=[], clusterIPs=[])
        assert port_of(old, family).cluster_ip == canonical
        assert ports_of(old, family.other) == []


class TestNames:
    def test_name_text_has_no_protocol_and_no_number(self) -> None:
        named = port_of(service(ports=[port(80, "http", "UDP")]))
        assert (named.text, named.protocol, named.port) == ("shop/web:http", "udp", 80)
        assert named.name == ServicePortName("shop", "web", "http", "UDP")

    def test_unnamed_port_has_no_colon(self) -> None:
        unnamed = port_of(service(ports=[{"port": 80}]))
        assert (unnamed.text, unnamed.protocol, unnamed.node_port) == ("shop/web", "tcp", 0)

    def test_ports_come_in_the_order_of_the_manifest(self) -> None:
        listed = service(ports=[port(2, "b"), port(1, "a"), port(1, "c", "SCTP")])
        assert [p.name.port for p in ports_of(listed)] == ["b", "a", "c"]

    def test_of_two_ports_with_one_key_the_last_counts(self) -> None:
        cluster = cluster_of_structs(node(), service(ports=[port(80, ""), port(81, "")]))
        view = build_view(cluster, options_of(cluster), V4)
        assert [item.port.port for item in view.services] == [81]

    def test_total_order_is_by_namespace_name_port_name_and_protocol(self) -> None:
        names = [("a", "b"), ("a", "a-b"), ("a-a", "a"), ("a", "a")]
        services = [
            service(
                f"{namespace}/{name}",
                f"10.96.0.{number}",
                ports=[port(1, "x", "UDP"), port(1, "x"), port(1, "")],
            )
            for number, (namespace, name) in enumerate(names)
        ]
        cluster = cluster_of_structs(node(), *services)
        view = build_view(cluster, options_of(cluster), V4)
        keys = [
            (p.namespace, p.service, p.port, p.protocol) for p in (item.port.name for item in view.services)
        ]
        assert keys == sorted(keys)
        assert len(keys) == 12


class TestExternalIps:
    MIXED = service(
        externalIPs=["203.0.113.9", "2001:db8::9", "203.000.113.010", "::ffff:203.0.113.11", "x", ""]
    )

    def test_of_this_family_in_order_and_canonical(self) -> None:
        assert port_of(self.MIXED).external_ips == ("203.0.113.9", "203.0.113.10", "203.0.113.11")

    def test_none_of_this_family(self) -> None:
        only_v6 = port_of(service(externalIPs=["2001:db8::9"]))
        assert only_v6.external_ips == ()
        assert not only_v6.externally_accessible

    def test_hidden_without_the_feature_gate(self) -> None:
        assert port_of(self.MIXED, gate=False).external_ips == ()

    @pytest.mark.parametrize("gate", [True, False])
    def test_the_policy_looks_at_the_raw_list(self, gate: bool) -> None:
        """Entries of the other family, and entries that the gate hides, still make the policy apply."""
        local = service(externalIPs=["2001:db8::9"], externalTrafficPolicy="Local")
        assert port_of(local, gate=gate).external_local


class TestSourceRanges:
    @pytest.mark.parametrize(
        "ranges, v4, v6",
        [
            (["203.0.113.77/25", "10.0.0.0/8"], ("203.0.113.0/25", "10.0.0.0/8"), ()),
            ([" 203.0.113.000/025\t", ""], ("203.0.113.0/25",), ()),
            (["not a range", "10.0.0.1", "10.0.0.0/33", "10.0.0.0/8"], ("10.0.0.0/8",), ()),
            (["10.0.0.0/8", "2001:DB8:0:1::77/64"], ("10.0.0.0/8",), ("2001:db8:0:1::/64",)),
            (["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32"], (), ("2001:db8::/32",)),
            (["10.0.0.0/8", "192.0.2.7/0"], (), ()),
            (["10.0.0.0/8", "2001:db8::/32", "::/0"], ("10.0.0.0/8",), ()),
            (["2001:db8::/32"], (), ("2001:db8::/32",)),
        ],
    )
    def test_by_family(self, ranges: list[str], v4: tuple[str, ...], v6: tuple[str, ...]) -> None:
        dual = service(
            cluster_ip="10.96.0.1",
            clusterIPs=["10.96.0.1", "fd00::1"],
            ipFamilies=["IPv4", "IPv6"],
            loadBalancerSourceRanges=ranges,
        )
        assert port_of(dual, V4).source_ranges == v4
        assert port_of(dual, V6).source_ranges == v6

    def test_the_old_annotation_is_not_read(self) -> None:
        annotated = service()
        annotated["metadata"]["annotations"] = {
            "service.beta.kubernetes.io/load-balancer-source-ranges": "192.0.2.0/24"
        }
        assert port_of(annotated).source_ranges == ()


class TestLoadBalancer:
    def test_addresses_of_this_family_in_order(self) -> None:
        ingress = [
            {"ip": "198.51.100.2", "ipMode": "VIP"},
            {"hostname": "lb.example.com"},
            {"ip": "198.51.100.3", "ipMode": "Proxy"},
            {"ip": "2001:db8::1", "ipMode": "VIP"},
            {"ip": "198.51.100.1"},
            {"ip": "198.051.100.004", "hostname": "also"},
        ]
        balanced = service(ingress=ingress, type="LoadBalancer", loadBalancerIP="198.51.100.99")
        assert port_of(balanced).load_balancer_vips == ("198.51.100.2", "198.51.100.1", "198.51.100.4")

    def test_type_is_not_asked(self) -> None:
        assert port_of(service(vips=["198.51.100.1"])).load_balancer_vips == ("198.51.100.1",)


class TestPolicies:
    @pytest.mark.parametrize(
        "spec, local",
        [
            ({"type": "NodePort"}, True),
            ({"type": "LoadBalancer"}, True),
            ({"type": "ClusterIP", "externalIPs": ["203.0.113.9"]}, True),
            ({"type": "ClusterIP"}, False),
            ({}, False),
        ],
    )
    def test_external_local_needs_an_external_type(self, spec: Manifest, local: bool) -> None:
        assert port_of(service(externalTrafficPolicy="Local", **spec)).external_local is local
        assert port_of(service(externalTrafficPolicy="Cluster", **spec)).external_local is False
        assert port_of(service(**spec)).external_local is False

    def test_internal_local(self) -> None:
        assert port_of(service(internalTrafficPolicy="Local")).internal_local
        assert not port_of(service(internalTrafficPolicy="Cluster")).internal_local
        assert not port_of(service()).internal_local

    @pytest.mark.parametrize(
        "kind, policy, expected",
        [
            ("LoadBalancer", "Local", 32001),
            ("LoadBalancer", "Cluster", 0),
            ("NodePort", "Local", 0),
            ("ClusterIP", "Local", 0),
        ],
    )
    def test_health_check_node_port(self, kind: str, policy: str, expected: int) -> None:
        given = service(type=kind, externalTrafficPolicy=policy, healthCheckNodePort=32001)
        assert port_of(given).health_check_node_port == expected

    def test_node_port_counts_whatever_the_type(self) -> None:
        for kind in ("ClusterIP", "NodePort", "LoadBalancer"):
            assert port_of(service(type=kind, ports=[port(nodePort=30080)])).node_port == 30080

    @pytest.mark.parametrize(
        "spec, seconds",
        [
            ({}, 0),
            ({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 0),
            ({"sessionAffinity": "ClientIP"}, 10800),
            ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10800),
            (
                {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
                5,
            ),
        ],
    )
    def test_affinity(self, spec: Manifest, seconds: int) -> None:
        assert port_of(service(**spec)).affinity_seconds == seconds


class TestPredicates:
    @pytest.mark.parametrize(
        "spec",
        [
            {"ports": [port(nodePort=30080)]},
            {"vips": ["198.51.100.1"]},
            {"externalIPs": ["203.0.113.9"]},
        ],
        ids=["node port", "load balancer", "external IP"],
    )
    def test_one_way_in_makes_it_accessible(self, spec: Manifest) -> None:
        assert port_of(service(**spec)).externally_accessible
        assert not port_of(service()).externally_accessible

    @pytest.mark.parametrize("internal_local", [False, True])
    @pytest.mark.parametrize("external_local", [False, True])
    @pytest.mark.parametrize("accessible", [False, True])
    def test_which_endpoints_are_used(
        self, internal_local: bool, external_local: bool, accessible: bool
    ) -> None:
        policies: Manifest = {
            "internalTrafficPolicy": "Local" if internal_local else "Cluster",
            "externalTrafficPolicy": "Local" if external_local else "Cluster",
        }
        made = port_of(
            service(type="LoadBalancer", ports=[port(nodePort=30080 if accessible else 0)], **policies)
        )
        assert made.uses_cluster_endpoints is (not internal_local or accessible)
        assert made.uses_local_endpoints is (internal_local or (external_local and accessible))
