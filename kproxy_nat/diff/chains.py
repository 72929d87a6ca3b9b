"""Which chain of one rule set is which of another: by name, else by what they hold.

Names of chains that hold a hash change with what is hashed, while the chain may do the same as before. The
same goes for sets of nftables; these are told by the chains that use them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from kproxy_nat.diff.signatures import Signature, Signatures
from kproxy_nat.ruleset.actions import (
    AnyAction,
    DnatMap,
    Goto,
    Jump,
    UpdateSet,
    Verdict,
    VerdictEntry,
    VerdictMap,
)
from kproxy_nat.ruleset.matches import AnyMatch, Lookup, Recent
from kproxy_nat.ruleset.rules import Chain, Rule, Table
from kproxy_nat.ruleset.sets import Element
from kproxy_nat.ruleset.wellformed import sets_used


@dataclass(frozen=True, slots=True)
class Renamed:
    """The new names of chains and sets that are only named in another way, by their old names."""

    chains: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.chains or self.sets)


def renamed_objects(old: Table, new: Table) -> Renamed:
    """Return the user chains, and the sets in them, that are only named in another way.

    Chains are compared with the chains that they lead to; those with the same comments are preferred.
    """
    only_old, only_new = _only_in(old, new), _only_in(new, old)
    renamed: dict[str, str] = {}
    for comments in (True, False):
        before = _by_signature((c for c in only_old if c.name not in renamed), old, new, comments=comments)
        taken = set(renamed.values())
        after = _by_signature((c for c in only_new if c.name not in taken), new, old, comments=comments)
        for signature, names in before.items():
            renamed.update(zip(names, after.get(signature, ()), strict=False))
    return Renamed(renamed, _renamed_sets(renamed, old, new))


def _only_in(table: Table, other: Table) -> list[Chain]:
    return [
        c for name, c in table.chains.items() if name not in other.chains and c.rules and c.policy is None
    ]


def _by_signature(
    chains: Iterable[Chain], table: Table, other: Table, *, comments: bool
) -> dict[Signature, list[str]]:
    listed = list(chains)
    sets = {name: named for name, named in table.sets.items() if name not in other.sets}
    signatures = Signatures({chain.name: chain for chain in listed}, sets, comments=comments)
    found: dict[Signature, list[str]] = defaultdict(list)
    for chain in listed:
        found[signatures.of(chain.name)].append(chain.name)
    return found


def _renamed_sets(chains: Mapping[str, str], old: Table, new: Table) -> dict[str, str]:
    """Pair the sets that chains of the same content use at the same place."""
    renamed: dict[str, str] = {}
    for before, after in chains.items():
        used = zip(sets_used(old.chains[before]), sets_used(new.chains[after]), strict=False)
        for mine, theirs in used:
            if mine in old.sets and theirs in new.sets and mine not in new.sets and theirs not in old.sets:
                renamed.setdefault(mine, theirs)
    taken: dict[str, str] = {}
    for mine, theirs in renamed.items():
        taken.setdefault(theirs, mine)
    return {mine: theirs for theirs, mine in taken.items()}


def retargeted(rules: Sequence[Rule], renamed: Renamed) -> list[Rule]:
    """Return the rules with new names for the chains that they lead to, and for lists and sets."""
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


def retargeted_element(element: Element, renamed: Renamed) -> Element:
    """Return an element of a map with the new name of the chain that it leads to."""
    value = element.value
    if isinstance(value, Jump | Goto) and value.chain in renamed.chains:
        return replace(element, value=type(value)(renamed.chains[value.chain]))
    return element


def _renamed_match(match: AnyMatch, renamed: Renamed) -> AnyMatch:
    if isinstance(match, Recent) and match.name in renamed.chains:
        return replace(match, name=renamed.chains[match.name])
    if isinstance(match, Lookup) and match.name in renamed.sets:
        return replace(match, name=renamed.sets[match.name])
    return match


def _renamed_action(action: AnyAction, renamed: Renamed) -> AnyAction:
    if isinstance(action, Jump | Goto):
        return _renamed_verdict(action, renamed)
    if isinstance(action, UpdateSet) and action.name in renamed.sets:
        return replace(action, name=renamed.sets[action.name])
    if isinstance(action, VerdictMap | DnatMap) and isinstance(action.map, str):
        return replace(action, map=renamed.sets.get(action.map, action.map))
    if isinstance(action, VerdictMap) and not isinstance(action.map, str):
        entries = tuple(VerdictEntry(e.key, _renamed_verdict(e.verdict, renamed)) for e in action.map)
        return VerdictMap(action.key, entries)
    return action


def _renamed_verdict(verdict: Verdict, renamed: Renamed) -> Verdict:
    if isinstance(verdict, Jump | Goto) and verdict.chain in renamed.chains:
        return type(verdict)(renamed.chains[verdict.chain])
    return verdict
