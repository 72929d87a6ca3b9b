"""Where UDP flows may lead: frontends and node ports with the endpoints that serve."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.udp_flows import UdpServices, udp_services
from tests.oracle.compiling import options_of
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, port, service
from tests.oracle.structs import cluster_of_structs

DNS = port(53, "dns", "UDP")


def dns_service(name: str = "shop/dns", cluster_ip: str = "10.96.0.10", **fields: Any) -> Manifest:
    return service(name, cluster_ip, **{"ports": [DNS], **fields})


def dns_slice(*endpoints: Manifest, of: str = "shop/dns", family: str = "IPv4", name: str = "") -> Manifest:
    listed = list(endpoints) or [endpoint("10.180.0.1")]
    return endpoint_slice(of, listed, ports=[port(5353, "dns", "UDP")], family=family, name=name)


def found(
    *objects: Manifest, family: IpFamily = IpFamily.IPV4, config: Manifest | None = None
) -> UdpServices:
    cluster = cluster_of_structs(*objects, config=config)
    return udp_services(cluster, options_of(cluster, node_name=""), family)


class TestFrontends:
    def test_the_cluster_ip(self) -> None:
        assert found(dns_service(), dns_slice()) == UdpServices({"10.96.0.10:53": ("10.180.0.1:5353",)}, {})

    def test_every_address_and_the_node_port(self) -> None:
        reached = dns_service(
            type="LoadBalancer",
            vips=["203.0.113.1", "203.0.113.2"],
            externalIPs=["198.51.100.1"],
            ports=[port(53, "dns", "UDP", nodePort=30053)],
        )
        expected = ("10.180.0.1:5353",)
        addresses = ("10.96.0.10", "203.0.113.1", "203.0.113.2", "198.51.100.1")
        assert found(reached, dns_slice()) == UdpServices(
            {f"{address}:53": expected for address in addresses}, {30053: expected}
        )

    def test_external_ips_that_are_switched_off(self) -> None:
        off = {"featureGates": {"AllowServiceExternalIPs": False}}
        made = found(dns_service(externalIPs=["198.51.100.1"]), dns_slice(), config=off)
        assert list(made.frontends) == ["10.96.0.10:53"]

    def test_of_one_family(self) -> None:
        objects = [
            dns_service(),
            dns_slice(),
            dns_service("shop/six", "fd00::a"),
            dns_slice(endpoint("fd01::1"), of="shop/six", family="IPv6"),
        ]
        assert list(found(*objects).frontends) == ["10.96.0.10:53"]
        assert found(*objects, family=IpFamily.IPV6).frontends == {"[fd00::a]:53": ("[fd01::1]:5353",)}

    @pytest.mark.parametrize("protocol", ["TCP", "SCTP"])
    def test_of_udp_alone(self, protocol: str) -> None:
        other = service("shop/web", "10.96.0.11", ports=[port(53, "dns", protocol, nodePort=30054)])
        slices = endpoint_slice("shop/web", ports=[port(5353, "dns", protocol)])
        assert found(other, slices) == UdpServices()

    def test_of_a_service_that_another_proxy_handles(self) -> None:
        foreign = dns_service(labels={"service.kubernetes.io/service-proxy-name": "other"})
        assert found(foreign, dns_slice()) == UdpServices()

    def test_two_services_on_one_the_first_in_order_has_it(self) -> None:
        objects = [
            dns_service(
                "shop/b", externalIPs=["198.51.100.1"], ports=[port(53, "dns", "UDP", nodePort=30053)]
            ),
            dns_slice(endpoint("10.180.0.2"), of="shop/b"),
            dns_service(
                "shop/a",
                "10.96.0.11",
                externalIPs=["198.51.100.1"],
                ports=[port(53, "dns", "UDP", nodePort=30053)],
            ),
            dns_slice(endpoint("10.180.0.1"), of="shop/a", name="z-read-last"),
        ]
        made = found(*objects)
        assert made.frontends["198.51.100.1:53"] == made.node_ports[30053] == ("10.180.0.1:5353",)


class TestEndpoints:
    @pytest.mark.parametrize("ready", [True, False, None])
    @pytest.mark.parametrize("terminating", [True, False, None])
    @pytest.mark.parametrize("serving", [True, False, None])
    def test_serving_alone_counts(
        self, ready: bool | None, serving: bool | None, terminating: bool | None
    ) -> None:
        one = endpoint("10.180.0.1", ready=ready, serving=serving, terminating=terminating)
        made = found(dns_service(), dns_slice(one, endpoint("10.180.0.2")))
        assert ("10.180.0.1:5353" in made.frontends["10.96.0.10:53"]) is (serving is not False)

    def test_policies_do_not_count(self) -> None:
        local = dns_service(
            type="NodePort",
            internalTrafficPolicy="Local",
            externalTrafficPolicy="Local",
            ports=[port(53, "dns", "UDP", nodePort=30053)],
        )
        made = found(local, dns_slice(endpoint("10.180.0.1", "node1"), endpoint("10.180.0.2", "node2")))
        both = ("10.180.0.1:5353", "10.180.0.2:5353")
        assert made == UdpServices({"10.96.0.10:53": both}, {30053: both})

    def test_in_the_order_of_their_text(self) -> None:
        made = found(dns_service(), dns_slice(endpoint("10.180.0.9"), endpoint("10.180.0.10")))
        assert made.frontends["10.96.0.10:53"] == ("10.180.0.10:5353", "10.180.0.9:5353")

    @pytest.mark.parametrize("slices", [[], [dns_slice(endpoint("10.180.0.1", serving=False))]])
    def test_a_service_without_any_is_left_out(self, slices: list[Manifest]) -> None:
        assert found(dns_service(), *slices) == UdpServices()

    def test_a_service_without_any_yields_its_frontend_to_the_next(self) -> None:
        shared: Manifest = {"externalIPs": ["198.51.100.1"]}
        made = found(
            dns_service("shop/a", **shared),
            dns_service("shop/b", "10.96.0.11", **shared),
            dns_slice(of="shop/b"),
        )
        assert made.frontends["198.51.100.1:53"] == ("10.180.0.1:5353",)


def test_it_goes_through_json() -> None:
    made = UdpServices({"[fd00::a]:53": ("[fd01::1]:53", "[fd01::2]:53")}, {30053: ("[fd01::1]:53",)})
    text = msgspec.json.encode(made)
    assert b'"30053"' in text
    assert msgspec.json.decode(text, type=UdpServices) == made
