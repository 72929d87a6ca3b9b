"""What becomes of one packet under iptables rules, exactly: every outcome with its probability.

An interpreter for tests, which shares nothing with the compiler: it reads the text of iptables-save, takes
rule after rule as the kernel does (Linux 6.x: ipt_do_table, xt_statistic, xt_recent, nf_nat_core), and
follows a packet through the hooks of the tables nat and filter. Lists of ``recent`` are a set of clients that
were seen within the timeout. It knows what the layouts use and refuses the rest.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tests.semantics.bpf_machine import run
from tests.semantics.rule_text import SCALE, Condition, ReadRule, read_tables

ACCEPT, DROP, REJECT, POLICY = "ACCEPT", "DROP", "REJECT", "POLICY"
NEW = "NEW"

Seen = frozenset[tuple[str, int]]
"""Lists of ``recent`` and the clients on them."""


@dataclass(frozen=True)
class Packet:
    """A packet as it enters the node, or as one of the node's processes sends it (no interface)."""

    source: int
    destination: int
    protocol: str
    port: int
    interface: str = ""
    state: str = NEW
    mark: int = 0
    translated: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a packet.

    ``verdict`` is POLICY where no rule decided: the host's own policy does. What is refused has no mark.
    """

    verdict: str
    destination: int
    port: int
    masqueraded: bool
    mark: int
    seen: Seen
    counted: tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """A packet on its way."""

    packet: Packet
    seen: Seen
    masqueraded: bool = False
    counted: tuple[str, ...] = ()


_Weighted = Iterator[tuple[Fraction, _State, str | None]]
"""States with their probability and verdict; ``None`` where a chain ended without one."""

ONE = Fraction(1)


class Rules:
    """One family's rules on a node with these addresses."""

    def __init__(self, text: str, local: frozenset[int], version: int) -> None:
        self.tables = read_tables(text)
        self.local = local
        self.version = version

    def outcomes(self, packet: Packet, seen: Seen = frozenset()) -> dict[Outcome, Fraction]:
        """Return every outcome with its probability; they sum to 1."""
        found: dict[Outcome, Fraction] = {}
        for probability, state, verdict in self._through_hooks(_State(packet, seen)):
            end = state.packet
            outcome = Outcome(
                verdict or POLICY,
                end.destination,
                end.port,
                state.masqueraded,
                0 if verdict in (DROP, REJECT) else end.mark,
                state.seen,
                tuple(sorted(state.counted)),
            )
            found[outcome] = found.get(outcome, Fraction(0)) + probability
        assert sum(found.values()) == 1
        return found

    def _through_hooks(self, start: _State) -> _Weighted:
        first = "PREROUTING" if start.packet.interface else "OUTPUT"
        for probability, state, _ in self._nat(first, start):
            for share, filtered, verdict in self._filter(first, state):
                if verdict in (DROP, REJECT) or (self._is_local(filtered) and first == "PREROUTING"):
                    yield probability * share, filtered, verdict
                else:
                    yield from self._leave(probability * share, filtered, verdict)

    def _leave(self, probability: Fraction, state: _State, verdict: str | None) -> _Weighted:
        """Pass POSTROUTING; what the node sends to itself comes in again at INPUT."""
        comes_back = not state.packet.interface and self._is_local(state)
        for share, left, _ in self._nat("POSTROUTING", state):
            if not comes_back:
                yield probability * share, left, verdict
                continue
            arrived = replace(left, packet=replace(left.packet, interface="lo"))
            for last, ended, end in self._chain("filter", "INPUT", arrived):
                both = end if end in (DROP, REJECT) else f"{verdict or POLICY} {end or POLICY}"
                yield probability * share * last, ended, both

    def _filter(self, first: str, state: _State) -> _Weighted:
        hook = first if first == "OUTPUT" else "INPUT" if self._is_local(state) else "FORWARD"
        return self._chain("filter", hook, state)

    def _nat(self, hook: str, state: _State) -> _Weighted:
        if state.packet.state != NEW:
            return iter([(ONE, state, None)])
        return self._chain("nat", hook, state)

    def _is_local(self, state: _State) -> bool:
        return self.is_local(state.packet.destination)

    def is_local(self, address: int) -> bool:
        """Whether an address is one of the node's."""
        return address in self.local or (self.version == 4 and address >> 24 == 127)

    def _chain(self, table: str, name: str, state: _State) -> _Weighted:
        return self._from(table, self.tables[table].chains[name], 0, state, ONE)

    def _from(
        self, table: str, rules: list[ReadRule], start: int, state: _State, weight: Fraction
    ) -> _Weighted:
        """Walk a chain from one of its rules on."""
        for position in range(start, len(rules)):
            rule = rules[position]
            if rule.destination and state.packet.destination & rule.destination[1] != rule.destination[0]:
                continue
            chance, then = self._match(rule, state)
            if chance == 0:
                state = then
                continue
            going_on: list[tuple[Fraction, _State]] = []
            for share, after, verdict, ends in self._act(table, rule, then):
                if ends:
                    yield weight * chance * share, after, verdict
                else:
                    going_on.append((weight * chance * share, after))
            if chance < 1:
                going_on.append((weight * (1 - chance), state))
            if not going_on:
                return
            *others, (weight, state) = going_on
            for other_weight, other in others:
                yield from self._from(table, rules, position + 1, other, other_weight)
        yield weight, state, None

    def _match(self, rule: ReadRule, state: _State) -> tuple[Fraction, _State]:
        """Return how likely a rule matches, and the state with what its conditions noted."""
        chance = ONE
        for condition in rule.conditions:
            if condition.kind == "random":
                (threshold,) = condition.values
                assert isinstance(threshold, int)
                chance *= Fraction(threshold, SCALE)
            elif condition.kind == "nfacct":
                state = replace(state, counted=(*state.counted, str(condition.values[0])))
            elif condition.kind == "recent":
                operation, name = condition.values
                entry = (str(name), state.packet.source)
                if operation == "set":
                    state = replace(state, seen=state.seen | {entry})
                elif entry not in state.seen:
                    return Fraction(0), state
            elif self._holds(condition, state.packet) == condition.negated:
                return Fraction(0), state
        return chance, state

    def _holds(self, condition: Condition, packet: Packet) -> bool:
        values: tuple[Any, ...] = condition.values
        kind = condition.kind
        if kind == "destination":
            return bool(packet.destination & values[1] == values[0])
        if kind == "port":
            return bool(values[0] <= packet.port <= values[1])
        if kind == "protocol":
            return bool(packet.protocol == values[0])
        if kind == "source":
            return bool(packet.source & values[1] == values[0])
        if kind == "interface":
            name = str(values[0])
            return packet.interface == name or (name[-1:] == "+" and packet.interface.startswith(name[:-1]))
        if kind == "state":
            return packet.state in values or (packet.translated and "DNAT" in values)
        if kind == "mark":
            return bool(packet.mark & values[1] == values[0])
        assert values == ("LOCAL",) or kind == "bpf", condition
        if kind == "bpf":
            return run(values[0], self._header(packet)) > 0
        return self.is_local(packet.source if kind == "source type" else packet.destination)

    def _header(self, packet: Packet) -> bytes:
        addresses = (packet.source, packet.destination)
        if self.version == 4:
            return bytes(12) + b"".join(ipaddress.IPv4Address(a).packed for a in addresses)
        return bytes(8) + b"".join(ipaddress.IPv6Address(a).packed for a in addresses)

    def _act(
        self, table: str, rule: ReadRule, state: _State
    ) -> Iterator[tuple[Fraction, _State, str | None, bool]]:
        """Yield what a target does: share, state, verdict, and whether the walk of this chain ends."""
        target = rule.target
        if target == "":
            yield ONE, state, None, False
        elif target in (ACCEPT, DROP, REJECT):
            yield ONE, state, target, True
        elif target == "RETURN":
            yield ONE, state, None, True
        elif target == "MARK":
            yield ONE, self._marked(rule, state), None, False
        elif target == "DNAT":
            yield ONE, self._translated(rule, state), ACCEPT, True
        elif target == "MASQUERADE":
            yield ONE, replace(state, masqueraded=True), ACCEPT, True
        else:
            for share, after, verdict in self._chain(table, target, state):
                yield share, after, verdict, verdict is not None or rule.goto

    def _marked(self, rule: ReadRule, state: _State) -> _State:
        value, mask = (int(text, 16) for text in rule.arguments[1].split("/"))
        packet = state.packet
        return replace(state, packet=replace(packet, mark=packet.mark & ~mask ^ value))

    def _translated(self, rule: ReadRule, state: _State) -> _State:
        host, _, port = rule.arguments[1].rpartition(":")
        address = int(ipaddress.ip_address(host.strip("[]")))
        packet = state.packet
        # A translation to the same place is none: nf_nat_setup_info leaves the connection's state alone.
        changed = (address, int(port)) != (packet.destination, packet.port)
        packet = replace(packet, destination=address, port=int(port), translated=packet.translated or changed)
        return replace(state, packet=packet)
