"""Which endpoint stands in which slot of a map, such that a change of endpoints moves few others.

Slots are dense, 0 to n - 1, as a draw of a number needs. In the order of a hash each endpoint takes the first
free one of a few slots that the hash gives it; what finds none takes what is left over, in order. The result
depends on which endpoints there are, never on how it came so.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

_TRIES = 8
_DRAWS = struct.Struct(f"<{_TRIES}I")


def slots(names: Sequence[str]) -> list[int]:
    """Return the slot of each name; names are unique."""
    count = len(names)
    if count < 2:
        return list(range(count))
    draws = [_DRAWS.unpack(hashlib.sha256(name.encode()).digest()) for name in names]
    free = [True] * count
    found = [-1] * count
    order = sorted(range(count), key=draws.__getitem__)
    for position in order:
        for draw in draws[position]:
            slot = _folded(draw, count)
            if free[slot]:
                free[slot] = False
                found[position] = slot
                break
    left = (slot for slot in range(count) if free[slot])
    for position in order:
        if found[position] < 0:
            found[position] = next(left)
    return found


def _folded(draw: int, count: int) -> int:
    """Return a number below ``count``; a larger count changes only those that come to its new numbers."""
    size = 1 << (count - 1).bit_length()
    number = draw & (size - 1)
    return number if number < count else number & (size // 2 - 1)
