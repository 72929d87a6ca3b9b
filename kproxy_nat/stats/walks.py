"""How many rules the first packet of a flow passes, in the tables nat and filter of iptables.

A packet is followed through PREROUTING, FORWARD or INPUT, and POSTROUTING, past every rule that it is
compared with. Where rules draw at random, each way has its probability. What is not known here (foreign
matches) is taken not to match. The result counts rules, it judges no traffic.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from kproxy_nat.net.addresses import Address, is_loopback
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.probability import SCALE
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset
from kproxy_nat.stats.packets import FirstPacket, Ways, holds, host_of

_VERDICTS = (actions.Accept, actions.Drop, actions.Reject, actions.Dnat, actions.Masquerade)


@dataclass(frozen=True, slots=True)
class _End:
    """Where a walk of a chain ended: how likely, after how many rules, and whether with a verdict."""

    probability: float
    rules: int
    packet: FirstPacket
    verdict: bool


class _IndexedChain:
    """A chain whose rules for a single address or port are found without going through all."""

    def __init__(self, chain: Chain) -> None:
        self.rules = chain.rules
        self._by_address: dict[str, list[int]] = {}
        self._by_port: dict[int, list[int]] = {}
        self._others: list[int] = []
        for position, rule in enumerate(chain.rules):
            self._place(rule).append(position)

    def _place(self, rule: Rule) -> list[int]:
        place = self._others
        for match in rule.matches:
            if isinstance(match, matches.Destination) and not match.negated:
                host = host_of(match.network)
                if host:
                    return self._by_address.setdefault(host, [])
            ports = matches.destination_ports(match)
            if ports and not ports.negated and ports.first == ports.last:
                place = self._by_port.setdefault(ports.first, [])
        return place

    def candidates(self, packet: FirstPacket, start: int) -> Iterator[int]:
        """Yield the positions, from ``start`` on, of rules that may match."""
        places = (self._by_address.get(packet.destination), self._by_port.get(packet.port), self._others)
        filled = [place for place in places if place]
        found = filled[0] if len(filled) == 1 else list(heapq.merge(*filled))
        return iter(found[bisect.bisect_left(found, start) :])


class Walker:
    """The rules of one family, on a node with these addresses."""

    def __init__(self, ruleset: Ruleset, local: Collection[Address]) -> None:
        self._chains = {
            (table.name, chain.name): _IndexedChain(chain)
            for table in ruleset.tables.values()
            for chain in table.chains.values()
        }
        self._local = local

    def walk(self, packet: FirstPacket) -> Ways:
        """Return the ways that a packet may take.

        From the translation on, the endpoints of a draw count alike, as long as they are marked alike.
        """
        ways: Ways = []
        onward: dict[tuple[int, bool, bool], Ways] = {}
        for end in self._chain("nat", "PREROUTING", packet):
            after = end.packet
            inward = self._is_local(after.destination)
            key = (after.mark, after.translated, inward)
            if key not in onward:
                onward[key] = self._onward(after, inward=inward)
            ways += ((end.probability * share, end.rules + rules) for share, rules in onward[key])
        return ways

    def _onward(self, packet: FirstPacket, *, inward: bool) -> Ways:
        """Return the ways after the first table."""
        if inward:
            return [(end.probability, end.rules) for end in self._chain("filter", "INPUT", packet)]
        return [
            (passed.probability * left.probability, passed.rules + left.rules)
            for passed in self._chain("filter", "FORWARD", packet)
            for left in self._chain("nat", "POSTROUTING", passed.packet)
        ]

    def _is_local(self, address: Address) -> bool:
        return address in self._local or is_loopback(address)

    def _chain(self, table: str, name: str, packet: FirstPacket) -> list[_End]:
        chain = self._chains.get((table, name))
        return list(self._from(table, chain, 0, packet)) if chain else [_End(1.0, 0, packet, verdict=False)]

    def _from(self, table: str, chain: _IndexedChain, start: int, packet: FirstPacket) -> Iterator[_End]:
        """Walk a chain from one of its rules on; counts are those from there."""
        weight, below = 1.0, 0
        for position in chain.candidates(packet, start):
            rule = chain.rules[position]
            chance = self._chance(rule, packet)
            if not chance:
                continue
            passed = position - start + 1 + below
            going_on: list[_End] = []
            for end in self._act(table, rule, packet):
                share = weight * chance * end.probability
                if end.verdict or _leaves(rule):
                    yield _End(share, passed + end.rules, end.packet, end.verdict)
                else:
                    going_on.append(_End(share, end.rules, end.packet, verdict=False))
            if chance < 1.0:
                going_on.append(_End(weight * (1.0 - chance), 0, packet, verdict=False))
            if not going_on:
                return
            *others, last = going_on
            for other in others:
                for end in self._from(table, chain, position + 1, other.packet):
                    rules = passed + other.rules + end.rules
                    yield _End(other.probability * end.probability, rules, end.packet, end.verdict)
            weight, below, packet = last.probability, below + last.rules, last.packet
        yield _End(weight, len(chain.rules) - start + below, packet, verdict=False)

    def _act(self, table: str, rule: Rule, packet: FirstPacket) -> list[_End]:
        """Return what a rule's action makes of a packet: the ends of another chain, or one of its own."""
        for action in rule.actions:
            if isinstance(action, actions.Jump | actions.Goto):
                return self._chain(table, action.chain, packet)
            if isinstance(action, actions.Dnat):
                packet = replace(packet, destination=action.address, port=action.port, translated=True)
            if isinstance(action, actions.SetMark):
                packet = replace(packet, mark=packet.mark & ~action.mask ^ action.value)
        verdict = any(isinstance(action, _VERDICTS) for action in rule.actions)
        return [_End(1.0, 0, packet, verdict)]

    def _chance(self, rule: Rule, packet: FirstPacket) -> float:
        """Return how likely a rule matches a packet."""
        chance = 1.0
        for match in rule.matches:
            if isinstance(match, matches.Random):
                share = match.threshold / SCALE
                chance *= 1.0 - share if match.negated else share
            elif not holds(match, packet, self._is_local):
                return 0.0
        return chance


def _leaves(rule: Rule) -> bool:
    """Whether a chain is left by a rule that decides nothing."""
    return any(isinstance(action, actions.Goto | actions.Return) for action in rule.actions)
