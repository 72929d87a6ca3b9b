"""How iptables writes and reads words: quotes and backslashes.

``iptables-restore`` splits a line at blanks, except within double quotes, where a backslash takes the next
character as it is. ``iptables-save`` quotes every word that holds anything but letters, digits, ``_`` and
``-``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SAVED_BARE = re.compile(r"[-_0-9A-Za-z]+", re.ASCII)
_RESTORED_BARE = re.compile(r"[^\s\"'\\!-][^\s\"'\\]*+")


class QuotingError(ValueError):
    """A line whose quotes do not end."""


class Word(NamedTuple):
    """One argument: its value, and where its text stands in the line."""

    value: str
    start: int
    end: int


def save_word(text: str) -> str:
    """Return ``text`` as iptables-save prints it."""
    if _SAVED_BARE.fullmatch(text):
        return text
    return _quoted(text)


def restore_word(text: str) -> str:
    """Return ``text`` as kube-proxy writes it: quoted only where it must be."""
    if _RESTORED_BARE.fullmatch(text):
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    for special in ("\\", '"', "'"):
        if special in text:
            text = text.replace(special, f"\\{special}")
    return f'"{text}"'


def split_words(line: str) -> list[Word]:
    """Return the words of ``line``.

    Raises:
        QuotingError: a quote is not closed.
    """
    if '"' not in line:
        return [Word(found[0], found.start(), found.end()) for found in re.finditer(r"[^ \t]+", line)]
    words: list[Word] = []
    position = 0
    while True:
        while position < len(line) and line[position] in " \t":
            position += 1
        if position == len(line):
            return words
        value, end = _read_word(line, position)
        words.append(Word(value, position, end))
        position = end


def _read_word(line: str, start: int) -> tuple[str, int]:
    """Return the value of the word at ``start``, and its end; a quote may begin within a word and ends it."""
    value: list[str] = []
    position = start
    quoted = False
    while position < len(line):
        character = line[position]
        if quoted and character == "\\" and position + 1 < len(line):
            position += 1
            value.append(line[position])
        elif quoted and character == '"':
            return "".join(value), position + 1
        elif character == '"':
            quoted = True
        elif not quoted and character in " \t":
            break
        else:
            value.append(character)
        position += 1
    if quoted:
        raise QuotingError("a quote is not closed")
    return "".join(value), position
