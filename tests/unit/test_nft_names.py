"""The names of chains and sets in nftables: known vectors, and their limits."""

from __future__ import annotations

import pytest

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.model.service import Service
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.ports import ServicePort, service_ports
from tests.oracle.manifests import port, service
from tests.oracle.structs import sourced


def service_port(name: str, port_name: str = "p80", protocol: str = "TCP") -> ServicePort:
    manifest = service(name, "10.96.0.1", ports=[port(80, port_name, protocol)])
    (found,) = service_ports(sourced(manifest, Service), IpFamily.IPV4)
    return found


def endpoint(address: str, number: int = 80) -> Endpoint:
    text = join_host_port(Address(address), number)
    return Endpoint(text, Address(address), number, False, True, True, False)


@pytest.mark.parametrize(
    ("name", "port_name", "expected"),
    [
        ("ns1/svc1", "p80", "ULMVA6XW-ns1/svc1/tcp/p80"),
        ("default/foo", "", "3ECRMKWA-default/foo/tcp/"),
    ],
)
def test_known_services(name: str, port_name: str, expected: str) -> None:
    assert names.service_base(service_port(name, port_name)) == expected


@pytest.mark.parametrize(
    ("name", "port_name", "address", "number", "expected"),
    [
        ("ns5/svc5", "p80", "10.180.0.3", 80, "GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80"),
        (
            *("testing/service", "http", "fd80:abcd:12::a1b2:c3d4:e5f6:9999", 80),
            "U7E2ET36-testing/service/tcp/http__fd80.abcd.12..a1b2.c3d4.e5f6.9999/80",
        ),
    ],
)
def test_known_endpoints(name: str, port_name: str, address: str, number: int, expected: str) -> None:
    assert names.endpoint_base(service_port(name, port_name), endpoint(address, number)) == expected


def test_the_longest_name_is_cut() -> None:
    longest = service_port("n" * 63 + "/" + "s" * 63, "p" * 63, "SCTP")
    assert len(names.service_base(longest)) == 8 + 1 + 63 + 1 + 63 + 1 + 4 + 1 + 63
    cut = names.endpoint_base(longest, endpoint("2001:db8:1111:2222:3333:4444:5555:6666", 65535))
    assert len(cut) == names.MAX_BASE
    assert cut.endswith("...")
    assert len(names.ENDPOINT_PREFIX + cut) <= 255


@pytest.mark.parametrize("length", [1, 127, 128])
def test_a_comment_that_fits_stays(length: int) -> None:
    assert names.element_comment("x" * length) == "x" * length


def test_a_comment_that_does_not_fit_is_cut() -> None:
    assert names.element_comment("x" * 129) == "x" * 125 + "..."
