"""Slots are dense, follow from the endpoints alone, and stay where they are when others come and go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.lowering.slots import slots
from tests.property import examples

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=80, unique=True)


def placed(names: list[str]) -> dict[str, int]:
    return dict(zip(names, slots(names), strict=True))


def moved(before: list[str], after: list[str]) -> int:
    """Return how many of the names that are there before and after have another slot."""
    old, new = placed(before), placed(after)
    return sum(new[name] != old[name] for name in set(before) & set(after))


@settings(max_examples=examples(100), deadline=None)
@given(NAMES)
def test_every_slot_is_taken_once(names: list[str]) -> None:
    assert sorted(slots(names)) == list(range(len(names)))


@settings(max_examples=examples(100), deadline=None)
@given(NAMES.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_the_order_in_which_they_come_does_not_matter(drawn: tuple[list[str], list[str]]) -> None:
    names, shuffled = drawn
    assert placed(names) == placed(shuffled)


@pytest.mark.parametrize("count", [25, 64, 65, 100, 500, 1024, 1025])
def test_one_more_and_one_less_move_few(count: int) -> None:
    """On average over a hundred changes; in order of their text, half of all would move."""
    names = [f"10.180.{number >> 8}.{number & 255}:8080" for number in range(count + 1)]
    changes = range(0, count, max(count // 100, 1))
    total = sum(moved(names, names[:at] + names[at + 1 :]) for at in changes)
    assert total / len(changes) < 4 + count / 25


@pytest.mark.parametrize("count", [25, 100, 1000])
def test_one_for_another_moves_few(count: int) -> None:
    names = [f"10.180.{number >> 8}.{number & 255}:8080" for number in range(count)]
    changes = range(0, count, max(count // 100, 1))
    total = sum(moved(names, [*names[:at], f"10.181.0.{at & 255}:80", *names[at + 1 :]]) for at in changes)
    assert total / len(changes) < 4 + count / 25
