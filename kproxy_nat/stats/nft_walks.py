"""How many rules the first packet of a flow passes in a table of nftables.

The counterpart of ``walks``: a packet is followed through prerouting, forward or input, and postrouting, past
every rule that it is compared with; a look-up is part of its rule. What is not known here is taken not to
match, and sets that rules fill are empty. The result counts rules, it judges no traffic.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from kproxy_nat.net.addresses import Address, Cidr, is_loopback
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import AnyAction
from kproxy_nat.ruleset.keys import DESTINATION_PORTS, Field, Key, KeyValue, Numgen, Value
from kproxy_nat.ruleset.rules import Rule, Table
from kproxy_nat.stats.packets import FirstPacket, Ways, holds, in_network

_REFUSED = (actions.Drop, actions.Reject)
_TRANSPORTS = {field: protocol for protocol, field in DESTINATION_PORTS.items()}
_HOOKS = ("prerouting", "input", "forward", "postrouting")

_MapAction = actions.VerdictMap | actions.DnatMap
_Found = actions.Dnat | actions.Verdict | None
"""What a map leads to; ``None`` where it has nothing for a key."""


@dataclass(frozen=True, slots=True)
class _End:
    """Where a walk of a chain ended; ``verdict`` is what decided, if anything did."""

    probability: float
    rules: int
    packet: FirstPacket
    verdict: AnyAction | None = None


class NftWalker:
    """A table of one family, on a node with these addresses."""

    def __init__(self, table: Table, local: Collection[Address]) -> None:
        self._chains = table.chains
        self._sets = table.sets
        self._local = local
        self._anonymous: dict[int, dict[KeyValue, _Found]] = {}
        self._hooks: dict[str, list[str]] = {}
        hooked = [(chain.hook, name) for name, chain in table.chains.items() if chain.hook]
        for hook, name in sorted(hooked, key=lambda item: item[0].priority):
            self._hooks.setdefault(hook.name, []).append(name)

    def walk(self, packet: FirstPacket) -> Ways:
        """Return the ways that a packet may take.

        From the translation on, the endpoints of a draw count alike, as long as they are marked alike.
        """
        ways: Ways = []
        onward: dict[tuple[int, bool, bool], Ways] = {}
        for end in self._hook("prerouting", packet):
            after = end.packet
            if isinstance(end.verdict, _REFUSED):
                ways.append((end.probability, end.rules))
                continue
            inward = self._is_local(after.destination)
            key = (after.mark, after.translated, inward)
            if key not in onward:
                onward[key] = list(self._onward(after, "input" if inward else "forward"))
            ways += ((end.probability * share, end.rules + rules) for share, rules in onward[key])
        return ways

    def _onward(self, packet: FirstPacket, hook: str) -> Iterator[tuple[float, int]]:
        for passed in self._hook(hook, packet):
            if hook == "input" or isinstance(passed.verdict, _REFUSED):
                yield passed.probability, passed.rules
            else:
                for left in self._hook("postrouting", passed.packet):
                    yield passed.probability * left.probability, passed.rules + left.rules

    def _hook(self, hook: str, packet: FirstPacket) -> list[_End]:
        """Pass the base chains of a hook, by priority, up to one that refuses the packet."""
        ends = [_End(1.0, 0, packet)]
        for name in self._hooks.get(hook, ()):
            passed: list[_End] = []
            for end in ends:
                if isinstance(end.verdict, _REFUSED):
                    passed.append(end)
                else:
                    passed += (_joined(end, after) for after in self._chain(name, 0, end.packet))
            ends = passed
        return ends

    def _is_local(self, address: Address) -> bool:
        return address in self._local or is_loopback(address)

    def _chain(self, name: str, start: int, packet: FirstPacket) -> Iterator[_End]:
        """Walk a chain from one of its rules on; counts are those from there."""
        rules = self._chains[name].rules
        weight, passed = 1.0, 0
        for position in range(start, len(rules)):
            passed += 1
            going_on: list[_End] = []
            for end in self._rule(rules[position], packet):
                found = replace(end, probability=weight * end.probability, rules=passed + end.rules)
                if end.verdict is None:
                    going_on.append(found)
                else:
                    yield found
            if not going_on:
                return
            *others, last = going_on
            for other in others:
                yield from (_joined(other, end) for end in self._chain(name, position + 1, other.packet))
            weight, passed, packet = last.probability, last.rules, last.packet
        yield _End(weight, passed, packet)

    def _rule(self, rule: Rule, packet: FirstPacket) -> Iterator[_End]:
        """Yield what becomes of a packet at a rule; without a verdict it goes on to the next."""
        chance = 1.0
        for match in rule.matches:
            chance *= self._chance(match, packet) if chance else 0.0
        if chance < 1.0:
            yield _End(1.0 - chance, 0, packet)
        if chance:
            yield from _weighted(chance, self._act(rule, packet))

    def _act(self, rule: Rule, packet: FirstPacket) -> Iterator[_End]:
        """Yield what the actions of a rule make of a packet; the first that can decide is the last."""
        for action in rule.actions:
            if isinstance(action, _MapAction):
                for share, found in self._looked_up(action, packet):
                    yield from _weighted(share, self._decided(found, packet))
                return
            if isinstance(action, actions.SetMark):
                packet = replace(packet, mark=packet.mark & ~action.mask ^ action.value)
            elif not isinstance(action, actions.UpdateSet):
                yield from self._decided(action, packet)
                return
        yield _End(1.0, 0, packet)

    def _decided(self, verdict: AnyAction | None, packet: FirstPacket) -> Iterator[_End]:
        """Yield where a verdict leads to; an end without one goes on where the packet came from."""
        if isinstance(verdict, actions.Jump):
            for end in self._chain(verdict.chain, 0, packet):
                yield replace(end, verdict=None) if isinstance(end.verdict, actions.Return) else end
        elif isinstance(verdict, actions.Goto):
            for end in self._chain(verdict.chain, 0, packet):
                yield replace(end, verdict=end.verdict or actions.Return())
        elif isinstance(verdict, actions.Dnat):
            after = replace(packet, destination=verdict.address, port=verdict.port, translated=True)
            yield _End(1.0, 0, after, verdict)
        else:
            yield _End(1.0, 0, packet, verdict)

    def _chance(self, match: matches.AnyMatch, packet: FirstPacket) -> float:
        """Return how likely a condition holds."""
        if isinstance(match, matches.Lookup):
            elements = self._sets[match.name].elements
            chance = sum(share for share, key in _keys(match.key, packet) if key in elements)
        elif isinstance(match, matches.OneOf):
            chance = sum(share for share, key in _keys(match.key, packet) if _is_among(key, match.values))
        else:
            return float(holds(match, packet, self._is_local))
        return 1.0 - chance if match.negated else chance

    def _looked_up(self, action: _MapAction, packet: FirstPacket) -> Iterator[tuple[float, _Found]]:
        """Yield what a map leads to, for each key that a packet may have."""
        missing = 1.0
        for share, key in _keys(action.key, packet):
            missing -= share
            yield share, self._find(action, key)
        if missing > 0.5:
            yield 1.0, None

    def _find(self, action: _MapAction, key: KeyValue) -> _Found:
        if isinstance(action.map, str):
            element = self._sets[action.map].elements.get(key)
            value = element.value if element else None
            if not isinstance(value, tuple):
                return value
            port = action.port if isinstance(action, actions.DnatMap) else 0
            return actions.Dnat(Address(str(value[0])), port or int(value[1]))
        entries = self._anonymous.get(id(action))
        if entries is None:
            entries = self._anonymous[id(action)] = {entry.key: _leads_to(entry) for entry in action.map}
        return entries.get(key)


def _leads_to(entry: actions.VerdictEntry | actions.DestinationEntry) -> _Found:
    if isinstance(entry, actions.VerdictEntry):
        return entry.verdict
    return actions.Dnat(entry.address, entry.port)


def _joined(before: _End, after: _End) -> _End:
    """Return an end after another one."""
    probability, rules = before.probability * after.probability, before.rules + after.rules
    return replace(after, probability=probability, rules=rules)


def _weighted(share: float, ends: Iterator[_End]) -> Iterator[_End]:
    return (replace(end, probability=share * end.probability) for end in ends)


def _keys(key: Key, packet: FirstPacket) -> Iterator[tuple[float, KeyValue]]:
    """Yield the values of a key that a packet may have, all equally likely; none of another protocol."""
    found = list(itertools.product(*(_values(part, packet) for part in key)))
    return ((1.0 / len(found), values) for values in found)


def _values(part: Field | Numgen, packet: FirstPacket) -> Sequence[Value]:
    if isinstance(part, Numgen):
        return range(part.offset, part.offset + part.modulus)
    if part in _TRANSPORTS:
        return (packet.port,) if packet.protocol == _TRANSPORTS[part] else ()
    fields: dict[Field, Value] = {
        Field.SOURCE: packet.source,
        Field.DESTINATION: packet.destination,
        Field.PROTOCOL: packet.protocol,
        Field.DESTINATION_PORT: packet.port,
    }
    return (fields[part],) if part in fields else ()


def _is_among(key: KeyValue, values: Sequence[KeyValue]) -> bool:
    return any(all(map(_is_value, key, value)) for value in values)


def _is_value(value: Value, wanted: Value) -> bool:
    """Tell whether a packet's value is one that a rule names, which may be a network."""
    if isinstance(wanted, str) and "/" in wanted:
        return in_network(Cidr(wanted), Address(str(value)))
    return value == wanted
