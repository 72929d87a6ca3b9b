"""Which chain of one rule set is which of another: by name, else by what they hold.

Names of chains that hold a hash change with what is hashed, while the chain may do the same as before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from kproxy_nat.ruleset.actions import AnyAction, Goto, Jump
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Recent
from kproxy_nat.ruleset.rules import Chain, Rule, Table

Signature = Hashable
_IN_A_CIRCLE = "circle"


def renamed_chains(old: Table, new: Table) -> dict[str, str]:
    """Return the new name of each user chain that is only named in another way, by its old name.

    Chains are compared with the chains that they lead to; those with the same comments are preferred.
    """
    only_old = [
        c for name, c in old.chains.items() if name not in new.chains and c.rules and c.policy is None
    ]
    only_new = [
        c for name, c in new.chains.items() if name not in old.chains and c.rules and c.policy is None
    ]
    renamed: dict[str, str] = {}
    for comments in (True, False):
        before = _by_signature((c for c in only_old if c.name not in renamed), old, comments=comments)
        taken = set(renamed.values())
        after = _by_signature((c for c in only_new if c.name not in taken), new, comments=comments)
        for signature, names in before.items():
            renamed.update(zip(names, after.get(signature, ()), strict=False))
    return renamed


def retargeted(rules: Sequence[Rule], renamed: Mapping[str, str]) -> list[Rule]:
    """Return the rules with new names for the chains that they lead to, and for lists named after chains."""
    if not renamed:
        return list(rules)
    return [
        Rule(
            tuple(_renamed_match(match, renamed) for match in rule.matches),
            tuple(_renamed_action(action, renamed) for action in rule.actions),
            rule.origin,
            rule.counters,
        )
        for rule in rules
    ]


def _renamed_match(match: AnyMatch, renamed: Mapping[str, str]) -> AnyMatch:
    if isinstance(match, Recent) and match.name in renamed:
        m = match
        name = renamed[m.name]
        return Recent(name, m.operation, m.seconds, m.reap, m.hit_count, m.mask, m.side, m.negated)
    return match


def _renamed_action(action: AnyAction, renamed: Mapping[str, str]) -> AnyAction:
    if isinstance(action, Jump | Goto) and action.chain in renamed:
        return type(action)(renamed[action.chain])
    return action


def _by_signature(chains: Iterable[Chain], table: Table, *, comments: bool) -> dict[Signature, list[str]]:
    listed = list(chains)
    signatures = _Signatures({chain.name: chain for chain in listed}, comments=comments)
    found: dict[Signature, list[str]] = defaultdict(list)
    for chain in listed:
        found[signatures.of(chain.name)].append(chain.name)
    return found


class _Signatures:
    """What chains hold, with the content of unnamed chains in the place of their names."""

    def __init__(self, unnamed: Mapping[str, Chain], *, comments: bool) -> None:
        self.unnamed = unnamed
        self.comments = comments
        self.known: dict[str, Signature] = {}
        self.numbers: dict[Signature, int] = {}

    def of(self, name: str) -> Signature:
        """Return the signature of a chain: its name, if that is known to both sides."""
        chain = self.unnamed.get(name)
        if chain is None:
            return name
        if name not in self.known:
            self.known[name] = _IN_A_CIRCLE
            self.known[name] = tuple(self._rule(rule, name) for rule in chain.rules)
        return self.known[name]

    def _rule(self, rule: Rule, own_name: str) -> Signature:
        matches = tuple(
            self._match(match, own_name)
            for match in rule.matches
            if self.comments or not isinstance(match, Comment)
        )
        return matches, tuple(self._action(action) for action in rule.actions)

    def _match(self, match: AnyMatch, own_name: str) -> Signature:
        if isinstance(match, Recent) and (match.name == own_name or match.name in self.unnamed):
            target = _IN_A_CIRCLE if match.name == own_name else self.of(match.name)
            return target, match.operation, match.seconds, match.reap, match.hit_count, match.mask, match.side
        return match

    def _action(self, action: AnyAction) -> Signature:
        return (type(action), self.of(action.chain)) if isinstance(action, Jump | Goto) else action
