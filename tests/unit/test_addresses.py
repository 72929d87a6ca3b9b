"""Addresses and networks: read as leniently as Kubernetes reads them, printed in one form."""

from __future__ import annotations

import pytest

from kproxy_nat.net.addresses import (
    Address,
    AddressError,
    Cidr,
    IpFamily,
    address_value,
    cidr_contains,
    family_of,
    host_network,
    is_loopback,
    join_host_port,
    listed_by_kernel_tools,
    parse_address,
    parse_cidr,
    prefix_length,
)


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("10.96.0.1", "10.96.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("172.30.0.041", "172.30.0.41"),
        ("010.010.010.010", "10.10.10.10"),
        ("000.00.0.0000009", "0.0.0.9"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:0102:0304", "1.2.3.4"),
        ("::FFFF:1.2.3.04", "1.2.3.4"),
        ("0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4"),
        ("::1.2.3.4", "::102:304"),
        ("::", "::"),
        ("::1", "::1"),
        ("FD00:10:96::000A", "fd00:10:96::a"),
        ("fd00:0:0:1:0:0:0:1", "fd00:0:0:1::1"),
        ("fd00:0:0:1:0:0:1:1", "fd00::1:0:0:1:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ],
)
def test_an_address_is_read_leniently_and_printed_canonically(text: str, canonical: str) -> None:
    assert parse_address(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10.0.0",
        "10.0.0.1.2",
        "10.0.0.256",
        "10.0.0.-1",
        "+10.0.0.1",
        "0x0a.0.0.1",
        "10.0.0.1 ",
        " 10.0.0.1",
        "10.0.0.1\n",
        "10.0.0.1/24",
        "10..0.1",
        "10.0.0.1000000000000",
        "١٠.0.0.1",  # noqa: RUF001
        "10.0.0.1\0",
        ":",
        ":::",
        "1::2::3",
        "12345::",
        "g::",
        "fe80::1%eth0",
        "[::1]",
        "::1.2.3",
        "::1.2.3.256",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:1.2.3.4",
        "localhost",
        "1.1.1.1 -j ACCEPT",
    ],
)
def test_what_is_no_address_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert str(refused.value).startswith(f"{text!r} is not an IP address")


def test_a_number_over_255_is_named() -> None:
    with pytest.raises(AddressError, match=r"^'10\.0\.0\.300' is not an IP address: 300 is more than 255$"):
        parse_address("10.0.0.300")


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("203.0.113.000/025", "203.0.113.0/25"),
        ("203.0.113.77/25", "203.0.113.0/25"),
        ("203.0.113.200/25", "203.0.113.128/25"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.1.2.3/0", "0.0.0.0/0"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("FD00:10:96::ABCD/48", "fd00:10:96::/48"),
        ("::1/0", "::/0"),
        ("::1/128", "::1/128"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3/96", "0.0.0.0/0"),
        ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
        ("::ffff:10.1.2.3/80", "::/80"),
    ],
)
def test_a_network_is_masked_and_printed_canonically(text: str, canonical: str) -> None:
    assert parse_cidr(text) == canonical


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "the prefix length is missing"),
        ("10.0.0.0", "the prefix length is missing"),
        ("10.0.0.0/", "the prefix length must be 0 to 32"),
        ("10.0.0.0/33", "the prefix length must be 0 to 32"),
        ("10.0.0.0/-1", "the prefix length must be 0 to 32"),
        ("10.0.0.0/ 8", "the prefix length must be 0 to 32"),
        ("10.0.0.0/8/8", "the prefix length must be 0 to 32"),
        ("10.0.0.0/255.0.0.0", "the prefix length must be 0 to 32"),
        ("10.0.0.0/٨", "the prefix length must be 0 to 32"),
        ("fd00::/129", "the prefix length must be 0 to 128"),
        ("10.0.0/8", "'10.0.0' is not an IP address"),
        ("/8", "'' is not an IP address"),
        ("10.0.0.0/8 -j ACCEPT", "the prefix length must be 0 to 32"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_cidr(text)
    assert str(refused.value) == f"{text!r} is not a CIDR: {why}"


@pytest.mark.parametrize(
    "text, family",
    [
        ("10.0.0.1", IpFamily.IPV4),
        ("::1", IpFamily.IPV6),
        ("10.0.0.0/8", IpFamily.IPV4),
        ("::/0", IpFamily.IPV6),
    ],
)
def test_the_family_shows_in_the_canonical_text(text: str, family: IpFamily) -> None:
    assert family_of(Address(text)) is family
    assert family.other.other is family
    assert family.other is not family


@pytest.mark.parametrize(
    "network, address, inside",
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.4/32", "10.0.0.4", True),
        ("0.0.0.0/0", "203.0.113.1", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "10.0.0.1", False),
        ("fd00::/63", "fd00:0:0:1:ffff::", True),
        ("fd00::/63", "fd00:0:0:2::", False),
    ],
)
def test_a_network_contains_addresses_of_its_own_family_only(
    network: str, address: str, inside: bool
) -> None:
    assert cidr_contains(Cidr(network), Address(address)) is inside


@pytest.mark.parametrize(
    "address, loopback",
    [("127.0.0.1", True), ("127.255.0.9", True), ("128.0.0.1", False), ("::1", True), ("::2", False)],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(Address(address)) is loopback


def test_small_conversions() -> None:
    assert host_network(Address("10.0.0.1")) == "10.0.0.1/32"
    assert host_network(Address("fd00::1")) == "fd00::1/128"
    assert join_host_port(Address("10.0.0.1"), 80) == "10.0.0.1:80"
    assert join_host_port(Address("fd00::1"), 80) == "[fd00::1]:80"
    assert prefix_length(Cidr("fd00::/48")) == 48
    assert address_value(Address("0.0.1.2")) == 258


@pytest.mark.parametrize(
    "canonical, listed",
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("::1", "::1"),
        ("::", "::"),
        ("::/0", "::/0"),
        ("::102:304", "::1.2.3.4"),
        ("::102:304/128", "::1.2.3.4/128"),
    ],
)
def test_kernel_tools_print_compatible_addresses_with_a_dotted_quad(canonical: str, listed: str) -> None:
    assert listed_by_kernel_tools(canonical) == listed
