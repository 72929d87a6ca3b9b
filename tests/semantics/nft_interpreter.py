"""What becomes of one packet under nftables rules, exactly: the counterpart of ``interpreter``, for tests.

It reads the text of ``nft list ruleset`` and takes statement after statement as the kernel does (Linux 6.x:
nft_do_chain, nft_lookup, nft_ng_random, nft_nat), through the base chains of each hook by priority. Sets of
clients are a set of those that were seen within the timeout. It knows what the layouts use, and refuses the
rest.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from tests.semantics.interpreter import DROP, NEW, ONE, POLICY, REJECT, Outcome, Packet, Seen
from tests.semantics.nft_rule_text import Key, Rule, Statement, Value, read_nft_table

LOOPBACK = "lo"
NOT_ACCEPTED = ("drop", "reject")


@dataclass(frozen=True)
class _State:
    """A packet on its way."""

    packet: Packet
    seen: Seen
    masqueraded: bool = False


_Ends = Iterator[tuple[Fraction, _State, str | None]]
"""States with their probability and verdict; ``None`` where a chain or statement ended without one."""


class NftRules:
    """One family's table on a node with these addresses."""

    def __init__(self, text: str, local: frozenset[int], version: int) -> None:
        self.table = read_nft_table(text, "ip" if version == 4 else "ip6")
        self.local = local
        self.version = version

    def outcomes(self, packet: Packet, seen: Seen = frozenset()) -> dict[Outcome, Fraction]:
        """Return every outcome with its probability; they sum to 1."""
        found: dict[Outcome, Fraction] = {}
        for probability, state, verdict in self._way(_State(packet, seen)):
            refused = {"drop": DROP, "reject": REJECT}.get(verdict or "")
            end = state.packet
            mark = 0 if refused else end.mark
            outcome = Outcome(
                refused or POLICY, end.destination, end.port, state.masqueraded, mark, state.seen, ()
            )
            found[outcome] = found.get(outcome, Fraction(0)) + probability
        assert sum(found.values()) == 1
        return found

    def _way(self, start: _State) -> _Ends:
        """Pass the hooks, up to the one where a packet leaves or has arrived."""
        first, onward = ("prerouting", self._routed) if start.packet.interface else ("output", self._sent)
        yield from self._after(first, start, onward)

    def _after(self, hook: str, start: _State, onward: Callable[[_State], _Ends] | None) -> _Ends:
        """Pass a hook, and what comes after it."""
        for share, state, verdict in self._hook(hook, start):
            if verdict in NOT_ACCEPTED or onward is None:
                yield share, state, verdict
            else:
                yield from ((share * further, end, last) for further, end, last in onward(state))

    def _routed(self, state: _State) -> _Ends:
        if self._is_for_node(state):
            return self._after("input", state, None)
        return self._after("forward", state, self._leaving)

    def _leaving(self, state: _State) -> _Ends:
        return self._after("postrouting", state, None)

    def _sent(self, state: _State) -> _Ends:
        """Leave; what the node sends to itself comes in again."""
        return self._after("postrouting", state, self._back if self._is_for_node(state) else None)

    def _back(self, state: _State) -> _Ends:
        back = replace(state, packet=replace(state.packet, interface=LOOPBACK))
        return self._after("prerouting", back, self._routed)

    def _is_for_node(self, state: _State) -> bool:
        return self.is_local(state.packet.destination)

    def _hook(self, hook: str, start: _State) -> _Ends:
        """Pass the base chains of a hook. A flow is translated by its first packet, and at its first hook."""
        is_translatable = start.packet.state == NEW and start.packet.interface != LOOPBACK
        chains = [
            name for _, kind, name in self.table.hooks.get(hook, []) if kind == "filter" or is_translatable
        ]
        yield from self._base_chains(chains, start, ONE)

    def _base_chains(self, chains: list[str], state: _State, weight: Fraction) -> _Ends:
        if not chains:
            yield weight, state, None
            return
        for share, after, verdict in self._chain(chains[0], 0, state):
            if verdict in NOT_ACCEPTED:
                yield weight * share, after, verdict
            else:
                yield from self._base_chains(chains[1:], after, weight * share)

    def is_local(self, address: int) -> bool:
        """Whether an address is one of the node's."""
        return address in self.local or (self.version == 4 and address >> 24 == 127)

    def _chain(self, name: str, start: int, state: _State) -> _Ends:
        """Walk a chain from one of its rules on."""
        rules = self.table.chains[name]
        if start == len(rules):
            yield ONE, state, None
            return
        for share, after, verdict in self._rule(rules[start], 0, state):
            if verdict is None:
                following: _Ends = self._chain(name, start + 1, after)
            else:
                following = self._decided(verdict, name, start, after)
            for further, end, decision in following:
                yield share * further, end, decision

    def _decided(self, verdict: str, name: str, at: int, state: _State) -> _Ends:
        """Do as a verdict says."""
        word, _, target = verdict.partition(" ")
        if word == "return":
            yield ONE, state, None
        elif word == "goto":
            yield from self._chain(target, 0, state)
        elif word == "jump":
            for share, after, decision in self._chain(target, 0, state):
                if decision is not None:
                    yield share, after, decision
                    continue
                for further, end, last in self._chain(name, at + 1, after):
                    yield share * further, end, last
        else:
            yield ONE, state, word

    def _rule(self, rule: Rule, at: int, state: _State) -> _Ends:
        """Take the statements of a rule; ``None`` where one does not hold, or nothing is decided."""
        if at == len(rule):
            yield ONE, state, None
            return
        for share, after, decision in self._statement(rule[at], state):
            if decision == "continue":
                for further, end, last in self._rule(rule, at + 1, after):
                    yield share * further, end, last
            else:
                yield share, after, decision

    def _statement(self, statement: Statement, state: _State) -> _Ends:
        """Do what a statement does; the verdict is ``continue`` where the rule goes on."""
        kind, packet = statement.kind, state.packet
        if kind == "verdict":
            yield ONE, state, " ".join(statement.words)
        elif kind == "masquerade":
            yield ONE, replace(state, masqueraded=True), "accept"
        elif kind == "set mark":
            operation, word = statement.words
            mark = packet.mark | int(word, 16) if operation == "|" else packet.mark ^ int(word, 16)
            yield ONE, replace(state, packet=replace(packet, mark=mark)), "continue"
        elif kind == "update":
            assert statement.key == ("saddr",)
            entry = (statement.words[0], packet.source)
            yield ONE, replace(state, seen=state.seen | {entry}), "continue"
        elif kind == "dnat" and statement.map is None and statement.words:
            host, _, port = statement.words[0].rpartition(":")
            yield ONE, self._translated(state, host.strip("[]"), port), "accept"
        elif kind in ("vmap", "dnat", "lookup"):
            yield from self._looked_up(statement, state)
        else:
            holds = self._holds(statement, packet) != statement.negated
            yield ONE, state, "continue" if holds else None

    def _looked_up(self, statement: Statement, state: _State) -> _Ends:
        """Look a key up; draws that lead to the same are taken together."""
        keys = list(self._keys(statement.key, state.packet))
        shares: dict[tuple[str, ...] | None, Fraction] = {}
        for key in keys:
            found = None if None in key else self._find(statement, key, state)
            shares[found] = shares.get(found, Fraction(0)) + Fraction(1, len(keys))
        for found, share in shares.items():
            if statement.kind == "lookup":
                yield share, state, "continue" if (found is not None) != statement.negated else None
            elif found is None:
                yield share, state, None
            elif statement.kind == "vmap":
                yield share, state, " ".join(found)
            else:
                port = statement.words[1] if statement.words else found[2]
                yield share, self._translated(state, found[0], port), "accept"

    def _find(
        self, statement: Statement, key: tuple[Value | None, ...], state: _State
    ) -> tuple[str, ...] | None:
        """Return what a key leads to, nothing for that of a set; ``None`` if it is not there."""
        if statement.map is not None:
            elements = self.table.sets[statement.map]
            if not elements and (statement.map, state.packet.source) in state.seen:
                return ()
            return elements.get(key)  # type: ignore[arg-type]
        for candidate, leads_to in statement.entries:
            if all(itertools.starmap(_is_among, zip(key, candidate, strict=True))):
                return leads_to
        return None

    def _keys(self, key: Key, packet: Packet) -> Iterator[tuple[Value | None, ...]]:
        """Yield the keys that a packet has, all equally likely; ``None`` stands for what it does not have."""
        yield from itertools.product(*(self._values(part, packet) for part in key))

    def _values(self, part: str, packet: Packet) -> list[Value | None]:
        first, _, rest = part.partition(" ")
        if first == "numgen":
            return list(range(int(rest)))
        if rest:
            return [packet.port if packet.protocol == first else None]
        fields = {"saddr": packet.source, "daddr": packet.destination}
        return [fields.get(part, packet.protocol if part == "l4proto" else packet.port)]

    def _holds(self, statement: Statement, packet: Packet) -> bool:
        kind, words = statement.kind, statement.words
        if kind == "comment":
            return True
        if kind == "ct state":
            return packet.state.lower() in words
        if kind == "ct status":
            assert words == ("dnat",)
            return packet.translated
        if kind == "iifname":
            (name,) = words
            return packet.interface.startswith(name[:-1]) if name.endswith("*") else packet.interface == name
        if kind == "mark":
            mask, value = (int(word, 16) for word in words)
            return packet.mark & mask == value
        assert kind in ("fib saddr", "fib daddr"), statement
        assert words == ("local",)
        return self.is_local(packet.source if kind == "fib saddr" else packet.destination)

    def _translated(self, state: _State, host: str, port: str) -> _State:
        address, packet = int(ipaddress.ip_address(host)), state.packet
        # A translation to the same place is none: nf_nat_setup_info leaves the connection's state alone.
        changed = (address, int(port)) != (packet.destination, packet.port)
        packet = replace(packet, destination=address, port=int(port), translated=packet.translated or changed)
        return replace(state, packet=packet)


def _is_among(value: Value | None, candidate: Value) -> bool:
    if isinstance(candidate, tuple):
        assert isinstance(value, int)
        return candidate[0] <= value <= candidate[1]
    return value == candidate
