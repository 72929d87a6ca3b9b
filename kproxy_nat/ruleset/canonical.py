"""The canonical form of a rule: what the kernel keeps of it, in the order in which it is listed back."""

from __future__ import annotations

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.matches import (
    AnyMatch,
    Destination,
    InInterface,
    OpaqueHeader,
    OutInterface,
    Protocol,
    Source,
)
from kproxy_nat.ruleset.rules import Rule

_HEADER_RANK: dict[type[AnyMatch], int] = {
    Source: 0,
    Destination: 1,
    InInterface: 2,
    OutInterface: 3,
    Protocol: 4,
}
FRAGMENT_RANK = 5
_NO_CONDITION = frozenset(("0.0.0.0/0", "::/0"))


def canonical_rule(rule: Rule) -> Rule:
    """Return ``rule`` with header matches first, in the listed order, and addresses with prefix lengths."""
    return Rule(canonical_matches(rule.matches), rule.actions, rule.origin, rule.counters)


def canonical_matches(matches: tuple[AnyMatch, ...]) -> tuple[AnyMatch, ...]:
    """Return the matches in the order and form in which the kernel lists them."""
    header: list[tuple[int, AnyMatch]] = []
    modules: list[AnyMatch] = []
    for match in matches:
        rank = _HEADER_RANK.get(type(match))
        if rank is not None:
            kept = _canonical_header(match)
            if kept is not None:
                header.append((rank, kept))
        elif isinstance(match, OpaqueHeader):
            header.append((match.rank, match))
        else:
            modules.append(match)
    header.sort(key=lambda ranked: ranked[0])
    return (*(match for _, match in header), *modules)


def _canonical_header(match: AnyMatch) -> AnyMatch | None:
    """Return a header match as listed; ``None`` where it is no condition at all."""
    if isinstance(match, Source | Destination):
        if "/" not in match.network:
            bits = IpFamily.IPV6.bits if ":" in match.network else IpFamily.IPV4.bits
            return type(match)(f"{match.network}/{bits}", match.negated)  # type: ignore[arg-type]
        return None if match.network in _NO_CONDITION and not match.negated else match
    if isinstance(match, InInterface | OutInterface):
        return None if match.name == "+" and not match.negated else match
    return match
