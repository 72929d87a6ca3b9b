"""Differences as JSON, for other programs: ``docs/diff.md`` describes the form."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from kproxy_nat.cli.output import json_text
from kproxy_nat.diff.edits import ChainEdit, RuleEdit
from kproxy_nat.diff.facts import Fact, ServiceChange
from kproxy_nat.diff.flows import Outcome
from kproxy_nat.diff.review import FamilyReview, Level, Review
from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.net.addresses import IpFamily

FORMAT = "kproxy-nat/diff"
VERSION = 1


def review_json(review: Review) -> str:
    """Return a comparison as indented JSON, with a line feed at the end."""
    counts = review.counts
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "old": review.old,
        "new": review.new,
        "level": review.level,
        "changed": review.changed,
        "services": [_service(change) for change in review.services],
        "settings": [_fact(fact) | {"family": f.family} for f in review.families for fact in f.settings],
        "rules": {
            "added": counts.added,
            "removed": counts.removed,
            "moved": counts.moved,
            "updated": counts.updated,
            "harmless_moves": counts.harmless_moves,
            "endpoint_count_updates": counts.endpoint_count_updates,
            "without_effect": review.without_effect,
            "foreign": review.foreign,
        },
        "impact": msgspec.to_builtins(review.impact),
    }
    if review.level is Level.STRUCTURAL:
        document["chains"] = [chain for family in review.families for chain in _chains(family)]
    return json_text(document)


def _service(change: ServiceChange) -> dict[str, Any]:
    made: dict[str, Any] = {
        "service": change.key.service,
        "protocol": change.key.protocol,
        "family": change.family,
        "change": change.change,
        "source": change.place,
        "facts": [_fact(fact) for fact in change.facts],
        "flows": [
            {"to": f.to, "from": f.source, "old": _outcome(f.old), "new": _outcome(f.new)}
            for f in change.flows
        ],
    }
    return made | ({"old_service": str(change.old_key)} if change.old_key else {})


def _fact(fact: Fact) -> dict[str, Any]:
    return {"sign": fact.sign, "topic": fact.topic, "text": fact.text, "source": fact.place}


def _outcome(outcome: Outcome | None) -> dict[str, str] | None:
    if outcome is None:
        return None
    return {endpoint: _share(share) for endpoint, share in outcome.items()}


def _share(share: Fraction) -> str:
    return str(share)


def _chains(family: FamilyReview) -> Iterator[dict[str, Any]]:
    for chain in family.rules.chains:
        yield _chain(chain, family.family)


def _chain(chain: ChainEdit, family: IpFamily) -> dict[str, Any]:
    made: dict[str, Any] = {
        "family": family,
        "table": chain.table,
        "chain": chain.name,
        "edit": chain.kind,
        "rules": [_edit(edit, family) for edit in chain.rules],
    }
    if chain.is_renamed:
        made["old_chain"] = chain.old_name
    if chain.policies[0] != chain.policies[1]:
        made["policies"] = chain.policies
    return made


def _edit(edit: RuleEdit, family: IpFamily) -> dict[str, Any]:
    made: dict[str, Any] = {"edit": edit.kind, "old_place": edit.old_place, "new_place": edit.new_place}
    made["old"] = render_rule(edit.old, family) if edit.old else None
    made["new"] = render_rule(edit.new, family) if edit.new else None
    if edit.cause:
        made["cause"] = edit.cause
    return made | ({"harmless": True} if edit.harmless else {})
