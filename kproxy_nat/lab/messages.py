"""What servers of a lab answer: who they are, and whom they saw."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kproxy_nat.net.addresses import Address, parse_address

MAX_BYTES = 1024
"""No message is longer; each fits into one segment."""


class Transport(enum.StrEnum):
    """A transport protocol, named as in a Service's ``protocol``."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes:
        server: the name of the host that answered.
        peer: the client's address as the server saw it; after masquerading that of a node.
        peer_port: the client's port as the server saw it.
    """

    server: str
    peer: Address
    peer_port: int

    def encode(self) -> bytes:
        """Return the message: a line for people with nc, too."""
        return f"{self.server} {self.peer} {self.peer_port}\n".encode()


def decode(message: bytes) -> Answer:
    """Return the answer in a message.

    Raises:
        ValueError: it is none.
    """
    server, peer, port = message.decode().split()
    return Answer(server, parse_address(peer), int(port))
