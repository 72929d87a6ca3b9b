"""Texts that are alike, written once with blanks for some words, and filled in for each.

A template is made by the renderer that writes all other rules, from a rule whose words are the blanks. So it
cannot say anything else than the renderer does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kproxy_nat.net.addresses import IpFamily

_BLANK = re.compile("\0([0-9]+):?\0")


def blanks(count: int, family: IpFamily) -> list[str]:
    """Return words that stand for others. No rule holds a NUL; a colon is what IPv6 addresses are told by."""
    mark = ":" if family is IpFamily.IPV6 else ""
    return [f"\0{number}{mark}\0" for number in range(count)]


class Template:
    """A text with blanks."""

    def __init__(self, text: str) -> None:
        self._parts = _BLANK.split(text)
        self._blanks = [(at, int(self._parts[at])) for at in range(1, len(self._parts), 2)]

    def fill(self, words: Sequence[Sequence[str]]) -> str:
        """Return the text for each row of ``words``: columns of equal length, one for each blank."""
        return "".join(self._filled(words))

    def fill_each(self, words: Sequence[Sequence[str]]) -> list[str]:
        """Return the same row by row."""
        parts, width = self._filled(words), len(self._parts)
        return ["".join(parts[start : start + width]) for start in range(0, len(parts), width)]

    def _filled(self, words: Sequence[Sequence[str]]) -> list[str]:
        parts = self._parts * len(words[0])
        for position, number in self._blanks:
            parts[position :: len(self._parts)] = words[number]
        return parts
