"""Sets and maps of an nftables table, and their elements."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kproxy_nat.ruleset.actions import Verdict
from kproxy_nat.ruleset.keys import KeyValue

VERDICT = "verdict"
DYNAMIC = "dynamic"
"""The flag of sets that rules add to."""

_FLAGS_AS_LISTED = ("constant", DYNAMIC, "interval", "timeout")


class Element(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An element: a key, and in maps what it leads to. Times are in seconds, 0 for none.

    ``other`` is a JSON object of properties that have no field here.
    """

    key: KeyValue
    value: Verdict | KeyValue | None = None
    comment: str = ""
    timeout: int = 0
    expires: int = 0
    other: str = ""


class NamedSet(msgspec.Struct, omit_defaults=True):
    """A set or map that rules name. It is a map if it has ``value_types``; ``verdict`` is one of these.

    Types are nft's: ``ipv4_addr``, ``inet_proto``. ``elements`` has each by its key. ``other`` is a JSON
    object of properties that have no field here. ``transport`` is the protocol of the ports in a set that is
    declared by expressions, as those with generated numbers are: nft 1.0.6 refuses rules for tcp upon a map
    that is there and was declared with ``th dport``.
    """

    name: str
    key_types: tuple[str, ...]
    value_types: tuple[str, ...] = ()
    comment: str = ""
    flags: tuple[str, ...] = ()
    timeout: int = 0
    size: int = 0
    elements: dict[KeyValue, Element] = {}
    other: str = ""
    transport: str = ""


def ordered_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Return flags in the order in which nft lists them, what is not known here last."""
    known = set(flags)
    return (*(f for f in _FLAGS_AS_LISTED if f in known), *sorted(known - set(_FLAGS_AS_LISTED)))
