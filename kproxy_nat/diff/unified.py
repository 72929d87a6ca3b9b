"""A unified diff of two canonical texts, chain by chain.

Lines are compared within their chain, so that half a million of them cost no more than the chains that
differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

Block = tuple[tuple[str, ...], list[str]]
"""Lines that belong together, under a key that both texts sort by."""

Opcode = tuple[str, int, int, int, int]
"""As of :class:`difflib.SequenceMatcher`: a tag, and the ranges of lines in both texts."""

_CONTEXT = 3


def unified_diff(old: Sequence[Block], new: Sequence[Block], old_name: str, new_name: str) -> Iterator[str]:
    """Yield the lines of a unified diff, without line feeds; none if the texts are the same.

    Both texts have their blocks in the same order of keys.
    """
    opcodes = list(_opcodes(old, new))
    if all(tag == "equal" for tag, *_ in opcodes):
        return
    before = [line for _, lines in old for line in lines]
    after = [line for _, lines in new for line in lines]
    yield f"--- {old_name}"
    yield f"+++ {new_name}"
    for group in _grouped(opcodes):
        yield _hunk_heading(group)
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[i1:i2])
            else:
                yield from (f"-{line}" for line in before[i1:i2])
                yield from (f"+{line}" for line in after[j1:j2])


def _opcodes(old: Sequence[Block], new: Sequence[Block]) -> Iterator[Opcode]:
    """Yield what happens to the lines, block by block."""
    position = {key: place for place, (key, _) in enumerate(new)}
    after = 0
    i = j = 0
    for key, lines in old:
        place = position.get(key)
        if place is None:
            yield "delete", i, i + len(lines), j, j
            i += len(lines)
            continue
        for _, added in new[after:place]:
            yield "insert", i, i, j, j + len(added)
            j += len(added)
        held = new[place][1]
        yield from _block_opcodes(lines, held, i, j)
        i, j, after = i + len(lines), j + len(held), place + 1
    for _, added in new[after:]:
        yield "insert", i, i, j, j + len(added)
        j += len(added)


def _block_opcodes(old: list[str], new: list[str], i: int, j: int) -> Iterator[Opcode]:
    if old == new:
        if old:
            yield "equal", i, i + len(old), j, j + len(new)
        return
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield tag, i + i1, i + i2, j + j1, j + j2


def _grouped(opcodes: Sequence[Opcode]) -> Iterator[list[Opcode]]:
    """Yield the hunks: changes with some lines around them."""
    joined: list[Opcode] = []
    for tag, i1, i2, j1, j2 in opcodes:
        if joined and tag == "equal" == joined[-1][0]:
            joined[-1] = ("equal", joined[-1][1], i2, joined[-1][3], j2)
        elif i1 != i2 or j1 != j2:
            joined.append((tag, i1, i2, j1, j2))
    group: list[Opcode] = []
    for position, (tag, i1, i2, j1, j2) in enumerate(joined):
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
        elif position in (0, len(joined) - 1) or i2 - i1 > 2 * _CONTEXT:
            if group:
                yield [*group, ("equal", i1, min(i2, i1 + _CONTEXT), j1, min(j2, j1 + _CONTEXT))]
            group = [("equal", max(i1, i2 - _CONTEXT), i2, max(j1, j2 - _CONTEXT), j2)]
        else:
            group.append((tag, i1, i2, j1, j2))
    if any(tag != "equal" for tag, *_ in group):
        yield group


def _hunk_heading(group: Sequence[Opcode]) -> str:
    first, last = group[0], group[-1]
    return f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"


def _range(start: int, end: int) -> str:
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"
