"""Priorities of base chains, which nft lists by name where they have one, and reads in either form."""

from __future__ import annotations

from kproxy_nat.ruleset.rules import Hook

NAMED_PRIORITIES = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
"""From nft(8), for the families that have an IP layer."""

_HOOKS = {"dstnat": ("prerouting",), "srcnat": ("postrouting",)}
"""The hooks at which nft knows a named priority; the others are known at all."""

_NAMED_DISTANCE = 10


def priority_text(hook: Hook) -> str:
    """Return a priority as nft lists it: by name, with a distance of up to ten, or as a number."""
    for name, number in NAMED_PRIORITIES.items():
        distance = hook.priority - number
        if abs(distance) <= _NAMED_DISTANCE and hook.name in _HOOKS.get(name, (hook.name,)):
            sign = "-" if distance < 0 else "+"
            return f"{name} {sign} {abs(distance)}" if distance else name
    return str(hook.priority)
