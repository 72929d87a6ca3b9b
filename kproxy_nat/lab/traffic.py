"""Clients of a lab: they ask a server and tell apart what can come of it.

These functions run inside of a namespace: ``lab.of(host).run(ask, target)``.
"""

from __future__ import annotations

import enum
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ, DefaultSelector

from kproxy_nat.lab import sctp
from kproxy_nat.lab.messages import MAX_BYTES, Answer, Transport, decode
from kproxy_nat.lab.servers import SOCKET_FAMILIES, socket_kind
from kproxy_nat.net.addresses import Address, IpFamily, family_of

DEFAULT_TIMEOUT = 5.0
"""Seconds. What is lost in a lab stays lost; more than this is waited for nothing."""

AT_ONCE = 64
"""So many connections are under way at a time, well below any backlog."""

_QUESTION = b"?\n"
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR, which are missing in ``socket`` (linux/in.h, linux/in6.h)."""
_SCTP_RTOINFO = 0
"""From linux/sctp.h."""
_SECOND_TRY = struct.pack("iIII", 0, 500, 0, 500)
"""Struct sctp_rtoinfo: of all associations, the first time-out and the shortest are half a second."""
_sctp_ports = itertools.cycle(range(49152, 65536))
"""Source ports: raw sockets have none of their own; the kernel draws those of SCTP, some of them twice."""


class Outcome(enum.StrEnum):
    """What came of asking."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """By a host that does not serve the port or the protocol, or by an ICMP message "port unreachable".

    Such a message for TCP counts a second later, with the second SYN: between virtual interfaces it arrives
    while the client still sends the first, and Linux does not end a connection that is in use just then. So
    it is with SCTP, half a second later.
    """
    TIMED_OUT = "timed out"
    RESET = "reset"
    """The connection came about, and was broken off before an answer."""
    UNREACHABLE = "unreachable"
    """No route, or an ICMP message "host unreachable" or the like."""
    NOT_PERMITTED = "not permitted"
    """The client's own host does not let the datagram out."""


_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.RESET,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.ENOPROTOOPT: Outcome.REFUSED,
    errno.EPROTO: Outcome.REFUSED,
    errno.ETIMEDOUT: Outcome.TIMED_OUT,
    errno.EPERM: Outcome.NOT_PERMITTED,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What clients ask: in most cases an address of a Service.

    Attributes:
        source: which of its own addresses the client has to use; the kernel chooses if there is none.
    """

    transport: Transport
    address: Address
    port: int
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question; the answer, if there is one."""

    outcome: Outcome
    answer: Answer | None = None


Parse = Callable[[bytes], Answer | None]
"""Reads an answer from what was received; ``None``: that was for somebody else."""


def ask(target: Target, timeout: float = DEFAULT_TIMEOUT) -> Reply:
    """Ask once, and wait so many seconds for an answer."""
    return ask_all([target], timeout)[0]


def ask_many(target: Target, count: int, timeout: float = DEFAULT_TIMEOUT) -> list[Reply]:
    """Ask ``count`` times, each time from another port. See :func:`ask_all`."""
    return ask_all([target] * count, timeout)


def ask_all(targets: Sequence[Target], timeout: float = DEFAULT_TIMEOUT) -> list[Reply]:
    """Ask each target, and return their replies.

    Up to :data:`AT_ONCE` are under way together, in no particular order. All sockets stay open to the end, so
    that no port comes twice; a process may have 1024 by default.

    Raises:
        OSError: a question cannot even be asked, as its source is no address of this host.
    """
    batches = (targets[start : start + AT_ONCE] for start in range(0, len(targets), AT_ONCE))
    with ExitStack() as opened:
        return [reply for batch in batches for reply in _ask_together(batch, opened, timeout)]


def _ask_together(targets: Sequence[Target], opened: ExitStack, timeout: float) -> list[Reply]:
    replies = [Reply(Outcome.TIMED_OUT)] * len(targets)
    deadline = time.monotonic() + timeout
    with DefaultSelector() as selector:
        for number, target in enumerate(targets):
            client = opened.enter_context(_open(target))
            try:
                parse = _START[client.type](client, target)
            except OSError as error:
                replies[number] = Reply(_outcome_of_start(client, error))
            else:
                selector.register(client, EVENT_READ, (number, partial(_receive, client, parse)))
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                number, receive = key.data
                if reply := receive():
                    replies[number] = reply
                    selector.unregister(key.fileobj)
    return replies


def _open(target: Target) -> socket.socket:
    kind, protocol = socket_kind(target.transport)
    client = socket.socket(SOCKET_FAMILIES[family_of(target.address)], kind, protocol)
    client.setblocking(False)
    is_sctp = (kind, protocol) == (socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    try:
        if is_sctp:
            _hear_refusals(client)
        source = target.source or (_source_towards(target) if is_sctp else None)
        if source is not None:
            client.bind((source, next(_sctp_ports) if is_sctp else 0))
    except OSError:
        client.close()
        raise
    return client


def _source_towards(target: Target) -> str:
    """Return the address that the kernel would choose as the source; none if there is no way to the target.

    An SCTP socket that is bound to none offers all addresses of the host, and when something takes long the
    other side sends to another one of them, which no translation of addresses knows of.
    """
    with socket.socket(SOCKET_FAMILIES[family_of(target.address)], socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target.address, target.port))
        except OSError:
            return ""
        name: str = probe.getsockname()[0]
        return name


def _hear_refusals(client: socket.socket) -> None:
    """Let a socket of SCTP fail at an ICMP message; it would go on trying, the second time after 3 s."""
    client.setsockopt(*_RECVERR[client.family], 1)
    client.setsockopt(socket.IPPROTO_SCTP, _SCTP_RTOINFO, _SECOND_TRY)


def _start_stream(client: socket.socket, target: Target) -> Parse:
    code = client.connect_ex((target.address, target.port))
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))
    return decode


def _start_datagram(client: socket.socket, target: Target) -> Parse:
    client.connect((target.address, target.port))
    client.send(_QUESTION)
    return decode


def _start_raw_sctp(client: socket.socket, target: Target) -> Parse:
    client.connect((target.address, 0))
    init = sctp.Packet(next(_sctp_ports), target.port, 0, sctp.new_tag())
    client.send(sctp.encode(init))
    return partial(_parse_raw_sctp, init, family_of(target.address))


def _parse_raw_sctp(init: sctp.Packet, family: IpFamily, data: bytes) -> Answer | None:
    """Return the answer to ``init``. The socket sees what comes for other clients of the host, too."""
    packet = sctp.decode(data, family)
    if packet and packet.cookie and (packet.port, packet.tag) == (init.source_port, init.initiate_tag):
        return decode(packet.cookie)
    return None


_START: Mapping[int, Callable[[socket.socket, Target], Parse]] = {
    socket.SOCK_STREAM: _start_stream,
    socket.SOCK_DGRAM: _start_datagram,
    socket.SOCK_RAW: _start_raw_sctp,
}


def _receive(client: socket.socket, parse: Parse) -> Reply | None:
    """Return what came of the question; ``None`` if nothing did yet. An answer is never split."""
    try:
        data = client.recv(MAX_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        return Reply(_outcome(error))
    if not data:
        return Reply(Outcome.RESET)
    answer = parse(data)
    return Reply(Outcome.ANSWERED, answer) if answer else None


def _outcome_of_start(client: socket.socket, error: OSError) -> Outcome:
    """Return what the error at sending means. A refusal by the host's own rules is pending behind it."""
    pending = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if error.errno == errno.EPERM else 0
    return _OUTCOMES.get(pending) or _outcome(error)


def _outcome(error: OSError) -> Outcome:
    """Return what an error says about the network; others are raised again."""
    outcome = _OUTCOMES.get(error.errno or 0)
    if outcome is None:
        raise error
    return outcome
