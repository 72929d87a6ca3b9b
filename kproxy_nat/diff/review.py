"""The result of a comparison, as all outputs show it."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

from kproxy_nat.diff.edits import Cause, Counts, EditKind, RulesetDiff
from kproxy_nat.diff.facts import Fact, ServiceChange, Topic
from kproxy_nat.diff.impact import Impact
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.model import PortKey


class Level(enum.StrEnum):
    """What is compared."""

    TEXT = "text"
    STRUCTURAL = "structural"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class FamilyReview:
    """What differs in one family.

    Attributes:
        settings: differences of the proxy's options.
        foreign: how many edits concern rules that are not ours.
        rearranged: whether all rules are others since the mode or the layout is another one.
        whole: the same with what filters leave out, if there are any.
    """

    family: IpFamily
    rules: RulesetDiff
    services: list[ServiceChange]
    settings: list[Fact]
    impact: Impact
    foreign: int = 0
    rearranged: bool = False
    whole: FamilyReview | None = None

    @property
    def without_effect(self) -> int:
        """How many edits of our rules change no Service: of their order, names and comments."""
        if self.whole is not None:
            return self.whole.without_effect
        if self.rearranged:
            return 0
        if not self.services and not self.settings:
            sets = sum(len(edit.elements) or 1 for edit in self.rules.sets)
            chains = sum(len(chain.rules) or 1 for chain in self.rules.chains)
            return chains + sets + len(self.rules.tables) - self.foreign
        renamed = any(change.old_key for change in self.services)
        return sum(
            (edit.kind is EditKind.MOVE and edit.harmless)
            or edit.cause is Cause.ENDPOINT_ORDER
            or (edit.cause is Cause.COMMENT and not renamed)
            for edit in self.rules.rules()
        )


@dataclass(frozen=True, slots=True)
class Review:
    """The whole.

    Attributes:
        several_families: whether the sides were compared in both families.
        hidden: how many differences filters leave out.
    """

    old: str
    new: str
    level: Level
    families: list[FamilyReview]
    several_families: bool = False
    hidden: int = field(default=0)

    @property
    def changed(self) -> bool:
        """Whether the sides differ at the level of the comparison."""
        if self.level is Level.SERVICE:
            return any(f.services or f.settings for f in self.families)
        return any(f.rules for f in self.families)

    @property
    def services(self) -> Iterator[ServiceChange]:
        """The Services that differ."""
        for family in self.families:
            yield from family.services

    @property
    def settings(self) -> Iterator[tuple[IpFamily | None, list[Fact]]]:
        """What differs of the proxy's options: first for all families, then for one alone."""
        lists = [family.settings for family in self.families]
        common = [fact for fact in lists[0] if all(fact in facts for facts in lists)] if lists else []
        groups: list[tuple[IpFamily | None, list[Fact]]] = [(None, common)]
        groups += [(f.family, [fact for fact in f.settings if fact not in common]) for f in self.families]
        return ((family, facts) for family, facts in groups if facts)

    @property
    def in_both_families(self) -> set[PortKey]:
        """The service ports that differ in more than one family."""
        counted = Counter(change.key for change in self.services)
        return {key for key, count in counted.items() if count > 1}

    @property
    def counts(self) -> Counts:
        """How many rules differ."""
        return reduce(add, (family.rules.counts() for family in self.families), Counts())

    @property
    def impact(self) -> Impact:
        """What the change does."""
        return reduce(add, (family.impact for family in self.families), Impact())

    @property
    def without_effect(self) -> int:
        """See :class:`FamilyReview`."""
        return sum(family.without_effect for family in self.families)

    @property
    def foreign(self) -> int:
        """See :class:`FamilyReview`."""
        return sum(family.foreign for family in self.families)


def filtered(review: Review, services: set[str], topics: set[Topic]) -> Review:
    """Return what is left when only these Services and topics are looked at; empty sets stand for all.

    A Service is named ``namespace/name`` or ``name``, or with a port.
    """
    families = []
    hidden = 0
    for family in review.families:
        shown = []
        for change in family.services:
            facts = tuple(fact for fact in change.facts if not topics or fact.topic in topics)
            if facts and (not services or services & _names(change)):
                shown.append(_with_facts(change, facts))
            else:
                hidden += 1
        settings = [fact for fact in family.settings if not services and (not topics or fact.topic in topics)]
        hidden += len(family.settings) - len(settings)
        families.append(replace(family, services=shown, settings=settings, whole=family.whole or family))
    return replace(review, families=families, hidden=hidden)


def _names(change: ServiceChange) -> set[str]:
    names: set[str] = set()
    for key in (change.key, change.old_key):
        if key is not None:
            whole = key.namespace_and_name
            names |= {str(key), key.service, whole, whole.partition("/")[2]}
    return names


def _with_facts(change: ServiceChange, facts: tuple[Fact, ...]) -> ServiceChange:
    c = change
    return ServiceChange(c.key, c.family, c.change, facts, c.flows, c.addresses, c.old_key, c.place)
