"""Rules of nftables that draw an endpoint by number, and what it is that differs between two of them.

The modulus and the numbers of a draw follow from how many endpoints there are. What matters is who they are,
and whether each has the same part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

from msgspec.structs import replace

from kproxy_nat.diff.edits import Cause, MapEntry, RuleEdit
from kproxy_nat.ruleset.actions import DnatMap, VerdictMap
from kproxy_nat.ruleset.keys import KeyValue, Numgen
from kproxy_nat.ruleset.rules import Rule


def draw_likeness(rule: Rule) -> Hashable:
    """Return what two draws have in common that differ in their endpoints only; ``None`` for other rules."""
    drawn = _draw(rule)
    if drawn is None:
        return None
    key, _ = drawn
    action = rule.actions[-1]
    return rule.matches, rule.actions[:-1], type(action), key.mode, isinstance(_map(action), str)


def told_draw(edit: RuleEdit) -> RuleEdit:
    """Return the update of a draw with what differs in it.

    Where both sides give every endpoint the same share, it is the endpoints, or nothing but their order.
    """
    assert edit.old is not None
    assert edit.new is not None
    old, new = _draw(edit.old), _draw(edit.new)
    if old is None or new is None:
        return edit
    before, after = Counter(map(_value, old[1])), Counter(map(_value, new[1]))
    if not (_is_even(*old) and _is_even(*new)):
        return replace(edit, cause=Cause.PROBABILITY)
    if before == after:
        return replace(edit, cause=Cause.ENDPOINT_ORDER if old[1] else Cause.ENDPOINT_COUNT)
    gone, come = tuple(_only(old[1], before - after)), tuple(_only(new[1], after - before))
    return replace(edit, cause=Cause.ENDPOINTS, gone=gone, come=come)


def _draw(rule: Rule) -> tuple[Numgen, tuple[MapEntry, ...]] | None:
    """Return the generator of a rule that draws by number alone, and its map; empty for a named map."""
    action = rule.actions[-1] if rule.actions else None
    if not isinstance(action, VerdictMap | DnatMap):
        return None
    last = action.key[-1]
    if not isinstance(last, Numgen):
        return None
    entries = action.map
    if isinstance(entries, str):
        return last, ()
    return (last, entries) if len(action.key) == 1 else None


def _map(action: object) -> object:
    return action.map if isinstance(action, VerdictMap | DnatMap) else None


def _is_even(key: Numgen, entries: tuple[MapEntry, ...]) -> bool:
    """Whether each number has an entry, and each endpoint one number."""
    if not entries:
        return True
    numbers: set[KeyValue] = {(number,) for number in range(key.offset, key.offset + key.modulus)}
    return {entry.key for entry in entries} == numbers and len(set(map(_value, entries))) == len(entries)


def _value(entry: MapEntry) -> Hashable:
    return replace(entry, key=())


def _only(entries: tuple[MapEntry, ...], wanted: Counter[Hashable]) -> Iterator[MapEntry]:
    return (entry for entry in entries if wanted[_value(entry)] > 0)
