"""What the API server would refuse of EndpointSlices and Endpoints is refused here, too."""

from __future__ import annotations

import pytest

from kproxy_nat.errors import Code
from tests.unit.findings import LABEL_RULE, PROTOCOLS, REACHABLE, check

SLICE = [
    (
        "addressType: ipv4",
        Code.UNSUPPORTED_VALUE,
        "4:14",
        "addressType 'ipv4' is not supported",
        "use one of: IPv4, IPv6, FQDN",
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: []}]",
        Code.MISSING_FIELD,
        "5:14",
        "an endpoint has no address",
        "",
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: [10.1.0.256]}]",
        Code.BAD_ADDRESS,
        "5:26",
        "'10.1.0.256' is not an IP address: 256 is more than 255",
        "",
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]",
        Code.FAMILY_MISMATCH,
        "5:26",
        "fd00::1 is not an IPv4 address",
        "",
    ),
    (
        "addressType: IPv6\nendpoints: [{addresses: [10.1.0.1]}]",
        Code.FAMILY_MISMATCH,
        "5:26",
        "10.1.0.1 is not an IPv6 address",
        "",
    ),
    (
        "addressType: IPv6\nendpoints: [{addresses: ['::1']}]",
        Code.BAD_ADDRESS,
        "5:26",
        "::1 is a loopback address",
        REACHABLE,
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]",
        Code.BAD_ADDRESS,
        "5:26",
        "127.0.0.1 is a loopback address",
        REACHABLE,
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: [192.168.1.1x]}]",
        Code.BAD_ADDRESS,
        "5:26",
        "'192.168.1.1x' is not an IP address",
        "",
    ),
    (
        "addressType: IPv4\nendpoints: [{addresses: [10.1.0.1, x]}]",
        Code.BAD_ADDRESS,
        "5:36",
        "'x' is not an IP address",
        "",
    ),
    (
        "addressType: IPv4\nports: [{port: 0}]",
        Code.PORT_RANGE,
        "5:16",
        "port 0 is not between 1 and 65535",
        "",
    ),
    (
        "addressType: IPv4\nports: [{port: 1, protocol: TLS}]",
        Code.UNSUPPORTED_VALUE,
        "5:29",
        "protocol 'TLS' is not supported",
        PROTOCOLS,
    ),
    (
        "addressType: IPv4\nports: [{port: 1, name: a_b}]",
        Code.BAD_NAME,
        "5:25",
        "port name 'a_b' is not valid",
        LABEL_RULE,
    ),
    (
        "addressType: IPv4\nports: [{port: 1}, {port: 2}]",
        Code.DUPLICATE_PORT,
        "5:20",
        "an unnamed port is there twice",
        "",
    ),
    (
        "addressType: IPv4\nports: [{port: 1, name: a}, {port: 2, name: a}]",
        Code.DUPLICATE_PORT,
        "5:29",
        "port name a is there twice",
        "",
    ),
]


@pytest.mark.parametrize("body, code, place, message, hint", SLICE)
def test_slice(body: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("EndpointSlice", body) == [(code, place, message, hint)]


@pytest.mark.parametrize("text", ["10.0.0.1\\n10.0.0.2", "10.0.0.1\\n", "\\n10.0.0.1", "\\n", ""])
def test_addresses_of_a_slice_are_told_apart(text: str) -> None:
    """They are looked at together, a line each."""
    for addresses in (f'["{text}"]', f'[10.0.0.3, "{text}"]', f'["{text}", 10.0.0.3]'):
        found = check("EndpointSlice", f"addressType: IPv4\nendpoints: [{{addresses: {addresses}}}]")
        assert [code for code, *_ in found] == [Code.BAD_ADDRESS], addresses


def test_a_slice_with_and_without_addresses() -> None:
    body = "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: []}]"
    assert [code for code, *_ in check("EndpointSlice", body)] == [Code.MISSING_FIELD]


@pytest.mark.parametrize(
    "body",
    [
        "addressType: IPv4\nendpoints: [{addresses: [10.001.0.1]}]",
        "addressType: IPv4\nendpoints: [{addresses: ['::ffff:10.1.0.1']}]",
        "addressType: FQDN\nendpoints: [{addresses: [a.example]}]",
        "addressType: IPv4\nports: []",
        "addressType: IPv4\nports: [{name: a}]",
    ],
)
def test_good_slices(body: str) -> None:
    assert check("EndpointSlice", body) == []


@pytest.mark.parametrize(
    "body, code, place, message, hint",
    [
        ("subsets: [{addresses: [{ip: x}]}]", Code.BAD_ADDRESS, "4:29", "'x' is not an IP address", ""),
        (
            "subsets: [{notReadyAddresses: [{ip: 127.0.0.1}]}]",
            Code.BAD_ADDRESS,
            "4:37",
            "127.0.0.1 is a loopback address",
            REACHABLE,
        ),
        (
            "subsets: [{ports: [{port: 65536}]}]",
            Code.PORT_RANGE,
            "4:27",
            "port 65536 is not between 1 and 65535",
            "",
        ),
        (
            "subsets: [{ports: [{port: 1, name: '-'}]}]",
            Code.BAD_NAME,
            "4:36",
            "port name '-' is not valid",
            LABEL_RULE,
        ),
    ],
)
def test_endpoints(body: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("Endpoints", body) == [(code, place, message, hint)]


def repeated(text: str, count: int) -> str:
    return ", ".join(text.format(number=number) for number in range(count))


@pytest.mark.parametrize(
    "body, message",
    [
        (
            "endpoints: [{endpoints}]",
            "1001 endpoints are more than the 1000 that the API server takes",
        ),
        ("ports: [{ports}]", "20001 ports are more than the 20000 that the API server takes"),
        (
            "endpoints: [{{addresses: [{addresses}]}}]",
            "101 addresses are more than the 100 that the API server takes",
        ),
        (
            "endpoints: [{{addresses: [10.0.0.1], hints: {{forZones: [{zones}]}}}}]",
            "9 zones are more than the 8 that the API server takes",
        ),
        (
            "endpoints: [{{addresses: [10.0.0.1], hints: {{forNodes: [{zones}]}}}}]",
            "9 nodes are more than the 8 that the API server takes",
        ),
    ],
)
@pytest.mark.parametrize("excess", [0, 1])
def test_limits_of_a_slice(body: str, message: str, excess: int) -> None:
    """As many as the API server takes are taken; one more is not."""
    filled = body.format(
        endpoints=repeated("{{addresses: [10.0.0.1]}}", 1000 + excess),
        ports=repeated("{{name: p{number}, port: 80}}", 20000 + excess),
        addresses=repeated("10.0.0.{number}", 100 + excess),
        zones=repeated("{{name: z{number}}}", 8 + excess),
    )
    found = [(code, text) for code, _, text, _ in check("EndpointSlice", f"addressType: IPv4\n{filled}")]
    assert found == [(Code.OUT_OF_RANGE, message)] * excess
