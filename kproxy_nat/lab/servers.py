"""Servers on the hosts of a lab: each answers with its name and with the peer that it saw, and is counted."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ, DefaultSelector

from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.lab import sctp
from kproxy_nat.lab.building import Lab
from kproxy_nat.lab.messages import MAX_BYTES, Answer, Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.net.addresses import Address, IpFamily, family_of, join_host_port, parse_address

SOCKET_FAMILIES = {IpFamily.IPV4: socket.AF_INET, IpFamily.IPV6: socket.AF_INET6}

AnswerTo = Callable[[str, str, int], bytes]
"""Makes (and counts) the answer of a host of that name to a peer of that address and port."""

_BACKLOG = 1024
"""Clients of a lab come by hundreds at once."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a host serves, on all of its addresses."""

    host: Host
    transport: Transport
    port: int


class Servers:
    """Servers that run. One thread serves all: a socket stays in the namespace in which it was opened."""

    def __init__(self) -> None:
        self._answered: Counter[str] = Counter()
        self._selector = DefaultSelector()

    def answered(self) -> Counter[str]:
        """Return how many answers each host has given so far."""
        return self._answered.copy()

    def _add(self, opened: socket.socket, listener: Listener) -> None:
        self._answered[listener.host.name] += 0
        serve = _SERVE[socket_kind(listener.transport)[0]]
        self._selector.register(opened, EVENT_READ, partial(serve, opened, listener, self._answer))

    def _answer(self, name: str, peer: str, port: int) -> bytes:
        self._answered[name] += 1
        return Answer(name, parse_address(peer), port).encode()

    def _run(self, stop: int) -> None:
        """Serve until the descriptor ``stop`` is readable."""
        self._selector.register(stop, EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == stop:
                    return
                with suppress(OSError):  # a client that is gone gets no answer, which is no concern of ours
                    key.data()


@contextmanager
def serve(lab: Lab, listeners: Iterable[Listener]) -> Iterator[Servers]:
    """Let hosts of a lab serve while the context lasts; on return from here they do.

    Raises:
        ApplyError: a port cannot be had.
    """
    servers = Servers()
    with servers._selector, ExitStack() as stack:
        for listener in listeners:
            for address in listener.host.addresses:
                opened = lab.of(listener.host).run(_open, listener, address)
                servers._add(stack.enter_context(opened), listener)
        stop = os.eventfd(0)
        stack.callback(os.close, stop)
        thread = threading.Thread(target=servers._run, args=(stop,), name="lab-servers", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.eventfd_write, stop, 1)
        yield servers


def _open(listener: Listener, address: Address) -> socket.socket:
    """Open the socket of a listener; this runs inside of the namespace."""
    kind, protocol = socket_kind(listener.transport)
    opened = socket.socket(SOCKET_FAMILIES[family_of(address)], kind, protocol)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, 0 if kind is socket.SOCK_RAW else listener.port))
        if kind is socket.SOCK_STREAM:
            opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        place = f"{listener.transport} {join_host_port(address, listener.port)}"
        message = f"{listener.host.name} cannot serve {place}: {error.strerror}"
        raise ApplyError(Problem(Code.NOT_PERMITTED, message)) from None
    return opened


def _serve_stream(listening: socket.socket, listener: Listener, answer: AnswerTo) -> None:
    connection, peer = listening.accept()
    with connection:
        connection.sendall(answer(listener.host.name, *peer[:2]))


def _serve_datagram(opened: socket.socket, listener: Listener, answer: AnswerTo) -> None:
    _, peer = opened.recvfrom(MAX_BYTES)
    opened.sendto(answer(listener.host.name, *peer[:2]), peer)


def _serve_raw_sctp(opened: socket.socket, listener: Listener, answer: AnswerTo) -> None:
    """Answer an INIT. The socket sees all of the host's SCTP, so other ports are passed over."""
    data, peer = opened.recvfrom(MAX_BYTES)
    asked = sctp.decode(data, IpFamily.IPV4 if opened.family is socket.AF_INET else IpFamily.IPV6)
    if asked and not asked.cookie and asked.port == listener.port:
        cookie = answer(listener.host.name, peer[0], asked.source_port)
        reply = sctp.Packet(asked.port, asked.source_port, asked.initiate_tag, sctp.new_tag(), cookie)
        opened.sendto(sctp.encode(reply), peer)


_SERVE: Mapping[socket.SocketKind, Callable[[socket.socket, Listener, AnswerTo], None]] = {
    socket.SOCK_STREAM: _serve_stream,
    socket.SOCK_DGRAM: _serve_datagram,
    socket.SOCK_RAW: _serve_raw_sctp,
}


def socket_kind(transport: Transport) -> tuple[socket.SocketKind, int]:
    """Return the type and the protocol of sockets for a transport: raw for SCTP, if the kernel has none."""
    if transport is Transport.UDP:
        return socket.SOCK_DGRAM, 0
    if transport is Transport.TCP:
        return socket.SOCK_STREAM, 0
    kind = socket.SOCK_STREAM if sctp.kernel_has_sctp() else socket.SOCK_RAW
    return kind, socket.IPPROTO_SCTP
