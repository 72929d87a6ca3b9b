"""What a reviewer is told of a changed Service: facts, each a sentence of its own."""

from __future__ import annotations

import enum

import msgspec

from kproxy_nat.diff.flows import FlowChange
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.model import PortKey


class Topic(enum.StrEnum):
    """What a fact is about; filters choose by it."""

    NAME = "name"
    ADDRESSES = "addresses"
    ENDPOINTS = "endpoints"
    POLICY = "policy"
    AFFINITY = "affinity"
    SOURCES = "sources"
    MASQUERADE = "masquerade"
    RULES = "rules"


class Sign(enum.StrEnum):
    """Whether something comes, goes, or changes."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


class Fact(msgspec.Struct, frozen=True):
    """One difference of a Service, in words.

    Attributes:
        field: the field of the Service's manifest that says so, dots between the names; may be empty.
        endpoint: the endpoint that it is about, as ``address:port``; may be empty.
        place: where the manifests say so, ``file:line``, if they are known.
    """

    sign: Sign
    topic: Topic
    text: str
    field: str = ""
    endpoint: str = ""
    place: str = ""


class Change(enum.StrEnum):
    """What happened to a service port."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"


class ServiceChange(msgspec.Struct, frozen=True):
    """A service port that differs in one family.

    Attributes:
        old_key: its key before, if it is the same address and port under another name.
        addresses: where clients reach it, for headings.
        place: where the manifests define it, ``file:line``, if they are known.
    """

    key: PortKey
    family: IpFamily
    change: Change
    facts: tuple[Fact, ...]
    flows: tuple[FlowChange, ...]
    addresses: tuple[str, ...] = ()
    old_key: PortKey | None = None
    place: str = ""
