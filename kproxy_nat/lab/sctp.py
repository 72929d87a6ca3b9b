"""SCTP where the kernel has no SCTP sockets: the first exchange of an association, on raw sockets.

Address translation is netfilter's and needs none of the kernel's SCTP. A client sends INIT, the server
returns INIT ACK, whose State Cookie is the server's to choose (RFC 9260, section 3.3.3), so that it carries
the answer.
"""

from __future__ import annotations

import functools
import secrets
import socket
import struct
from dataclasses import dataclass

from kproxy_nat.net.addresses import IpFamily

_INIT, _INIT_ACK = 1, 2
_STATE_COOKIE = 7
_HEADER = struct.Struct("!HHII")
"""Source port, destination port, verification tag, checksum."""
_CHUNK = struct.Struct("!BBHIIHHI")
"""Type, flags, length; initiate tag, receiver window, streams out and in, initial TSN: INIT and INIT ACK."""
_PARAMETER = struct.Struct("!HH")
_WINDOW = 65536
_POLYNOMIAL = 0x82F63B78
"""CRC32c, bits reversed."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An INIT (without cookie) or an INIT ACK.

    Attributes:
        tag: the verification tag, by which the receiver knows the association; 0 in INIT.
        initiate_tag: what the sender wants as verification tag from now on.
        cookie: the State Cookie of INIT ACK.
    """

    source_port: int
    port: int
    tag: int
    initiate_tag: int
    cookie: bytes = b""


@functools.cache
def kernel_has_sctp() -> bool:
    """Tell whether there are SCTP sockets."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def new_tag() -> int:
    """Return a random initiate tag; 0 is no tag."""
    return secrets.randbelow((1 << 32) - 1) + 1


def encode(packet: Packet) -> bytes:
    """Return the packet's bytes, without the IP header."""
    parameter = _PARAMETER.pack(_STATE_COOKIE, _PARAMETER.size + len(packet.cookie)) + packet.cookie
    body = parameter if packet.cookie else b""
    kind = _INIT_ACK if packet.cookie else _INIT
    length = _CHUNK.size + len(body)
    chunk = _CHUNK.pack(kind, 0, length, packet.initiate_tag, _WINDOW, 1, 1, 1) + body + bytes(-length % 4)
    ports = (packet.source_port, packet.port, packet.tag)
    return _HEADER.pack(*ports, checksum(_HEADER.pack(*ports, 0) + chunk)) + chunk


def decode(received: bytes, family: IpFamily) -> Packet | None:
    """Return the packet that a raw socket received; ``None`` if it is no INIT, no INIT ACK, or damaged.

    IPv4 sockets deliver the IP header, too (raw(7)), IPv6 sockets do not.
    """
    data = received[(received[0] & 15) * 4 :] if family is IpFamily.IPV4 else received
    if len(data) < _HEADER.size + _CHUNK.size:
        return None
    source_port, port, tag, received_sum = _HEADER.unpack_from(data)
    chunk = data[_HEADER.size :]
    kind, _, length, initiate_tag, *_ = _CHUNK.unpack_from(chunk)
    if kind not in (_INIT, _INIT_ACK) or received_sum != checksum(data[:8] + bytes(4) + chunk):
        return None
    cookie = chunk[_CHUNK.size + _PARAMETER.size : length] if kind == _INIT_ACK else b""
    return Packet(source_port, port, tag, initiate_tag, cookie)


def checksum(data: bytes) -> int:
    """Return the CRC32c, its bytes in the order in which SCTP sends them (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _table()[(value ^ byte) & 0xFF]
    return int.from_bytes((value ^ 0xFFFFFFFF).to_bytes(4, "little"), "big")


@functools.cache
def _table() -> tuple[int, ...]:
    return tuple(_shifted(byte) for byte in range(256))


def _shifted(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value
