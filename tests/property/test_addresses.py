"""Laws of address parsing, against the standard library where it agrees with Kubernetes."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from kproxy_nat.net.addresses import (
    Address,
    AddressError,
    address_value,
    cidr_contains,
    family_of,
    host_network,
    parse_address,
    parse_cidr,
)

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda address: address not in MAPPED)
ANY = V4 | V6


@given(ANY)
def test_an_ordinary_address_reads_as_the_standard_library_reads_it(address: ipaddress.IPv4Address) -> None:
    assert parse_address(address.exploded) == parse_address(str(address)) == address.compressed
    assert address_value(Address(str(address))) == int(address)


@given(ANY, st.data())
def test_a_network_reads_as_the_standard_library_reads_it(
    address: ipaddress.IPv4Address, data: st.DataObject
) -> None:
    text = f"{address}/{data.draw(st.integers(0, address.max_prefixlen))}"
    assert parse_cidr(text) == str(ipaddress.ip_network(text, strict=False))


@given(V4, st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_leading_zeros_change_nothing(address: ipaddress.IPv4Address, zeros: list[int]) -> None:
    padded = ".".join("0" * n + part for n, part in zip(zeros, str(address).split("."), strict=True))
    assert parse_address(padded) == str(address)


@given(V4, st.integers(0, 32))
def test_a_mapped_address_is_ipv4(address: ipaddress.IPv4Address, length: int) -> None:
    assert parse_address(f"::ffff:{address}") == str(address)
    assert parse_cidr(f"::ffff:{address}/{length + 96}") == parse_cidr(f"{address}/{length}")


@given(ANY)
def test_a_network_of_one_holds_that_address_alone(address: ipaddress.IPv4Address) -> None:
    network = host_network(Address(str(address)))
    assert cidr_contains(network, Address(str(address)))
    neighbour = parse_address(str(type(address)(int(address) ^ 1)))
    if family_of(neighbour) is family_of(network):
        assert not cidr_contains(network, neighbour)


@given(st.text(st.sampled_from("0123456789abcdefABCDEF.:/%[] x"), max_size=24) | st.text(max_size=24))
@example("0.0.0.0")
def test_any_text_is_an_address_once_and_for_all_or_refused(text: str) -> None:
    try:
        canonical = parse_address(text)
    except AddressError:
        return
    assert parse_address(canonical) == canonical
    assert ipaddress.ip_address(canonical).compressed == canonical


@given(st.text(st.sampled_from("0123456789abcdef.:/ "), max_size=24))
@example("::ffff:1.2.3.4/100")
def test_any_text_is_a_network_once_and_for_all_or_refused(text: str) -> None:
    try:
        canonical = parse_cidr(text)
    except AddressError:
        return
    assert parse_cidr(canonical) == canonical
    assert str(ipaddress.ip_network(canonical)) == canonical
