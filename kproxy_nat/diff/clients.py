"""Who can reach a service port: addresses, by where clients are, and within which source ranges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from kproxy_nat.diff.flows import ANY, EXTERNAL, NODE, PODS, flows_of, is_served
from kproxy_nat.recover.model import RecoveredPort

_EVERYWHERE = ""
_WITHIN = " in "
_KINDS = (PODS, NODE, EXTERNAL)

Clients = dict[tuple[str, str], list[str]]
"""Source ranges (one empty text for everywhere), by where to, and by what clients are."""


def lost_clients(before: RecoveredPort | None, after: RecoveredPort | None) -> Iterator[str]:
    """Yield what is served before and not after: ``10.96.0.20:80/TCP``, with who can reach it no longer."""
    old = _clients(before) if before else {}
    new = _clients(after) if after else {}
    lost: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for (to, kind), ranges in old.items():
        gone = list(_uncovered(ranges, new.get((to, kind), [])))
        if gone:
            lost[to][kind] = gone
    for to, kinds in sorted(lost.items()):
        yield from sorted(_sentences(to, kinds))


def _clients(port: RecoveredPort) -> Clients:
    found: Clients = defaultdict(list)
    for (to, source), outcome in flows_of(port).items():
        kind, _, ranges = source.partition(_WITHIN)
        if is_served(outcome):
            for each in _KINDS if kind == ANY else (kind,):
                found[to, each] += ranges.split(", ")
    return found


def _uncovered(ranges: list[str], others: list[str]) -> Iterator[str]:
    """Yield the ranges that others do not cover, with the part that they do."""
    if _EVERYWHERE in others:
        return
    for text in ranges:
        if text == _EVERYWHERE:
            yield f"everywhere but {', '.join(others)}" if others else _EVERYWHERE
        elif not any(_contains(other, text) for other in others):
            inside = [other for other in others if _contains(text, other)]
            yield f"{text} but {', '.join(inside)}" if inside else text


def _contains(outer: str, inner: str) -> bool:
    one, two = ip_network(outer), ip_network(inner)
    if isinstance(one, IPv4Network) and isinstance(two, IPv4Network):
        return two.subnet_of(one)
    return isinstance(one, IPv6Network) and isinstance(two, IPv6Network) and two.subnet_of(one)


def _sentences(to: str, kinds: dict[str, list[str]]) -> Iterator[str]:
    same = len({tuple(ranges) for ranges in kinds.values()}) == 1
    if same and len(kinds) == len(_KINDS):
        kinds = {"": next(iter(kinds.values()))}
    for kind, ranges in kinds.items():
        for text in ranges:
            words = [word for word in (kind, text) if word]
            yield f"{to} from {' in '.join(words)}" if words else to
