"""Reading the chains that choose an endpoint, and the chains of endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.net.addresses import join_host_port
from kproxy_nat.recover.iptables_layouts import jump_target
from kproxy_nat.recover.model import Shares
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Dnat, SetMark
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Protocol, Random, Recent, Source, Transport
from kproxy_nat.ruleset.probability import SCALE, intended_share
from kproxy_nat.ruleset.rules import Rule


@dataclass(slots=True)
class Balancing:
    """What a chain that chooses an endpoint does.

    Attributes:
        shares: the part of each endpoint; the empty endpoint stands for what finds none.
        affinity_seconds: how long clients stay with their endpoint, 0 for not at all.
        head: rules before the choice, which masquerade.
        rest: rules that are none of the above, as text.
    """

    shares: Shares = field(default_factory=dict)
    affinity_seconds: int = 0
    head: list[Rule] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """The chain of an endpoint: where it leads, and whether it notes clients."""

    text: str
    notes_clients: bool
    rest: tuple[str, ...]


def read_balancing(source: RuleSource, chain: str) -> Balancing:
    """Read a chain ``KUBE-SVC-`` or ``KUBE-SVL-`` and the chains of its endpoints.

    Raises:
        InvalidInputError: a rule is broken.
    """
    result = Balancing()
    choosing: list[tuple[str, int | None]] = []
    sticky: dict[str, int] = {}
    for rule in source.rules("nat", chain):
        target = jump_target(rule)
        kinds = {type(match) for match in rule.matches} - {Comment}
        if marks(rule) and not choosing:
            result.head.append(rule)
        elif not target.startswith(names.ENDPOINT_PREFIX) or not kinds <= {Random, Recent}:
            result.rest.append(rule_text(source, chain, rule))
        elif Recent in kinds:
            sticky[target] = next(match.seconds for match in rule.matches if isinstance(match, Recent))
        else:
            choosing.append((target, threshold_of(rule.matches)))
    endpoints = {target: _read_endpoint(source, target) for target, _ in choosing}
    for target, endpoint in endpoints.items():
        result.rest += endpoint.rest
        if endpoint.notes_clients != (target in sticky):
            result.rest.append(f"{target}: session affinity is half there")
    result.affinity_seconds = max(sticky.values(), default=0)
    result.shares = _shares([(endpoints[target].text, threshold) for target, threshold in choosing])
    return result


def marks(rule: Rule) -> bool:
    """Whether a rule has traffic masqueraded, by its mark."""
    return jump_target(rule) == names.MARK_MASQ or any(isinstance(a, SetMark) for a in rule.actions)


def rule_text(source: RuleSource, chain: str, rule: Rule) -> str:
    """Return a rule with its chain, as iptables-save prints it."""
    return f"-A {chain} {render_rule(rule, source.family)}"


def threshold_of(matches: Sequence[AnyMatch]) -> int | None:
    """Return out of how many of the kernel's numbers a rule matches; ``None`` for all."""
    for match in matches:
        if isinstance(match, Random):
            return SCALE - match.threshold if match.negated else match.threshold
    return None


def _shares(choosing: Sequence[tuple[str, int | None]]) -> Shares:
    """Return the part of each endpoint: 1/n where that is what the thresholds stand for, else exactly."""
    count = len(choosing)
    even = all(
        (intended_share(threshold) if threshold is not None else 1) == count - place
        for place, (_, threshold) in enumerate(choosing)
    )
    shares: Shares = {}
    remaining = Fraction(1)
    for endpoint, threshold in choosing:
        taken = remaining if threshold is None else remaining * Fraction(threshold, SCALE)
        shares[endpoint] = shares.get(endpoint, Fraction(0)) + (Fraction(1, count) if even else taken)
        remaining -= taken
    if remaining and not even:
        shares[""] = remaining
    return shares


def _read_endpoint(source: RuleSource, chain: str) -> _Endpoint:
    """Read the chain of an endpoint: masquerade hairpin traffic, then translate."""
    rest: list[str] = []
    text, notes_clients, hairpin = "", False, ""
    for rule in source.rules("nat", chain):
        action = rule.actions[0] if rule.actions else None
        kinds = {type(match) for match in rule.matches} - {Comment}
        if marks(rule) and kinds == {Source} and not text:
            hairpin = next(m.network.partition("/")[0] for m in rule.matches if isinstance(m, Source))
        elif isinstance(action, Dnat) and kinds <= {Recent, Protocol, Transport} and not text:
            text = join_host_port(action.address, action.port)
            notes_clients = Recent in kinds
            if hairpin != action.address:
                rest.append(
                    f"endpoint {text} cannot reach itself by way of the Service: {chain} does not mark it"
                )
        else:
            rest.append(rule_text(source, chain, rule))
    return _Endpoint(text, notes_clients, tuple(rest))
