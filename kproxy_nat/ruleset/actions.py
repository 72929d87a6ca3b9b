"""Actions: what a rule does with a packet that it matches."""

from __future__ import annotations

import msgspec

from kproxy_nat.net.addresses import Address
from kproxy_nat.ruleset.keys import Key, KeyValue
from kproxy_nat.ruleset.matches import wire_name


class Action(msgspec.Struct, frozen=True, gc=False, tag_field="action", tag=wire_name, omit_defaults=True):
    """The base of all actions. In JSON, ``action`` names the type."""


class Jump(Action, frozen=True, gc=False):
    """``-j CHAIN``: go on there, and return here at its end."""

    chain: str


class Goto(Action, frozen=True, gc=False):
    """``-g CHAIN``: go on there, and at its end return to where this chain was called from."""

    chain: str


class Return(Action, frozen=True, gc=False):
    """Leave this chain."""


class Accept(Action, frozen=True, gc=False):
    """Let the packet pass this hook."""


class Drop(Action, frozen=True, gc=False):
    """Discard the packet."""


class Reject(Action, frozen=True, gc=False):
    """Discard the packet and tell the sender; an empty ``reply`` is the default, port unreachable."""

    reply: str = ""


class Dnat(Action, frozen=True, gc=False):
    """Send the flow to another address and port."""

    address: Address
    port: int


class Masquerade(Action, frozen=True, gc=False):
    """Let the flow appear to come from this node."""

    random_fully: bool = False


class SetMark(Action, frozen=True, gc=False):
    """Set the packet's mark to ``(mark & ~mask) ^ value``, as ``--set-xmark`` does."""

    value: int
    mask: int


class OpaqueAction(Action, frozen=True, gc=False):
    """A target of another kind, kept word for word: ``-j`` and all. What it does is unknown."""

    text: str


Verdict = Accept | Drop | Return | Jump | Goto
"""What decides over a packet's way and can be the value of a map."""


class VerdictEntry(msgspec.Struct, frozen=True, gc=False):
    """An element of an anonymous verdict map."""

    key: KeyValue
    verdict: Verdict


class VerdictMap(Action, frozen=True, gc=False):
    """``KEY vmap @name`` or ``KEY vmap { ... }``: the verdict for the key, if the map has one."""

    key: Key
    map: str | tuple[VerdictEntry, ...]


class DestinationEntry(msgspec.Struct, frozen=True, gc=False):
    """An element of an anonymous map of destinations."""

    key: KeyValue
    address: Address
    port: int


class DnatMap(Action, frozen=True, gc=False):
    """``dnat ip addr . port to KEY map ...``: to the destination that the map has for the key, if any.

    With a ``port``, as in ``dnat to KEY map @name:80``, the map has addresses only, and a name.
    """

    key: Key
    map: str | tuple[DestinationEntry, ...]
    port: int = 0


class UpdateSet(Action, frozen=True, gc=False):
    """``update @name { KEY }``: note the key in a set, or begin its timeout anew; the rule goes on."""

    name: str
    key: Key


IptablesAction = Jump | Goto | Return | Accept | Drop | Reject | Dnat | Masquerade | SetMark | OpaqueAction
NftAction = VerdictMap | DnatMap | UpdateSet
AnyAction = IptablesAction | NftAction
