"""Keys: what nftables looks up in sets and maps, and the values that stand in them."""

from __future__ import annotations

import enum

import msgspec


class Field(enum.StrEnum):
    """A part of a packet, in nft's words; which header an address is in follows from the table's family."""

    SOURCE = "saddr"
    DESTINATION = "daddr"
    PROTOCOL = "meta l4proto"
    SOURCE_PORT = "th sport"
    DESTINATION_PORT = "th dport"
    TCP_DESTINATION_PORT = "tcp dport"
    UDP_DESTINATION_PORT = "udp dport"
    SCTP_DESTINATION_PORT = "sctp dport"


DESTINATION_PORTS = {
    "tcp": Field.TCP_DESTINATION_PORT,
    "udp": Field.UDP_DESTINATION_PORT,
    "sctp": Field.SCTP_DESTINATION_PORT,
}
"""The destination port in packets of one protocol; a key with it is one of such packets only."""


class Numgen(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``numgen MODE mod N offset M``: a number from ``offset`` on, ``random`` or in turn (``inc``)."""

    modulus: int
    mode: str = "random"
    offset: int = 0


KeyPart = Field | Numgen

Key = tuple[KeyPart, ...]
"""One part, or several as a concatenation: ``ip daddr . meta l4proto . th dport``."""

Value = str | int
"""An address, network or range, protocol or other name as nft prints it; or a number."""

KeyValue = tuple[Value, ...]
"""A value for each part of a key."""
