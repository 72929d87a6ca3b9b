"""Values in sets of nftables: their order when listed, and the merging of networks.

nft lists elements in the order of their values. A concatenation counts as the number that its bytes make in
little-endian order (nft before 1.1.6, on little-endian machines), so that the last part decides first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from kproxy_nat.net.addresses import IpFamily, listed_by_kernel_tools
from kproxy_nat.ruleset.keys import DESTINATION_PORTS, Field, Key, KeyValue, Numgen, Value

PROTOCOL_NUMBERS = {
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "ospf": 89,
    "comp": 108,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
ADDRESS_TYPES = {IpFamily.IPV4: "ipv4_addr", IpFamily.IPV6: "ipv6_addr"}
SERVICE = "inet_service"
"""The type of ports."""
INTEGER = "integer"
"""The type of a generated number. It has no size of its own, so sets with it are declared by expressions."""


def key_types(key: Key, family: IpFamily) -> tuple[str, ...]:
    """Return nft's types of the parts of a key."""
    return tuple(_type_of(part, family) for part in key)


def _type_of(part: Field | Numgen, family: IpFamily) -> str:
    if isinstance(part, Numgen):
        return INTEGER
    if part in (Field.SOURCE, Field.DESTINATION):
        return ADDRESS_TYPES[family]
    return "inet_proto" if part is Field.PROTOCOL else SERVICE


def transport_of(key: Key) -> str:
    """Return the protocol whose packets alone can have a key; nothing if it is asked of all."""
    return next((name for name, field in DESTINATION_PORTS.items() if field in key), "")


def listed_value(value: Value) -> Value:
    """Return a value as nft prints it: addresses of ``::/96`` end in a dotted quad."""
    if not isinstance(value, str) or not (value.startswith("::") or "-::" in value):
        return value
    return "-".join(map(listed_by_kernel_tools, value.split("-")))


def in_listed_order(values: Iterable[KeyValue], types: Sequence[str]) -> list[KeyValue]:
    """Return the values in the order of listing; as they come where a type is not known here."""
    given = list(values)
    packers = [_PACKERS.get(name) for name in types]
    try:
        return sorted(given, key=lambda value: _sort_key(value, packers))
    except (KeyError, OSError, OverflowError, TypeError, ValueError):
        return given


def _sort_key(value: KeyValue, packers: Sequence[Callable[[Value], bytes] | None]) -> bytes:
    parts = []
    for part, packer in zip(value, packers, strict=True):
        if packer is None:
            raise TypeError(part)
        parts.append(packer(part))
    if len(parts) > 1:
        return b"".join(parts)[::-1]
    return parts[0][::-1] if packers[0] is _pack_integer else parts[0]


def _pack_address(value: Value) -> bytes:
    low = str(value).partition("-")[0].partition("/")[0]
    return inet_pton(AF_INET6 if ":" in low else AF_INET, low)


def _pack_protocol(value: Value) -> bytes:
    return (value if isinstance(value, int) else PROTOCOL_NUMBERS[value]).to_bytes(1, "big")


def _pack_service(value: Value) -> bytes:
    low = value if isinstance(value, int) else int(value.partition("-")[0])
    return low.to_bytes(2, "big")


def _pack_integer(value: Value) -> bytes:
    return int(value).to_bytes(4, "little")


_PACKERS: dict[str, Callable[[Value], bytes]] = {
    "ipv4_addr": _pack_address,
    "ipv6_addr": _pack_address,
    "inet_proto": _pack_protocol,
    "inet_service": _pack_service,
    "integer": _pack_integer,
    "mark": _pack_integer,
}


def merged_networks(values: Iterable[str]) -> list[str]:
    """Return addresses, networks and ranges of one family as nft keeps them in an anonymous set.

    If there are only addresses, they stay single; otherwise what overlaps or touches becomes one.

    Raises:
        OSError, ValueError: one of them is of another kind or family.
    """
    given = list(dict.fromkeys(values))
    if not any("/" in value or "-" in value for value in given):
        return sorted(given, key=_pack_address)
    family = AF_INET6 if any(":" in value for value in given) else AF_INET
    bits = 128 if family == AF_INET6 else 32
    merged: list[list[int]] = []
    for low, high in sorted(_bounds(value, bits) for value in given):
        if merged and low <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return [_network_text(low, high, bits) for low, high in merged]


def _bounds(value: str, bits: int) -> tuple[int, int]:
    first, dash, last = value.partition("-")
    if dash:
        return _number(first), _number(last)
    address, slash, length = value.partition("/")
    low = _number(address)
    return low, low + (1 << (bits - int(length))) - 1 if slash else low


def _number(address: str) -> int:
    return int.from_bytes(_pack_address(address), "big")


def _network_text(low: int, high: int, bits: int) -> str:
    size = high - low + 1
    if size == 1:
        return _address_text(low, bits)
    if size & (size - 1) == 0 and low % size == 0:
        return f"{_address_text(low, bits)}/{bits - size.bit_length() + 1}"
    return f"{_address_text(low, bits)}-{_address_text(high, bits)}"


def _address_text(number: int, bits: int) -> str:
    return inet_ntop(AF_INET if bits == 32 else AF_INET6, number.to_bytes(bits // 8, "big"))
