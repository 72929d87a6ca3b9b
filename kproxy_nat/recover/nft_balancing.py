"""Reading the chains of nftables that choose an endpoint, in both layouts.

kube-proxy's has one rule that draws: the endpoint, or with affinity its chain. The compact one draws from a
map of its own; with affinity by one rule after the other, each taking its share of what is left, in groups
where there are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, join_host_port
from kproxy_nat.recover.model import Shares
from kproxy_nat.recover.nft_sources import NftSource, rule_text
from kproxy_nat.ruleset.actions import AnyAction, Dnat, DnatMap, Goto, UpdateSet, VerdictMap
from kproxy_nat.ruleset.keys import Field, KeyValue, Numgen
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Lookup, OneOf, Protocol
from kproxy_nat.ruleset.rules import Rule

_SOURCE = (Field.SOURCE,)
_GROUPS = (names.DRAW_PREFIX, names.LOCAL_DRAW_PREFIX)


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
    """Read a chain ``service-`` or ``local-``, and those that it leads to."""
    reader = _Reader(source)
    result = reader.result
    result.shares = reader.read(chain)
    for target in sorted(reader.known.keys() | reader.noted.keys()):
        if reader.known.get(target) != reader.noted.get(target):
            result.rest.append(f"{target} of {chain}: session affinity is half there")
    return result


class _Reader:
    """Reads the chains of one choice.

    ``known`` and ``noted`` have the set of clients of each endpoint, by the rules that look and that note.
    """

    def __init__(self, source: NftSource) -> None:
        self.source = source
        self.result = Balancing()
        self.known: dict[str, str] = {}
        self.noted: dict[str, str] = {}
        self.left = Fraction(1)

    def read(self, chain: str) -> Shares:
        shares: Shares = {}
        left = Fraction(1)
        for rule in self.source.rules(chain):
            if not shares and self._known_client(rule):
                continue
            part = self._part(rule) if left else None
            drawn = self._drawn(rule) if part is not None else None
            if part is None or drawn is None:
                self._add_rest(chain, rule)
                continue
            for endpoint, share in drawn.items():
                shares[endpoint] = shares.get(endpoint, Fraction(0)) + left * part * share
            left -= left * part
        if shares and left:
            shares[""] = shares.get("", Fraction(0)) + left
        return shares

    def _known_client(self, rule: Rule) -> bool:
        """Read a rule that sends clients of an endpoint there."""
        lookups = [match for match in rule.matches if isinstance(match, Lookup)]
        if len(lookups) != 1 or lookups[0].key != _SOURCE or lookups[0].negated:
            return False
        clients = self.source.named_set(lookups[0].name)
        drawn = self._one(rule.actions)
        if drawn is None or clients is None:
            return False
        self.known[drawn] = lookups[0].name
        self.result.affinity_seconds = max(self.result.affinity_seconds, clients.timeout)
        return True

    def _part(self, rule: Rule) -> Fraction | None:
        """Return out of how many connections a rule takes one; ``None`` for other conditions."""
        conditions = [m for m in rule.matches if not isinstance(m, Comment | Protocol)]
        if not conditions:
            return Fraction(1)
        return _chance(conditions[0]) if len(conditions) == 1 else None

    def _drawn(self, rule: Rule) -> Shares | None:
        """Return which endpoints a rule leads to, each with its part; ``None`` if to none."""
        action = rule.actions[-1] if rule.actions else None
        if len(rule.actions) == 1 and isinstance(action, DnatMap | VerdictMap) and len(action.key) == 1:
            generator = action.key[0]
            if isinstance(generator, Numgen):
                return _shares(generator, self._entries(action))
        drawn = self._one(rule.actions)
        return None if drawn is None else {drawn: Fraction(1)}

    def _one(self, actions: tuple[AnyAction, ...]) -> str | None:
        """Return the endpoint that actions lead to: by its chain, or by noting the client and translating."""
        last = actions[-1] if actions else None
        if len(actions) == 1 and isinstance(last, Goto):
            return self._endpoint(last.chain)
        if not isinstance(last, Dnat):
            return None
        endpoint = join_host_port(last.address, last.port)
        notes = [action for action in actions[:-1] if isinstance(action, UpdateSet) and action.key == _SOURCE]
        if len(notes) != len(actions) - 1:
            return None
        for note in notes:
            self.noted[endpoint] = note.name
        return endpoint

    def _entries(self, action: DnatMap | VerdictMap) -> Iterable[tuple[KeyValue, Shares]]:
        """Yield the entries of a map, in the rule or by itself, with what each leads to."""
        if isinstance(action.map, str):
            port = action.port if isinstance(action, DnatMap) else 0
            yield from self._named_entries(action.map, (port,) if port else ())
            return
        groups: dict[str, Shares] = {}
        for entry in action.map:
            if not hasattr(entry, "verdict"):
                yield entry.key, {join_host_port(entry.address, entry.port): Fraction(1)}
            elif isinstance(entry.verdict, Goto):
                chain = entry.verdict.chain
                if chain not in groups:
                    is_group = chain.startswith(_GROUPS)
                    groups[chain] = self.read(chain) if is_group else {self._endpoint(chain): Fraction(1)}
                yield entry.key, groups[chain]

    def _named_entries(self, name: str, port: tuple[int, ...]) -> Iterator[tuple[KeyValue, Shares]]:
        """Yield the elements of a map; the ``port`` is in the rule where all endpoints have the same."""
        for element in self.source.elements(name):
            value = (*element.value, *port) if isinstance(element.value, tuple) else ()
            if len(value) == 2:
                endpoint = join_host_port(Address(str(value[0])), int(value[1]))
                yield element.key, {endpoint: Fraction(1)}

    def _endpoint(self, chain: str) -> str:
        """Return the endpoint of a chain that notes the client and translates."""
        text = noted = ""
        for rule in self.source.rules(chain):
            action = rule.actions[0] if len(rule.actions) == 1 else None
            kinds = {type(match) for match in rule.matches} - {Comment}
            if isinstance(action, UpdateSet) and not kinds and action.key == _SOURCE and not text:
                noted = action.name
            elif isinstance(action, Dnat) and kinds == {Protocol} and not text:
                text = join_host_port(action.address, action.port)
            elif rule_text(self.source, chain, rule) not in self.result.rest:
                self._add_rest(chain, rule)
        if noted:
            self.noted[text] = noted
        return text

    def _add_rest(self, chain: str, rule: Rule) -> None:
        self.result.rest.append(rule_text(self.source, chain, rule))


def _chance(match: AnyMatch) -> Fraction | None:
    """Return the chance that a generated number is the one that a rule matches."""
    if not isinstance(match, OneOf) or match.negated or len(match.key) != 1 or len(match.values) != 1:
        return None
    generator = match.key[0]
    return Fraction(1, generator.modulus) if isinstance(generator, Numgen) else None


def _shares(generator: Numgen, entries: Iterable[tuple[KeyValue, Shares]]) -> Shares:
    """Return the part of each endpoint of a draw by number, in order."""
    part = Fraction(1, generator.modulus)
    shares: Shares = {}
    reached = 0
    for (number,), drawn in entries:
        if isinstance(number, int) and 0 <= number - generator.offset < generator.modulus:
            reached += 1
            for endpoint, share in drawn.items():
                shares[endpoint] = shares.get(endpoint, Fraction(0)) + part * share
    if reached < generator.modulus:
        shares[""] = shares.get("", Fraction(0)) + part * (generator.modulus - reached)
    return shares
