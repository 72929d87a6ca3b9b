"""The canonical form of a rule: what the kernel keeps of it, in the order in which it is listed back."""

from __future__ import annotations

from kproxy_nat.net.addresses import Address, Cidr, listed_by_kernel_tools
from kproxy_nat.ruleset.actions import AnyAction, Dnat
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
    actions = tuple(map(_canonical_action, rule.actions))
    return Rule(canonical_matches(rule.matches), actions, rule.origin, rule.counters)


def _canonical_action(action: AnyAction) -> AnyAction:
    if isinstance(action, Dnat) and action.address.startswith("::"):
        return Dnat(Address(listed_by_kernel_tools(action.address)), action.port)
    return action


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
    if len(header) > 1:
        header.sort(key=lambda ranked: ranked[0])
    return (*(match for _, match in header), *modules)


def _canonical_header(match: AnyMatch) -> AnyMatch | None:
    """Return a header match as listed; ``None`` where it is no condition at all."""
    if isinstance(match, Source | Destination):
        return _canonical_network(match)
    if isinstance(match, InInterface | OutInterface):
        return None if match.name == "+" and not match.negated else match
    return match


def _canonical_network(match: Source | Destination) -> Source | Destination | None:
    text: str = match.network
    if text in _NO_CONDITION and not match.negated:
        return None
    if text.startswith("::"):
        text = listed_by_kernel_tools(text)
    if "/" not in text:
        text = f"{text}/128" if ":" in text else f"{text}/32"
    return match if text is match.network else type(match)(Cidr(text), match.negated)
