"""The edit script of one chain: which rules stay, move, change, come and go."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence

from kproxy_nat.diff.draws import draw_likeness, told_draw
from kproxy_nat.diff.edits import Cause, EditKind, RuleEdit
from kproxy_nat.diff.overlap import Pin, may_overlap, pin_of
from kproxy_nat.ruleset.actions import Accept, Drop, Reject
from kproxy_nat.ruleset.matches import AnyMatch, Comment, OpaqueStatement, Random
from kproxy_nat.ruleset.probability import intended_share
from kproxy_nat.ruleset.rules import Rule

Pair = tuple[int, int]
"""Places of the same rule in the old and in the new chain."""


def diff_rules(old: Sequence[Rule], new: Sequence[Rule]) -> list[RuleEdit]:
    """Return the edits that turn ``old`` into ``new``, by new place, removals first.

    As many rules as can stay do: those of a longest sequence that is in the same order on both sides.
    """
    begin = _common(old, new)
    end = _common(old[begin:][::-1], new[begin:][::-1])
    pairs, removed, inserted = _matched(old, new, begin, end)
    moves = _moves(pairs, old)
    updates = _updates(old, new, removed, inserted)
    gone = {edit.old_place for edit in updates}
    come = {edit.new_place for edit in updates}
    edits = [RuleEdit(EditKind.REMOVE, i, None, old[i], None) for i in removed if i not in gone]
    others = [RuleEdit(EditKind.INSERT, None, j, None, new[j]) for j in inserted if j not in come]
    others += [*moves, *updates]
    return edits + sorted(others, key=lambda edit: edit.new_place or 0)


def _common(old: Sequence[Rule], new: Sequence[Rule]) -> int:
    count = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            break
        count += 1
    return count


def _matched(
    old: Sequence[Rule], new: Sequence[Rule], begin: int, end: int
) -> tuple[list[Pair], list[int], list[int]]:
    """Pair equal rules between the common ends; return the pairs, and the places of those without one."""
    places: dict[Rule, deque[int]] = defaultdict(deque)
    for place in range(begin, len(old) - end):
        places[old[place]].append(place)
    pairs: list[Pair] = []
    inserted: list[int] = []
    for place in range(begin, len(new) - end):
        known = places.get(new[place])
        if known:
            pairs.append((known.popleft(), place))
        else:
            inserted.append(place)
    return pairs, sorted(place for left in places.values() for place in left), inserted


def _moves(pairs: list[Pair], old: Sequence[Rule]) -> list[RuleEdit]:
    staying = _longest_increasing([before for before, _ in pairs])
    moved = [pair for position, pair in enumerate(pairs) if position not in staying]
    if not moved:
        return []
    crossings = _Crossings(pairs, old)
    return [
        RuleEdit(EditKind.MOVE, i, j, old[i], old[i], harmless=crossings.are_harmless(i, j)) for i, j in moved
    ]


def _longest_increasing(values: list[int]) -> set[int]:
    """Return the positions of a longest increasing subsequence (patience sorting)."""
    tops: list[int] = []
    top_positions: list[int] = []
    before: list[int] = []
    for position, value in enumerate(values):
        pile = bisect_left(tops, value)
        before.append(top_positions[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(value)
            top_positions.append(position)
        else:
            tops[pile], top_positions[pile] = value, position
    chosen: set[int] = set()
    position = top_positions[-1] if top_positions else -1
    while position >= 0:
        chosen.add(position)
        position = before[position]
    return chosen


class _Crossings:
    """Which rules of a chain a moved rule changed places with, by the destination that they match."""

    def __init__(self, pairs: list[Pair], old: Sequence[Rule]) -> None:
        self.old = old
        self.pairs = pairs
        self.by_pin: dict[Pin | None, list[Pair]] = defaultdict(list)
        for pair in pairs:
            self.by_pin[pin_of(old[pair[0]])].append(pair)

    def are_harmless(self, before: int, after: int) -> bool:
        """Whether no packet can meet this rule and one that it changed places with."""
        rule = self.old[before]
        if not _acts(rule):
            return True
        pin = pin_of(rule)
        near = self.pairs if pin is None else [*self.by_pin[None], *self.by_pin[pin]]
        return not any((before - i) * (after - j) < 0 and _order_matters(rule, self.old[i]) for i, j in near)


def _order_matters(first: Rule, second: Rule) -> bool:
    if not _acts(second):
        return False
    if first.actions == second.actions and _is_final(first):
        return False
    return may_overlap(first, second)


def _acts(rule: Rule) -> bool:
    """Whether a rule does more than count, as far as we know."""
    return bool(rule.actions) or any(isinstance(match, OpaqueStatement) for match in rule.matches)


def _is_final(rule: Rule) -> bool:
    return len(rule.actions) == 1 and isinstance(rule.actions[0], Accept | Drop | Reject)


def _without(kind: type[AnyMatch], rule: Rule) -> tuple[AnyMatch, ...]:
    return tuple(match for match in rule.matches if type(match) is not kind)


_LIKENESSES: tuple[tuple[Cause, Callable[[Rule], Hashable]], ...] = (
    (Cause.ENDPOINTS, draw_likeness),
    (Cause.PROBABILITY, lambda rule: (_without(Random, rule), rule.actions)),
    (Cause.COMMENT, lambda rule: (_without(Comment, rule), rule.actions)),
    (Cause.ACTION, lambda rule: rule.matches),
    (Cause.CONDITIONS, lambda rule: (tuple(map(type, rule.matches)), rule.actions)),
)
"""In which respect two rules may differ and still count as one that was changed; the closest first.

Rules with the same likeness do; one without a likeness is like no other.
"""


def _updates(
    old: Sequence[Rule], new: Sequence[Rule], removed: list[int], inserted: list[int]
) -> list[RuleEdit]:
    """Pair rules that are alike; the rest was removed and inserted."""
    edits: list[RuleEdit] = []
    gone, come = set(removed), set(inserted)
    for cause, likeness in _LIKENESSES:
        candidates: dict[Hashable, deque[int]] = defaultdict(deque)
        for i in sorted(gone):
            like = likeness(old[i])
            if like is not None:
                candidates[like].append(i)
        for j in sorted(come):
            known = candidates.get(likeness(new[j]))
            if known:
                i = known.popleft()
                gone.discard(i)
                come.discard(j)
                edits.append(_update(cause, old, i, new, j))
    return edits


def _update(cause: Cause, old: Sequence[Rule], i: int, new: Sequence[Rule], j: int) -> RuleEdit:
    if cause is Cause.ENDPOINTS:
        return told_draw(RuleEdit(EditKind.UPDATE, i, j, old[i], new[j]))
    return RuleEdit(EditKind.UPDATE, i, j, old[i], new[j], cause=_told_apart(cause, old, i, new, j))


def _told_apart(cause: Cause, old: Sequence[Rule], i: int, new: Sequence[Rule], j: int) -> Cause:
    """Tell a probability that only follows from another number of endpoints from other ones."""
    if cause is Cause.PROBABILITY and _is_even(old, i) and _is_even(new, j):
        return Cause.ENDPOINT_COUNT
    return cause


def _is_even(rules: Sequence[Rule], place: int) -> bool:
    """Whether a rule takes one in as many as there are rules from it to the end: all the same share."""
    thresholds = [match.threshold for match in rules[place].matches if isinstance(match, Random)]
    remaining = len(rules) - place
    if not thresholds:
        return remaining == 1
    return len(thresholds) == 1 and intended_share(thresholds[0]) == remaining
