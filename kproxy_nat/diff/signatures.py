"""What chains hold, whatever they are called: by this, chains under other names are found again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from kproxy_nat.ruleset.actions import AnyAction, DnatMap, Goto, Jump, UpdateSet, VerdictMap
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Lookup, Recent
from kproxy_nat.ruleset.rules import Chain, Rule
from kproxy_nat.ruleset.sets import NamedSet

Signature = Hashable
_IN_A_CIRCLE = "circle"


class Signatures:
    """What chains hold, with the content of unnamed chains and sets in the place of their names.

    Args:
        chains: those whose names do not count.
        sets: the same of sets of nftables.
        comments: whether comments of rules count.
    """

    def __init__(self, chains: Mapping[str, Chain], sets: Mapping[str, NamedSet], *, comments: bool) -> None:
        self._chains = chains
        self._sets = sets
        self._comments = comments
        self._known: dict[str, Signature] = {}

    def of(self, name: str) -> Signature:
        """Return the signature of a chain: its name, if that is known to both sides."""
        chain = self._chains.get(name)
        if chain is None:
            return name
        if name not in self._known:
            self._known[name] = _IN_A_CIRCLE
            self._known[name] = tuple(self._rule(rule, name) for rule in chain.rules)
        return self._known[name]

    def _rule(self, rule: Rule, own_name: str) -> Signature:
        matches = tuple(
            self._match(match, own_name)
            for match in rule.matches
            if self._comments or not isinstance(match, Comment)
        )
        return matches, tuple(self._action(action) for action in rule.actions)

    def _match(self, match: AnyMatch, own_name: str) -> Signature:
        if isinstance(match, Recent) and (match.name == own_name or match.name in self._chains):
            target = _IN_A_CIRCLE if match.name == own_name else self.of(match.name)
            return target, match.operation, match.seconds, match.reap, match.hit_count, match.mask, match.side
        if isinstance(match, Lookup):
            return match.key, self._set(match.name), match.negated
        return match

    def _action(self, action: AnyAction) -> Signature:
        if isinstance(action, Jump | Goto):
            return type(action), self.of(action.chain)
        if isinstance(action, UpdateSet):
            return UpdateSet, action.key, self._set(action.name)
        if isinstance(action, VerdictMap | DnatMap) and isinstance(action.map, str):
            return type(action), action.key, self._set(action.map)
        if isinstance(action, VerdictMap) and not isinstance(action.map, str):
            return action.key, tuple((entry.key, self._action(entry.verdict)) for entry in action.map)
        return action

    def _set(self, name: str) -> Signature:
        """Return a set's properties; its elements are told by its own edits."""
        named = self._sets.get(name)
        if named is None:
            return name
        return named.key_types, named.value_types, named.flags, named.timeout, named.size
