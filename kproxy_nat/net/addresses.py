"""IP addresses and networks as Kubernetes reads them: leniently, and printed canonically.

Kubernetes parses stored addresses with the rules of older Go releases: leading zeros are decimal (never
octal), and an IPv4-mapped IPv6 address counts as IPv4. The canonical text is dotted quad for IPv4 and RFC
5952 for IPv6, which is also what iptables-save and nft print. The types :data:`Address` and :data:`Cidr`
are such canonical texts; only the parsers of this module make them.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NewType

Address = NewType("Address", str)
"""The canonical text of one IP address, without a prefix length."""

Cidr = NewType("Cidr", str)
"""The canonical text of a network, ``address/length``, host bits cleared."""

_QUAD = re.compile(r"\d{1,9}(?:\.\d{1,9}){3}", re.ASCII)
_LENGTH = re.compile(r"\d{1,9}", re.ASCII)
_MAPPED_PREFIX = 96


class IpFamily(enum.StrEnum):
    """An IP family, named as in ``spec.ipFamilies``."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def bits(self) -> int:
        """The length of an address in bits."""
        return 32 if self is IpFamily.IPV4 else 128

    @property
    def host_mask(self) -> str:
        """The mask that keeps a whole address, in the form of one."""
        return "255.255.255.255" if self is IpFamily.IPV4 else ":".join(["ffff"] * 8)

    @property
    def other(self) -> IpFamily:
        """The other of the two families."""
        return IpFamily.IPV6 if self is IpFamily.IPV4 else IpFamily.IPV4


class AddressError(ValueError):
    """A text that is not an address or network, in words for the person who wrote it."""


def parse_address(text: str) -> Address:
    """Return the canonical form of ``text``.

    Raises:
        AddressError: ``text`` is not an IP address.
    """
    try:
        inet_pton(AF_INET, text)
    except (OSError, UnicodeError, ValueError):
        return _parse_other_forms(text)
    return Address(text)


@functools.lru_cache(maxsize=1 << 17)
def _parse_other_forms(text: str) -> Address:
    return Address(_print_value(*_parse_lenient(text)))


def _parse_lenient(text: str) -> tuple[IpFamily, int]:
    if ":" not in text:
        return IpFamily.IPV4, _parse_quad(text, text)
    value = _parse_ipv6(text)
    if value >> 32 == 0xFFFF:
        return IpFamily.IPV4, value & 0xFFFFFFFF
    return IpFamily.IPV6, value


def _parse_quad(quad: str, whole: str) -> int:
    if not _QUAD.fullmatch(quad):
        raise AddressError(f"{whole!r} is not an IP address")
    value = 0
    for part in quad.split("."):
        number = int(part)
        if number > 255:
            raise AddressError(f"{whole!r} is not an IP address: {part} is more than 255")
        value = value << 8 | number
    return value


def _parse_ipv6(text: str) -> int:
    head, _, tail = text.rpartition(":")
    if "." in tail:
        quad = _parse_quad(tail, text)
        text_hex = f"{head}:{quad >> 16:x}:{quad & 0xFFFF:x}"
    else:
        text_hex = text
    if "%" in text:
        raise AddressError(f"{text!r} is not an IP address: zones are not allowed")
    groups = [group.lstrip("0") or "0" if group else "" for group in text_hex.split(":")]
    try:
        return int(ipaddress.IPv6Address(":".join(groups)))
    except ValueError:
        raise AddressError(f"{text!r} is not an IP address") from None


def _print_value(family: IpFamily, value: int) -> str:
    if family is IpFamily.IPV4:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    return ipaddress.IPv6Address(value).compressed


@functools.lru_cache(maxsize=4096)
def parse_cidr(text: str) -> Cidr:
    """Return the canonical network of ``text``; host bits are cleared, so that .77/25 becomes .0/25.

    Raises:
        AddressError: ``text`` is not ``address/length``.
    """
    address, slash, length_text = text.partition("/")
    if not slash:
        raise AddressError(f"{text!r} is not a CIDR: the prefix length is missing")
    try:
        family, value = _parse_lenient(address)
    except AddressError:
        raise AddressError(f"{text!r} is not a CIDR: {address!r} is not an IP address") from None
    mapped = family is IpFamily.IPV4 and ":" in address
    longest = 128 if ":" in address else 32
    if not _LENGTH.fullmatch(length_text) or int(length_text) > longest:
        raise AddressError(f"{text!r} is not a CIDR: the prefix length must be 0 to {longest}")
    length = int(length_text)
    if mapped and length < _MAPPED_PREFIX:
        family, value, mapped = IpFamily.IPV6, value | 0xFFFF << 32, False
    if mapped:
        length -= _MAPPED_PREFIX
    host_bits = family.bits - length
    return Cidr(f"{_print_value(family, value >> host_bits << host_bits)}/{length}")


def family_of(text: Address | Cidr) -> IpFamily:
    """Return the family of a canonical address or network."""
    return IpFamily.IPV6 if ":" in text else IpFamily.IPV4


def address_value(address: Address) -> int:
    """Return the address as an unsigned integer of 32 or 128 bits."""
    return _parse_lenient(address)[1]


def address_of(family: IpFamily, value: int) -> Address:
    """Return the address with this value: the inverse of :func:`address_value`."""
    return Address(_print_value(family, value))


def network_of(family: IpFamily, value: int, length: int) -> Cidr:
    """Return the network of ``length`` bits whose first address has this value."""
    return Cidr(f"{_print_value(family, value)}/{length}")


def prefix_length(cidr: Cidr) -> int:
    """Return the prefix length of a network."""
    return int(cidr.rpartition("/")[2])


def cidr_contains(cidr: Cidr, address: Address) -> bool:
    """Tell whether ``address`` lies in ``cidr``; addresses of the other family never do."""
    family = family_of(cidr)
    if family is not family_of(address):
        return False
    base, _, length = cidr.partition("/")
    host_bits = family.bits - int(length)
    return address_value(Address(base)) >> host_bits == address_value(address) >> host_bits


def is_loopback(address: Address) -> bool:
    """Tell whether ``address`` is in 127.0.0.0/8 or is ``::1``."""
    return address.startswith("127.") or address == "::1"


def host_network(address: Address) -> Cidr:
    """Return the network that holds ``address`` alone."""
    return Cidr(f"{address}/{family_of(address).bits}")


def join_host_port(address: Address, port: int) -> str:
    """Return ``address:port``, with an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def listed_by_kernel_tools(text: str) -> str:
    """Return an address or network as the C library prints it, and so iptables-save.

    It differs from RFC 5952 in ``::/96`` alone, whose last 32 bits are printed as a dotted quad.
    """
    if not text.startswith("::"):
        return text
    address, slash, length = text.partition("/")
    return inet_ntop(AF_INET6, inet_pton(AF_INET6, address)) + slash + length
