"""Rules that many chains have alike, as text, in whichever style."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kproxy_nat.formats.templates import Template, blanks
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.patterns import RulePattern
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.transactions import AppendAlike

Appender = Callable[[str, Sequence[Rule]], str]
"""Writes rules as lines that append them to the chain of that name."""


class PatternWriter:
    """Writes rules that are alike, by templates that serve a whole transaction.

    Args:
        family: of the rules.
        append: writes rules one by one, in the style that is wanted.
    """

    def __init__(self, family: IpFamily, append: Appender) -> None:
        self._family = family
        self._append = append
        self._templates: dict[RulePattern, Template] = {}

    def write(self, command: AppendAlike) -> str:
        """Return the rules of all chains of ``command``."""
        if self._has_unusual_address(command):
            return "".join(self._one_by_one(command))
        return self._template(command).fill((command.chains, *command.words))

    def write_each(self, command: AppendAlike) -> list[str]:
        """Return the rules of each chain of ``command``."""
        if self._has_unusual_address(command):
            return self._one_by_one(command)
        return self._template(command).fill_each((command.chains, *command.words))

    def _has_unusual_address(self, command: AppendAlike) -> bool:
        """Tell whether there is an address that is not always written as it is kept."""
        return self._family is IpFamily.IPV6 and any(
            word.startswith("::") for words in command.words for word in words
        )

    def _one_by_one(self, command: AppendAlike) -> list[str]:
        rows = zip(command.chains, *command.words, strict=True)
        return [self._append(chain, command.pattern.rules(chain, words, None)) for chain, *words in rows]

    def _template(self, command: AppendAlike) -> Template:
        template = self._templates.get(command.pattern)
        if template is None:
            chain, *words = blanks(1 + len(command.words), self._family)
            text = self._append(chain, command.pattern.rules(chain, words, None))
            template = self._templates[command.pattern] = Template(text)
        return template
