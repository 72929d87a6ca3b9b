"""Rules and elements of nftables as text for people: also those that have no form in nft's own text."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec

from kproxy_nat.formats.nft_render import element_text
from kproxy_nat.formats.nft_words import ListingWords, NotWritableError
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.sets import Element


class _ShownWords(ListingWords):
    """The words of listings, with those that others wrote, and JSON, where they stand."""

    def __init__(self, family: str) -> None:
        super().__init__(family)
        self.writers |= {
            matches.OpaqueStatement: lambda m: m.json,
            actions.OpaqueAction: lambda a: a.text,
        }


@functools.lru_cache(maxsize=8)
def _words(family: str) -> _ShownWords:
    return _ShownWords(family)


def shown_rule(rule: Rule, family: str) -> str:
    """Return a canonical rule of an nft family as nft lists it; its parts as JSON where that has no form."""
    try:
        return _words(family).rule(rule)
    except NotWritableError:
        return msgspec.json.encode((rule.matches, rule.actions)).decode()


def shown_element(element: Element, types: Sequence[str] = ()) -> str:
    """Return an element as nft lists it; ``types`` are those of its key, where they are known."""
    if element.other and (element.other,) == element.key:
        return element.other
    try:
        return element_text(element, types)
    except NotWritableError:
        return msgspec.json.encode(element).decode()
