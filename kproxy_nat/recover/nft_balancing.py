"""Reading the chains of nftables that choose an endpoint, and with affinity those of endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kproxy_nat.formats.nft_shown import shown_rule
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import join_host_port
from kproxy_nat.recover.model import Shares
from kproxy_nat.recover.nft_sources import NftSource
from kproxy_nat.ruleset.actions import Dnat, DnatMap, Goto, UpdateSet, VerdictMap
from kproxy_nat.ruleset.keys import Field, Key, KeyValue, Numgen
from kproxy_nat.ruleset.matches import Comment, Lookup, Protocol
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Rule


@dataclass(slots=True)
class Balancing:
    """What a chain that chooses an endpoint does.

    Attributes:
        shares: the part of each endpoint; the empty endpoint stands for what finds none.
        affinity_seconds: how long clients stay with their endpoint, 0 for not at all.
        rest: rules that are none of a Service, as text.
    """

    shares: Shares = field(default_factory=dict)
    affinity_seconds: int = 0
    rest: list[str] = field(default_factory=list)


def read_balancing(source: NftSource, chain: str) -> Balancing:
    """Read a chain ``service-`` or ``local-``, and with affinity the chains of its endpoints."""
    return _Reader(source).read(chain)


class _Reader:
    def __init__(self, source: NftSource) -> None:
        self.source = source
        self.result = Balancing()
        self.sticky: dict[str, str] = {}

    def read(self, chain: str) -> Balancing:
        for rule in self.source.rules(chain):
            if self.result.shares or not (self._known_client(rule) or self._draw(rule)):
                self._add_rest(chain, rule)
        return self.result

    def _known_client(self, rule: Rule) -> bool:
        """Read a rule that sends clients of an endpoint there."""
        action = rule.actions[0] if len(rule.actions) == 1 else None
        conditions = [match for match in rule.matches if not isinstance(match, Comment)]
        lookup = conditions[0] if len(conditions) == 1 else None
        if not isinstance(lookup, Lookup) or lookup.key != (Field.SOURCE,) or lookup.negated:
            return False
        clients = self.source.named_set(lookup.name)
        if not isinstance(action, Goto) or clients is None:
            return False
        self.sticky[action.chain] = lookup.name
        self.result.affinity_seconds = max(self.result.affinity_seconds, clients.timeout)
        return True

    def _draw(self, rule: Rule) -> bool:
        """Read the rule that draws."""
        action = rule.actions[0] if len(rule.actions) == 1 else None
        kinds = {type(match) for match in rule.matches} - {Comment}
        if isinstance(action, DnatMap) and not isinstance(action.map, str) and kinds == {Protocol}:
            drawn = [(entry.key, join_host_port(entry.address, entry.port)) for entry in action.map]
        elif isinstance(action, VerdictMap) and not isinstance(action.map, str) and not kinds:
            chains = [(e.key, e.verdict.chain) for e in action.map if isinstance(e.verdict, Goto)]
            drawn = [(key, self._endpoint(chain)) for key, chain in chains]
        else:
            return False
        found = _shares(action.key, drawn)
        self.result.shares = found or {}
        return found is not None

    def _endpoint(self, chain: str) -> str:
        """Return the endpoint of a chain that notes the client and translates."""
        text, noted = "", ""
        for rule in self.source.rules(chain):
            action = rule.actions[0] if len(rule.actions) == 1 else None
            kinds = {type(match) for match in rule.matches} - {Comment}
            if isinstance(action, UpdateSet) and not kinds and action.key == (Field.SOURCE,) and not text:
                noted = action.name
            elif isinstance(action, Dnat) and kinds == {Protocol} and not text:
                text = join_host_port(action.address, action.port)
            else:
                self._add_rest(chain, rule)
        if noted != self.sticky.get(chain, ""):
            self.result.rest.append(f"{chain}: session affinity is half there")
        return text

    def _add_rest(self, chain: str, rule: Rule) -> None:
        family = NFT_FAMILIES[self.source.family]
        place = f"add rule {family} {names.TABLE} {chain}"
        self.result.rest.append(f"{place} {shown_rule(rule, family)}")


def _shares(key: Key, drawn: Sequence[tuple[KeyValue, str]]) -> Shares | None:
    """Return the part of each endpoint of a draw by number; ``None`` if it is drawn otherwise."""
    generator = key[0] if len(key) == 1 else None
    if not isinstance(generator, Numgen):
        return None
    part = Fraction(1, generator.modulus)
    shares: Shares = {}
    reached = 0
    for (number,), endpoint in drawn:
        if isinstance(number, int) and 0 <= number - generator.offset < generator.modulus:
            shares[endpoint] = shares.get(endpoint, Fraction(0)) + part
            reached += 1
    if reached < generator.modulus:
        shares[""] = shares.get("", Fraction(0)) + part * (generator.modulus - reached)
    return shares
