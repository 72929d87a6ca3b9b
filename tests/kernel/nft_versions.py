"""How the nft that is installed lists what nft 1.0.6 lists otherwise (``docs/nftables-layout.md``).

The versions between 1.0.6 and 1.1.3 were not seen; they are taken to list as the latter.
"""

from __future__ import annotations

import re

from kproxy_nat.apply.tools import require_tool

REFERENCE = (1, 0, 6)

_PRIORITY = re.compile(r"(type \w+ hook (output|input) priority )(-?\d+);")
_NAMED = {"output": ("dstnat", -100), "input": ("srcnat", 100)}
_ELEMENTS = re.compile(r"(?ms)^\t(map|set) [^\n]*\n(?:\t\t[^\n]*\n)*?\t\telements = .*?^\t\}$")
_PROPERTY = re.compile(r" (comment|timeout|expires) ")
_QUOTED = re.compile(r'"[^"]*"')
_NEXT_ELEMENT = re.compile(r', (?=(?:[^"]*"[^"]*")*[^"]*$)')
_NEW_LINE = ",\n\t\t\t     "
_JSON_TELLS_NO_COMMENT = re.compile(r'(?m)^(\ttable .*|\tchain .*|table .*)\n\t+comment ".*"\n')


def is_later() -> bool:
    """Whether the nft that is installed is later than the one whose listings ours are."""
    return require_tool("nft").version > REFERENCE


def as_listed(listing: str) -> str:
    """Return a listing of nft 1.0.6 as the nft that is installed prints the same tables."""
    return as_listed_later(listing) if is_later() else listing


def as_listed_later(listing: str) -> str:
    """Return a listing of nft 1.0.6 as nft 1.1.3 prints it.

    It names priorities for NAT at all hooks that have it, and has elements in lines of their own if they are
    of a map, or one of them has a comment or a timeout.
    """
    named = _PRIORITY.sub(lambda found: f"{found[1]}{_named(found[2], int(found[3]))};", listing)
    return _ELEMENTS.sub(_elements_later, named)


def _elements_later(found: re.Match[str]) -> str:
    _, _, elements = found[0].partition("\t\telements = ")
    if found[1] == "map" or _PROPERTY.search(_QUOTED.sub("", elements)):
        return _NEXT_ELEMENT.sub(_NEW_LINE, found[0])
    return found[0]


def _named(hook: str, priority: int) -> str:
    name, number = _NAMED[hook]
    distance = priority - number
    if abs(distance) > 10:
        return str(priority)
    return f"{name} {'-' if distance < 0 else '+'} {abs(distance)}" if distance else name


def known_to_json(listing: str) -> str:
    """Leave out what nft 1.0.6 leaves out of its JSON: the comments of tables and chains."""
    return listing if is_later() else _JSON_TELLS_NO_COMMENT.sub(r"\1\n", listing)


def without_braces_of_one(listing: str) -> str:
    """Write sets of one value as nft does when it reads its listing again.

    One address is left after nft merged networks; one protocol is listed as it was written.
    """
    pattern = r"([sd]addr|meta l4proto) (!= )?\{ ([^ ,]+) \}"
    return re.sub(pattern, lambda found: f"{found[1]} {found[2] or ''}{found[3]}", listing)
