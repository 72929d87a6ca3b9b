"""Reading the chains of the compact layout that choose an endpoint: by rules for endpoints or for groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from kproxy_nat.net.addresses import join_host_port
from kproxy_nat.recover.balancing import Balancing, marks, rule_text, threshold_of
from kproxy_nat.recover.iptables_layouts import jump_target
from kproxy_nat.recover.model import Shares
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Dnat
from kproxy_nat.ruleset.matches import Comment, Protocol, Random, Recent
from kproxy_nat.ruleset.probability import SCALE, intended_share
from kproxy_nat.ruleset.rules import Rule

_UPDATE, _SET = "update", "set"


@dataclass(slots=True)
class _Draw:
    """What a chain draws: endpoints or groups, each with its threshold, ``None`` for all that is left."""

    members: list[tuple[int | None, str | _Draw]] = field(default_factory=list)

    def endpoints(self) -> Iterator[str]:
        """Yield all endpoints."""
        for _, member in self.members:
            if isinstance(member, str):
                yield member
            else:
                yield from member.endpoints()

    def is_even(self) -> bool:
        """Whether every threshold stands for equal shares of all endpoints."""
        left = sum(1 for _ in self.endpoints())
        for threshold, member in self.members:
            size = 1 if isinstance(member, str) else sum(1 for _ in member.endpoints())
            if not (_stands_for(threshold, size, left) and (isinstance(member, str) or member.is_even())):
                return False
            left -= size
        return True

    def shares(self, part: Fraction) -> Iterator[tuple[str, Fraction]]:
        """Yield the part of each endpoint, and what is left, for an empty endpoint."""
        for threshold, member in self.members:
            taken = part if threshold is None else part * Fraction(threshold, SCALE)
            part -= taken
            if isinstance(member, str):
                yield member, taken
            else:
                yield from member.shares(taken)
        if part:
            yield "", part


def _stands_for(threshold: int | None, size: int, left: int) -> bool:
    if threshold is None:
        return size == left
    if size == 1 and intended_share(threshold) == left:
        return True
    return threshold == (2 * size * SCALE + left) // (2 * left)


def read_compact_balancing(source: RuleSource, chain: str) -> Balancing:
    """Read a chain ``KPN-SVC-`` or ``KPN-SVL-`` and the chains of its groups.

    Raises:
        InvalidInputError: a rule is broken.
    """
    reader = _Reader(source)
    draw = reader.read(chain, chain)
    result = reader.result
    endpoints = list(draw.endpoints())
    if draw.is_even():
        pairs = [(endpoint, Fraction(1, len(endpoints))) for endpoint in endpoints]
    else:
        pairs = list(draw.shares(Fraction(1)))
    shares: Shares = {}
    for endpoint, part in pairs:
        shares[endpoint] = shares.get(endpoint, Fraction(0)) + part
    result.shares = shares if endpoints else {}
    for endpoint in dict.fromkeys(endpoints):
        if reader.known.get(endpoint) != reader.noted.get(endpoint):
            result.rest.append(f"endpoint {endpoint} of {chain}: session affinity is half there")
    return result


class _Reader:
    """Reads the chains of one choice.

    ``known`` and ``noted`` have the list of clients of each endpoint, by the rules that look and that note.
    """

    def __init__(self, source: RuleSource) -> None:
        self.source = source
        self.result = Balancing()
        self.known: dict[str, str] = {}
        self.noted: dict[str, str] = {}
        self._read: set[str] = set()

    def read(self, chain: str, root: str) -> _Draw:
        draw = _Draw()
        self._read.add(chain)
        for rule in self.source.rules("nat", chain):
            if chain == root and not draw.members and (self._head(rule) or self._known_client(rule)):
                continue
            member = self._member(rule, root)
            if member is None:
                self.result.rest.append(rule_text(self.source, chain, rule))
            else:
                draw.members.append((threshold_of(rule.matches), member))
        return draw

    def _head(self, rule: Rule) -> bool:
        if marks(rule):
            self.result.head.append(rule)
        return marks(rule)

    def _known_client(self, rule: Rule) -> bool:
        """Read a rule that sends a client where it was before."""
        recent = _recent(rule)
        endpoint = _endpoint(rule)
        if recent is None or recent.operation != _UPDATE or not endpoint:
            return False
        self.known[endpoint] = recent.name
        self.result.affinity_seconds = max(self.result.affinity_seconds, recent.seconds)
        return True

    def _member(self, rule: Rule, root: str) -> str | _Draw | None:
        """Return the endpoint or the group that a rule leads to; ``None`` for another rule."""
        kinds = {type(match) for match in rule.matches} - {Comment}
        endpoint = _endpoint(rule)
        if endpoint and kinds <= {Protocol, Random, Recent}:
            recent = _recent(rule)
            if recent is not None:
                self.noted[endpoint] = recent.name if recent.operation == _SET else ""
            return endpoint
        target = jump_target(rule)
        if target.startswith(f"{root}-") and kinds <= {Random} and target not in self._read:
            return self.read(target, root)
        return None


def _recent(rule: Rule) -> Recent | None:
    return next((match for match in rule.matches if isinstance(match, Recent)), None)


def _endpoint(rule: Rule) -> str:
    action = rule.actions[0] if rule.actions else None
    return join_host_port(action.address, action.port) if isinstance(action, Dnat) else ""
