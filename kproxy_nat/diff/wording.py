"""Conditions of rules in words."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SOURCE = re.compile(r"(! )?-([si]) (\S+)")
_HOST = re.compile(r"-d (\S+)/(?:32|128)")
_BUT = re.compile(r"! -d (\S+)")
_EVERY = "--dst-type LOCAL"


def condition_words(condition: str) -> str:
    """Return where traffic that meets a condition comes from."""
    found = _SOURCE.fullmatch(condition)
    if found is None:
        return f"with {condition}"
    what = f"interface {found[3]}" if found[2] == "i" else found[3]
    return f"from outside of {what}" if found[1] else f"from {what}"


def addresses_words(conditions: Iterable[str]) -> str:
    """Return which of a node's addresses meet one of the conditions."""
    words = []
    for condition in conditions:
        host, but = _HOST.fullmatch(condition), _BUT.search(condition)
        if host:
            words.append(host[1])
        elif _EVERY in condition:
            words.append(f"every local address but {but[1]}" if but else "every local address")
        else:
            words.append(f"what meets {condition}")
    return " and ".join(words) or "no address"


def rest_words(rest: str) -> str:
    """Return what there is to say of a rule that a service port should not have, or of one that it lacks."""
    return f"a rule that is none of a Service: {rest}" if rest.startswith(("-A ", "add ")) else rest
