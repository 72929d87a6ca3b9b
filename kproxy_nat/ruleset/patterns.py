"""Patterns: rules that many chains have alike, but for the chain's name and one address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kproxy_nat.net.addresses import Address
from kproxy_nat.ruleset.rules import Rule, RuleOrigin


class RulePattern(Protocol):
    """What makes the rules of one chain.

    Patterns are values: equal ones make equal rules. A chain's name, which needs no quotes, and the address
    go into the rules as they are, and nothing else of the rules depends on them. So the text of one chain is
    that of all, with these two replaced.
    """

    def __hash__(self) -> int: ...

    def rules(self, chain: str, address: Address, origin: RuleOrigin | None) -> Sequence[Rule]:
        """Return the rules of ``chain``."""
        ...
