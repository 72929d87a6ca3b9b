"""Patterns: rules that many chains have alike, but for a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kproxy_nat.ruleset.rules import Rule, RuleOrigin


class RulePattern(Protocol):
    """What makes the rules of one chain from words, which need no quotes: addresses, names.

    Patterns are values: equal ones make equal rules. The words go into the rules, or into their comments, as
    they are, and nothing else of the rules depends on them. So the text of one chain is that of all, with
    other words.
    """

    def __hash__(self) -> int: ...

    def rules(self, chain: str, words: Sequence[str], origin: RuleOrigin | None) -> Sequence[Rule]:
        """Return the rules of ``chain``."""
        ...
