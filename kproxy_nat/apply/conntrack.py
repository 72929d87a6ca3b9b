"""UDP flows in the connection tracking table of the namespace that the calling thread is in.

Flows whose endpoint serves no longer are deleted, so that their next packet meets the new rules; see
``kproxy_nat.proxy.udp_flows``. The messages are those of linux/netfilter/nfnetlink_conntrack.h, read and
written here without a library: a table may have a few hundred thousand entries, for which pyroute2 needs six
times as long, and it keeps to itself what the end of a dump says, that it was cut short.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port, parse_address
from kproxy_nat.proxy.udp_flows import UdpServices

ATTEMPTS = 5
"""How often a dump that was cut short is read anew, as in kube-proxy, before what there is has to do."""

# linux/netlink.h
_NETLINK_NETFILTER = 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF
_RECEIVE_BYTES = 1 << 16
"""The kernel fills up to 32 KiB at a time."""

# linux/netfilter/nfnetlink_conntrack.h
_CT_GET, _CT_DELETE = 0x101, 0x102
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_FILTER_ORIG_FLAGS = 1
_FILTER_PROTO_NUM = 1 << 3
"""The bit that means CTA_PROTO_NUM; the kernel's header has it, the one for programs does not."""

_ADDRESS_ATTRIBUTES = {IpFamily.IPV4: (1, 2), IpFamily.IPV6: (3, 4)}
"""CTA_IP_V4_SRC and _DST, CTA_IP_V6_SRC and _DST."""
_AF = {IpFamily.IPV4: socket.AF_INET, IpFamily.IPV6: socket.AF_INET6}
_UDP = bytes([socket.IPPROTO_UDP])

_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_FLAGS = struct.Struct("=I")
_PORT = struct.Struct("!H")


class UdpFlow(msgspec.Struct, frozen=True, gc=False):
    """One entry of the table: a client, what it sends to, and who answers; each as ``address:port``.

    Attributes:
        destination_port: the port in ``destination``.
        entry: the attributes by which the kernel finds this very entry.
    """

    source: str
    destination: str
    destination_port: int
    endpoint: str
    entry: bytes = b""

    def __str__(self) -> str:
        """Return the flow in one line, for people."""
        return f"UDP {self.source} -> {self.destination} (was {self.endpoint})"


@dataclass(frozen=True, slots=True)
class Removal:
    """The flows that were deleted, and a warning if not all could be that should be."""

    flows: tuple[UdpFlow, ...]
    problems: tuple[Problem, ...] = ()


def remove_stale_flows(desired: UdpServices, family: IpFamily) -> Removal:
    """Delete the UDP flows whose endpoint serves no longer; what fails is a warning, and changes no rules."""
    if not (desired.frontends or desired.node_ports):
        return Removal(())
    removed: list[UdpFlow] = []
    try:
        flows = read_udp_flows(family)
    except OSError as error:
        return Removal((), (_warning("cannot read the conntrack table", error),))
    try:
        for flow in delete_flows(stale_flows(flows, desired), family):
            removed.append(flow)
    except OSError as error:
        return Removal(tuple(removed), (_warning("cannot delete stale conntrack entries", error),))
    return Removal(tuple(removed))


def stale_flows(flows: Iterable[UdpFlow], desired: UdpServices) -> Iterator[UdpFlow]:
    """Yield the flows to a Service whose endpoint is none that serves it.

    A flow is to the Service whose frontend it was sent to. Failing that, it is to the one whose node port it
    was sent to, at whatever address: so kube-proxy has it.
    """
    frontends = {frontend: frozenset(endpoints) for frontend, endpoints in desired.frontends.items()}
    node_ports = {port: frozenset(endpoints) for port, endpoints in desired.node_ports.items()}
    for flow in flows:
        endpoints = frontends.get(flow.destination)
        if endpoints is None:
            endpoints = node_ports.get(flow.destination_port)
        if endpoints is not None and flow.endpoint not in endpoints:
            yield flow


def read_udp_flows(family: IpFamily) -> list[UdpFlow]:
    """Return the UDP flows of ``family``.

    Entries come and go meanwhile. When the kernel says that it has passed some over, the table is read anew,
    up to ATTEMPTS times; the last reading counts in any case.

    Raises:
        OSError: the table cannot be read.
    """
    for _ in range(ATTEMPTS):
        flows: list[UdpFlow] = []
        with _netlink() as netlink:
            _send(netlink, _CT_GET, _NLM_F_DUMP, family, _udp_filter())
            try:
                for flow in _flows(_answers(netlink), family):
                    flows.append(flow)
            except InterruptedError:
                continue
        break
    return flows


def delete_flows(flows: Iterable[UdpFlow], family: IpFamily) -> Iterator[UdpFlow]:
    """Delete flows one by one, and yield those that were still there.

    Raises:
        OSError: one cannot be deleted.
    """
    with _netlink() as netlink:
        for flow in flows:
            _send(netlink, _CT_DELETE, _NLM_F_ACK, family, flow.entry)
            try:
                for _ in _answers(netlink):
                    pass
            except FileNotFoundError:
                continue
            yield flow


def _flows(messages: Iterable[bytes], family: IpFamily) -> Iterator[UdpFlow]:
    source_kind, destination_kind = _ADDRESS_ATTRIBUTES[family]
    for message in messages:
        attributes = _attributes(message)
        original, reply = attributes[_CTA_TUPLE_ORIG], attributes[_CTA_TUPLE_REPLY]
        addresses, ports = _tuple(original)
        if ports[_CTA_PROTO_NUM] != _UDP:  # Linux before 5.8 does not know the filter.
            continue
        reply_addresses, reply_ports = _tuple(reply)
        yield UdpFlow(
            _address_and_port(addresses[source_kind], ports[_CTA_PROTO_SRC_PORT]),
            _address_and_port(addresses[destination_kind], ports[_CTA_PROTO_DST_PORT]),
            _PORT.unpack(ports[_CTA_PROTO_DST_PORT])[0],
            _address_and_port(reply_addresses[source_kind], reply_ports[_CTA_PROTO_SRC_PORT]),
            _entry(attributes),
        )


def _entry(attributes: dict[int, bytes]) -> bytes:
    """Return what names one entry, and no other that took its place meanwhile.

    That is the tuple of its replies, in which the endpoint is, with its zone, and its id, which is a hash of
    the original tuple and the kernel's address of the entry (``nf_ct_get_id``). The original tuple alone
    would also name the client's next flow, to an endpoint that serves; so, sometimes, would the id.
    """
    named = _attribute(_CTA_TUPLE_REPLY | _NLA_F_NESTED, attributes[_CTA_TUPLE_REPLY])
    for kind in (_CTA_ZONE, _CTA_ID):
        if kind in attributes:
            named += _attribute(kind, attributes[kind])
    return named


def _tuple(value: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Return the attributes of a tuple's addresses, and those of its protocol and ports."""
    parts = _attributes(value)
    return _attributes(parts[_CTA_TUPLE_IP]), _attributes(parts[_CTA_TUPLE_PROTO])


@functools.lru_cache(maxsize=1 << 16)
def _address_and_port(address: bytes, port: bytes) -> str:
    return join_host_port(_address(address), _PORT.unpack(port)[0])


@functools.lru_cache(maxsize=1 << 16)
def _address(value: bytes) -> Address:
    family = socket.AF_INET if len(value) == 4 else socket.AF_INET6
    return parse_address(socket.inet_ntop(family, value))


def _udp_filter() -> bytes:
    """Return the attributes that keep a dump to UDP, see ``ctnetlink_alloc_filter`` (Linux 5.8)."""
    protocol = _attribute(_CTA_TUPLE_PROTO | _NLA_F_NESTED, _attribute(_CTA_PROTO_NUM, _UDP))
    flags = _attribute(_CTA_FILTER_ORIG_FLAGS, _FLAGS.pack(_FILTER_PROTO_NUM))
    tuple_part = _attribute(_CTA_TUPLE_ORIG | _NLA_F_NESTED, protocol)
    return tuple_part + _attribute(_CTA_FILTER | _NLA_F_NESTED, flags)


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)


def _send(netlink: socket.socket, kind: int, flags: int, family: IpFamily, attributes: bytes) -> None:
    """Send a request: netlink's header, nfnetlink's (family, version 0, resource 0), attributes."""
    length = _HEADER.size + _NFGEN.size + len(attributes)
    header = _HEADER.pack(length, kind, _NLM_F_REQUEST | flags, 0, 0)
    netlink.send(header + _NFGEN.pack(_AF[family], 0, 0) + attributes)


def _answers(netlink: socket.socket) -> Iterator[bytes]:
    """Yield the attributes of each answer, up to the end of the dump or the acknowledgement.

    Raises:
        InterruptedError: entries were passed over (NLM_F_DUMP_INTR, EINTR); all others were yielded.
        OSError: the kernel refused; FileNotFoundError if there is no such entry.
    """
    interrupted = False
    while True:
        data = netlink.recv(_RECEIVE_BYTES)
        offset = 0
        while offset < len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            offset += length + 3 & ~3
            interrupted |= bool(flags & _NLM_F_DUMP_INTR)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                _end(body, interrupted=interrupted)
                return
            yield body[_NFGEN.size :]


def _end(body: bytes, *, interrupted: bool) -> None:
    """Raise what the last message of an answer says; both kinds begin with a negative errno, or 0."""
    code = -_ERRNO.unpack_from(body)[0] or (errno.EINTR if interrupted else 0)
    if code:
        raise OSError(code, os.strerror(code))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by type; each begins at a multiple of four bytes."""
    found = {}
    offset = 0
    while offset < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return found


def _warning(message: str, error: OSError) -> Problem:
    hint = "remove stale entries with conntrack -D, or wait until they expire"
    return Problem(Code.CONNTRACK_FAILED, f"{message}: {error.strerror}", Severity.WARNING, hint=hint)
