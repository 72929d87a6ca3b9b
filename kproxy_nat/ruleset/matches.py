"""Matches: the conditions of a rule.

A rule's matches stand in the order in which they were written. iptables itself has two kinds: those of the
packet header (:data:`HeaderMatch`), which the kernel keeps apart and always lists first, and modules
(``-m``), whose order is kept. nftables shares those that mean the same, and adds :data:`NftMatch`.
"""

from __future__ import annotations

import re

import msgspec

from kproxy_nat.net.addresses import Address, Cidr
from kproxy_nat.ruleset.keys import Key, KeyValue

FULL_MARK = 0xFFFFFFFF

_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def wire_name(class_name: str) -> str:
    """Return the name of a type in JSON: ``InInterface`` is ``in-interface``."""
    return _INNER_CAPITAL.sub("-", class_name).lower()


class Match(msgspec.Struct, frozen=True, gc=False, tag_field="match", tag=wire_name, omit_defaults=True):
    """The base of all matches. In JSON, ``match`` names the type."""


class Source(Match, frozen=True, gc=False):
    """``-s``: the source address. A bare address and its /32 or /128 are the same, but for their writing."""

    network: Address | Cidr
    negated: bool = False


class Destination(Match, frozen=True, gc=False):
    """``-d``: the destination address."""

    network: Address | Cidr
    negated: bool = False


class InInterface(Match, frozen=True, gc=False):
    """``-i``: the interface that a packet entered by; a trailing ``+`` stands for any ending."""

    name: str
    negated: bool = False


class OutInterface(Match, frozen=True, gc=False):
    """``-o``: the interface that a packet leaves by."""

    name: str
    negated: bool = False


class Protocol(Match, frozen=True, gc=False):
    """``-p``: the transport protocol, by name where iptables prints a name, else by number."""

    name: str
    negated: bool = False


class OpaqueHeader(Match, frozen=True, gc=False):
    """A header condition outside of the above, word for word; ``rank`` is its place among header matches."""

    text: str
    rank: int


class Comment(Match, frozen=True, gc=False):
    """``-m comment``: always true."""

    text: str


class Ports(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A range of ports, both ends included."""

    first: int
    last: int
    negated: bool = False


class Transport(Match, frozen=True, gc=False):
    """``-m tcp``, ``-m udp``, ``-m sctp``, ...: ports. Without ports it adds nothing to ``-p``."""

    protocol: str
    source: Ports | None = None
    destination: Ports | None = None


class Multiport(Match, frozen=True, gc=False):
    """``-m multiport``: a port among these ranges, which are not negated each.

    ``side`` is dports, sports, or ports for either. The protocol is that of ``-p``, which comes before.
    """

    ranges: tuple[Ports, ...]
    side: str = "dports"
    negated: bool = False


class CtState(Match, frozen=True, gc=False):
    """``-m conntrack --ctstate`` (or, with that module, ``-m state --state``)."""

    states: tuple[str, ...]
    negated: bool = False
    module: str = "conntrack"


class Mark(Match, frozen=True, gc=False):
    """``-m mark``: the packet's mark, under a mask."""

    value: int
    mask: int = FULL_MARK
    negated: bool = False


class AddrType(Match, frozen=True, gc=False):
    """``-m addrtype``: the kind of the source (``src``) or destination (``dst``) address."""

    side: str
    types: tuple[str, ...]
    negated: bool = False


class Random(Match, frozen=True, gc=False):
    """``-m statistic --mode random``: true with probability ``threshold / 2**31``, as the kernel has it."""

    threshold: int
    negated: bool = False


class Recent(Match, frozen=True, gc=False):
    """``-m recent``: a list of addresses seen. ``operation`` is set, rcheck, update or remove."""

    name: str
    operation: str
    seconds: int = 0
    reap: bool = False
    hit_count: int = 0
    mask: str = ""
    side: str = "rsource"
    negated: bool = False


class Nfacct(Match, frozen=True, gc=False):
    """``-m nfacct``: always true; counts into a named accounting object."""

    name: str


class Bpf(Match, frozen=True, gc=False):
    """``-m bpf --bytecode``: true where a classic BPF program returns more than 0 for the packet.

    ``program`` is written as iptables does: the number of instructions, then each as code, jumps and operand.
    """

    program: str


class Opaque(Match, frozen=True, gc=False):
    """A module of another kind, kept word for word: ``-m`` and all. Whether it matches is unknown."""

    text: str


class CtStatus(Match, frozen=True, gc=False):
    """``ct status``: what connection tracking has done to the flow, in nft's words (``dnat``, ``snat``)."""

    statuses: tuple[str, ...]
    negated: bool = False


class Lookup(Match, frozen=True, gc=False):
    """``ip saddr . ip daddr @name``: whether a set of the table holds the key."""

    key: Key
    name: str
    negated: bool = False


class OneOf(Match, frozen=True, gc=False):
    """``ip saddr { 10.0.0.0/8, 192.0.2.1 }``: whether the key is among these values, an anonymous set."""

    key: Key
    values: tuple[KeyValue, ...]
    negated: bool = False


class Counter(Match, frozen=True, gc=False):
    """``counter``: always true; counts packets and bytes."""

    packets: int = 0
    bytes: int = 0


class OpaqueStatement(Match, frozen=True, gc=False):
    """A statement of nft of another kind, kept as its JSON. Whether the rule goes on after it is unknown."""

    json: str


HeaderMatch = Source | Destination | InInterface | OutInterface | Protocol | OpaqueHeader
ModuleMatch = (
    Comment | Transport | Multiport | CtState | Mark | AddrType | Random | Recent | Nfacct | Bpf | Opaque
)
IptablesMatch = HeaderMatch | ModuleMatch
NftMatch = CtStatus | Lookup | OneOf | Counter | OpaqueStatement
AnyMatch = IptablesMatch | NftMatch


def destination_ports(match: AnyMatch) -> Ports | None:
    """Return the one range of destination ports that a match asks for; ``None`` if it asks for no such."""
    if isinstance(match, Transport):
        return match.destination
    if isinstance(match, Multiport) and match.side == "dports" and len(match.ranges) == 1:
        (ports,) = match.ranges
        return Ports(ports.first, ports.last, match.negated)
    return None
