"""Actions: what a rule does with a packet that it matches."""

from __future__ import annotations

import msgspec

from kproxy_nat.net.addresses import Address
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


AnyAction = Jump | Goto | Return | Accept | Drop | Reject | Dnat | Masquerade | SetMark | OpaqueAction
