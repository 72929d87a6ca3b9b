"""Trees over leading bits: complete, bounded, and stable when one entry comes or goes."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from kproxy_nat.lowering.prefix_tree import Entry, Node, Shape, build_tree

WIDTH = 16
SHAPE = Shape(WIDTH, range(2, WIDTH + 1, 2), bucket=4, depth=5)
DEEP = Shape(WIDTH, range(2, WIDTH + 1, 2), bucket=4, depth=WIDTH)
"""Deep enough for whatever numbers there are."""

keys = st.lists(st.integers(0, (1 << WIDTH) - 1), max_size=60)


def tree(numbers: list[int], shape: Shape = SHAPE) -> Node[int]:
    entries = sorted(((number, order) for order, number in enumerate(numbers)), key=lambda e: e[0])
    return build_tree(entries, shape)


def entries_of(node: Node[int]) -> Iterator[Entry[int]]:
    for member in node.members:
        if isinstance(member, Node):
            yield from entries_of(member)
        else:
            yield member


def nodes_of(node: Node[int], depth: int = 1) -> Iterator[tuple[Node[int], int]]:
    yield node, depth
    for member in node.members:
        if isinstance(member, Node):
            yield from nodes_of(member, depth + 1)


@given(keys)
def test_every_entry_is_found_once_in_order(numbers: list[int]) -> None:
    found = list(entries_of(tree(numbers)))
    assert found == sorted(((n, order) for order, n in enumerate(numbers)), key=lambda e: e[0])


@given(keys)
def test_entries_lie_in_their_nodes_and_children_in_their_parents(numbers: list[int]) -> None:
    for node, _ in nodes_of(tree(numbers)):
        below = WIDTH - node.length
        assert all(number >> below == node.value >> below for number, _ in entries_of(node))


@given(keys)
def test_nodes_are_small_unless_depth_or_equal_numbers_forbid_it(numbers: list[int]) -> None:
    for node, depth in nodes_of(tree(numbers)):
        assert depth <= SHAPE.depth
        distinct = {number for number, _ in entries_of(node)}
        if depth < SHAPE.depth and len(distinct) > 1:
            assert len(node.members) <= SHAPE.bucket


@given(keys, st.integers(0, (1 << WIDTH) - 1))
@example([0, 0, 0, 0, 1, 4, 16, 256], 64)
def test_an_entry_more_changes_its_own_path_only(numbers: list[int], added: int) -> None:
    """As long as the depth does not run out: where it does, a node that is pushed down keeps all entries."""

    def contents(of: list[int]) -> dict[tuple[int, int], str]:
        return {
            (node.value, node.length): repr(
                [(m.value, m.length) if isinstance(m, Node) else m[0] for m in node.members]
            )
            for node, _ in nodes_of(tree(of, DEEP))
        }

    before, after = contents(sorted(numbers)), contents(sorted([*numbers, added]))
    for place in before.keys() | after.keys():
        value, length = place
        if before.get(place) != after.get(place):
            on_path = added >> WIDTH - length == value >> WIDTH - length
            assert on_path or place not in before or place not in after


@given(st.permutations([3, 70, 71, 900, 5000, 5001, 5002, 40000]))
def test_the_order_of_arrival_does_not_matter(numbers: list[int]) -> None:
    assert [n for n, _ in entries_of(tree(numbers))] == sorted(numbers)
