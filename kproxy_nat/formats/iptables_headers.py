"""The header options of iptables (``-s -d -i -o -p -f``): reading their values."""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, AddressFamily, inet_ntop, inet_pton

from kproxy_nat.net.addresses import Address, AddressError, Cidr, IpFamily
from kproxy_nat.ruleset.canonical import FRAGMENT_RANK
from kproxy_nat.ruleset.matches import (
    Destination,
    HeaderMatch,
    InInterface,
    OpaqueHeader,
    OutInterface,
    Protocol,
    Source,
)

SPELLINGS = {
    **dict.fromkeys(("-s", "--source", "--src"), "-s"),
    **dict.fromkeys(("-d", "--destination", "--dst", "--dest"), "-d"),
    **dict.fromkeys(("-i", "--in-interface"), "-i"),
    **dict.fromkeys(("-o", "--out-interface"), "-o"),
    **dict.fromkeys(("-p", "--protocol", "--proto"), "-p"),
    **dict.fromkeys(("-f", "--fragment"), "-f"),
}
"""Each spelling of a header option, and its short form."""

PROTOCOL_NAMES = {
    1: "icmp",
    2: "igmp",
    4: "ipencap",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    115: "l2tp",
    132: "sctp",
    135: "mobility-header",
    136: "udplite",
}
"""The protocols that iptables lists by name, by number; others are listed as they are written here."""

_LOOKS_NUMERIC = re.compile(r"[\d.]*|[0-9a-fA-F.]*:[0-9a-fA-F:.]*", re.ASCII)
_NUMBER = re.compile(r"0[xX]([0-9a-fA-F]{1,16})|0([0-7]{1,20})|0|[1-9][0-9]{0,19}", re.ASCII)
_MAX_INTERFACE = 15
_SYNONYMS = {"icmpv6": "ipv6-icmp", "ipv6-mh": "mobility-header", "mh": "mobility-header"}


def read_header(option: str, value: str, family: IpFamily, *, negated: bool) -> list[HeaderMatch]:
    """Return the matches of one header option: none where it is no condition, several for an address list.

    ``option`` is the short form; ``-f`` has no value. Several matches mean several rules.

    Raises:
        AddressError: an address is none.
        ValueError: an interface name is too long.
    """
    if option == "-f":
        return [OpaqueHeader("! -f" if negated else "-f", FRAGMENT_RANK)]
    if option == "-p":
        name = protocol_name(value)
        if name == "all" and negated:
            raise ValueError("no protocol is left when all are excluded")
        return [Protocol(name, negated)] if name != "all" else []
    if option in ("-i", "-o"):
        if not 1 <= len(value.encode(errors="replace")) <= _MAX_INTERFACE:
            raise ValueError(f"interface name {value!r} is not of 1 to {_MAX_INTERFACE} bytes")
        return [InInterface(value, negated) if option == "-i" else OutInterface(value, negated)]
    kind = Source if option == "-s" else Destination
    found: list[HeaderMatch] = []
    for text in value.split(","):
        network = _network(text, family)
        if network is None:
            words = f"! {option} {text}" if negated else f"{option} {text}"
            found.append(OpaqueHeader(words, 0 if option == "-s" else 1))
        else:
            found.append(kind(network, negated))
    return found


def protocol_name(text: str) -> str:
    """Return the name by which iptables lists a protocol; ``all`` for every protocol."""
    lower = text.lower()
    number = read_number(lower)
    if number is None:
        return _SYNONYMS.get(lower, lower)
    return PROTOCOL_NAMES.get(number, str(number)) if number else "all"


def read_number(text: str) -> int | None:
    """Read a number as iptables does: decimal, ``0x`` hexadecimal, octal after a leading zero."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    hexadecimal, octal = found[1], found[2]
    if hexadecimal:
        return int(hexadecimal, 16)
    return int(octal, 8) if octal else int(text)


def _network(text: str, family: IpFamily) -> Address | Cidr | None:
    """Return an address or network; ``None`` for a host name or a mask with holes.

    Raises:
        AddressError: the text looks like an address and is none.
    """
    address, slash, mask = text.partition("/")
    bits, kind = (32, AF_INET) if family is IpFamily.IPV4 else (128, AF_INET6)
    if family is IpFamily.IPV4:
        address = _pad_quad(address, padded=bool(slash))
    value = _packed(address, kind)
    if value is None:
        if _LOOKS_NUMERIC.fullmatch(address):
            raise AddressError(f"{text!r} is not an {family} address")
        return None
    if not slash:
        return Address(inet_ntop(kind, value))
    length = _mask_length(mask, kind, bits)
    if length is None:
        return None
    host_bits = bits - length
    network = int.from_bytes(value, "big") >> host_bits << host_bits
    return Cidr(f"{inet_ntop(kind, network.to_bytes(bits // 8, 'big'))}/{length}")


def _packed(address: str, kind: AddressFamily) -> bytes | None:
    try:
        return inet_pton(kind, address)
    except (OSError, UnicodeError, ValueError):
        return None


def _pad_quad(text: str, *, padded: bool) -> str:
    """Complete an abbreviated network: ``10.1`` is ``10.1.0.0``."""
    parts = text.split(".")
    if len(parts) < 4 and all(part.isdigit() for part in parts) and (len(parts) > 1 or padded):
        parts += ["0"] * (4 - len(parts))
    return ".".join(parts)


def _mask_length(mask: str, kind: AddressFamily, bits: int) -> int | None:
    """Return the length of a mask, given as a number or as an address; ``None`` for one with holes."""
    if mask.isdigit() and int(mask) <= bits:
        return int(mask)
    packed = _packed(mask, kind)
    if packed is None:
        raise AddressError(f"{mask!r} is not a prefix length or mask")
    ones = f"{int.from_bytes(packed, 'big'):0{bits}b}"
    return ones.count("1") if "01" not in ones else None
