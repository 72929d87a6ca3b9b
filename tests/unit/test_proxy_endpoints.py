"""Endpoints of service ports, from EndpointSlices."""

from __future__ import annotations

import itertools

import pytest

from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.endpoints import Endpoint, EndpointsByPort, collect_endpoints
from kproxy_nat.proxy.ports import ServicePortName
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, port
from tests.oracle.structs import sourced

HTTP = ServicePortName("shop", "web", "http", "TCP")


class Everything:
    """A set that holds every name."""

    def __contains__(self, item: object) -> bool:
        return True


def collected(
    *slices: Manifest, family: IpFamily = IpFamily.IPV4, node_name: str = "node1"
) -> EndpointsByPort:
    structs = [sourced(item, EndpointSlice) for item in slices]
    return collect_endpoints(structs, family, node_name, Everything())


def texts(*slices: Manifest, family: IpFamily = IpFamily.IPV4) -> list[str]:
    return [item.text for item in collected(*slices, family=family).get(HTTP, [])]


def only(made: Manifest, node_name: str = "node1") -> Endpoint:
    (found,) = collected(endpoint_slice(endpoints=[made]), node_name=node_name)[HTTP]
    return found


class TestWhichSlices:
    def test_family(self) -> None:
        four = endpoint_slice(endpoints=[endpoint("10.0.0.1")])
        six = endpoint_slice(endpoints=[endpoint("fd00::1")], family="IPv6")
        names = endpoint_slice(endpoints=[endpoint("pod.example.com")], family="FQDN")
        assert texts(four, six, names) == ["10.0.0.1:8080"]
        assert texts(four, six, names, family=IpFamily.IPV6) == ["[fd00::1]:8080"]

    @pytest.mark.parametrize(
        "labels",
        [
            {"kubernetes.io/service-name": ""},
            {"service.kubernetes.io/headless": ""},
            {"service.kubernetes.io/headless": "false"},
        ],
    )
    def test_labels(self, labels: dict[str, str]) -> None:
        assert collected(endpoint_slice(labels=labels)) == {}

    def test_a_slice_without_a_service_belongs_to_none(self) -> None:
        lonely = endpoint_slice()
        del lonely["metadata"]["labels"]["kubernetes.io/service-name"]
        assert collected(lonely) == {}

    def test_the_service_is_named_by_the_label_alone(self) -> None:
        made = endpoint_slice("shop/web", name="something-else")
        assert list(collected(made)) == [HTTP]

    def test_slices_of_a_service_are_united(self) -> None:
        first = endpoint_slice(endpoints=[endpoint("10.0.0.2")], name="a")
        second = endpoint_slice(endpoints=[endpoint("10.0.0.1")], name="b", ports=[port(9090)])
        assert texts(first, second) == ["10.0.0.1:9090", "10.0.0.2:8080"]

    def test_slices_of_another_namespace_are_not(self) -> None:
        other = endpoint_slice("stall/web", [endpoint("10.0.0.2")])
        assert texts(endpoint_slice(endpoints=[endpoint("10.0.0.1")]), other) == ["10.0.0.1:8080"]

    def test_what_nobody_asked_for_is_passed_over(self) -> None:
        found = collect_endpoints([sourced(endpoint_slice(), EndpointSlice)], IpFamily.IPV4, "node1", ())
        assert found == {}


class TestPorts:
    def test_joined_by_name_and_protocol(self) -> None:
        ports = [port(1, "http", "UDP"), port(2, "https"), port(3, "http")]
        found = collected(endpoint_slice(ports=ports))
        assert {(name.port, name.protocol): made[0].port for name, made in found.items()} == {
            ("http", "UDP"): 1,
            ("https", "TCP"): 2,
            ("http", "TCP"): 3,
        }

    @pytest.mark.parametrize("number", [None, 0])
    def test_without_a_number(self, number: int | None) -> None:
        assert collected(endpoint_slice(ports=[{"name": "http", "port": number}])) == {}

    def test_defaults_of_the_api_server(self) -> None:
        """A port without name and protocol is the one that an API server would store: unnamed, TCP."""
        found = collected(endpoint_slice(ports=[{"port": 8080}]))
        assert list(found) == [ServicePortName("shop", "web", "", "TCP")]

    @pytest.mark.parametrize("field", ["ports", "endpoints"])
    def test_null_lists(self, field: str) -> None:
        assert texts({**endpoint_slice(), field: None}) == []


class TestOneEndpoint:
    def test_only_the_first_address_counts(self) -> None:
        made = {**endpoint(), "addresses": ["10.0.0.1", "10.0.0.2"]}
        assert texts(endpoint_slice(endpoints=[made])) == ["10.0.0.1:8080"]

    def test_without_an_address(self) -> None:
        made = {**endpoint(), "addresses": []}
        assert texts(endpoint_slice(endpoints=[made])) == []

    @pytest.mark.parametrize("written", ["010.000.000.001", "::ffff:10.0.0.1", "10.0.0.1"])
    def test_addresses_become_canonical(self, written: str) -> None:
        assert texts(endpoint_slice(endpoints=[endpoint(written)])) == ["10.0.0.1:8080"]

    @pytest.mark.parametrize(
        "on, own, local",
        [("node1", "node1", True), ("node2", "node1", False), (None, "node1", False), ("", "", False)],
    )
    def test_local(self, on: str | None, own: str, local: bool) -> None:
        assert only(endpoint(on=on), own).is_local is local

    @pytest.mark.parametrize(
        "conditions, state",
        [
            (None, (True, True, False)),
            ({}, (True, True, False)),
            ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
            ({"ready": False}, (False, True, False)),
            ({"serving": False}, (True, False, False)),
            ({"terminating": True}, (True, True, True)),
            ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ],
    )
    def test_conditions(self, conditions: Manifest | None, state: tuple[bool, bool, bool]) -> None:
        found = only({**endpoint(), "conditions": conditions})
        assert (found.ready, found.serving, found.terminating) == state

    def test_hints(self) -> None:
        found = only(endpoint(zones=["a", "b", "a"], nodes=["n"]))
        assert found.zone_hints == frozenset("ab")
        assert found.node_hints == frozenset("n")

    @pytest.mark.parametrize("hints", [None, {}, {"forZones": None}, {"forZones": [], "forNodes": []}])
    def test_no_hints(self, hints: Manifest | None) -> None:
        found = only({**endpoint(), "hints": hints})
        assert found.zone_hints == found.node_hints == frozenset()


class TestDuplicates:
    READY = endpoint("10.0.0.1", "node1")
    ENDING = endpoint("10.0.0.1", "node2", ready=False, serving=True, terminating=True)

    def test_one_that_is_not_terminating_prevails_in_any_order(self) -> None:
        for names, pair in itertools.product(
            [("a", "b"), ("b", "a")], [(self.READY, self.ENDING), (self.ENDING, self.READY)]
        ):
            slices = [endpoint_slice(endpoints=[e], name=n) for n, e in zip(names, pair, strict=True)]
            (found,) = collected(*slices)[HTTP]
            assert not found.terminating
            assert found.is_local

    def test_within_one_slice(self) -> None:
        for pair in itertools.permutations((self.READY, self.ENDING)):
            (found,) = collected(endpoint_slice(endpoints=list(pair)))[HTTP]
            assert not found.terminating

    def test_of_two_equals_the_last_by_slice_name(self) -> None:
        """kube-proxy takes either; the names of slices settle it here, not their order in the input."""
        slices = [
            endpoint_slice(endpoints=[endpoint("10.0.0.1", on)], name=name)
            for name, on in (("b", "node1"), ("a", "node2"))
        ]
        for order in itertools.permutations(slices):
            (found,) = collected(*order)[HTTP]
            assert found.is_local

    def test_another_port_is_another_endpoint(self) -> None:
        slices = [endpoint_slice(name=name, ports=[port(n)]) for name, n in (("a", 1), ("b", 2))]
        assert texts(*slices) == ["10.180.0.1:1", "10.180.0.1:2"]


class TestOrder:
    def test_plain_text_not_numbers(self) -> None:
        addresses = ["10.0.0.9", "10.0.0.10", "10.1.1.1", "10.1.1.11", "9.0.0.1", "10.0.0.100"]
        made = endpoint_slice(endpoints=[endpoint(a) for a in addresses], ports=[port(11)])
        assert texts(made) == [
            "10.0.0.100:11",
            "10.0.0.10:11",
            "10.0.0.9:11",
            "10.1.1.11:11",
            "10.1.1.1:11",
            "9.0.0.1:11",
        ]

    def test_ipv6_with_brackets(self) -> None:
        addresses = ["fd00::9", "fd00::10", "fd00:1::1", "fd00::a"]
        made = endpoint_slice(endpoints=[endpoint(a) for a in addresses], family="IPv6")
        assert texts(made, family=IpFamily.IPV6) == [
            "[fd00:1::1]:8080",
            "[fd00::10]:8080",
            "[fd00::9]:8080",
            "[fd00::a]:8080",
        ]
