"""Differences as JSON, for other programs: ``docs/diff.md`` describes the form."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec

from kproxy_nat.cli.diff_structure import changed_properties, entry_texts, rule_text
from kproxy_nat.diff.edits import Cause, ChainEdit, RuleEdit, SetEdit
from kproxy_nat.diff.facts import Fact, ServiceChange
from kproxy_nat.diff.flows import Outcome
from kproxy_nat.diff.review import Level, Review
from kproxy_nat.formats.nft_shown import shown_element
from kproxy_nat.json_text import json_text
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
            "elements_added": counts.elements_added,
            "elements_removed": counts.elements_removed,
            "elements_updated": counts.elements_updated,
            "without_effect": review.without_effect,
            "foreign": review.foreign,
        },
        "impact": msgspec.to_builtins(review.impact),
    }
    if review.level is Level.STRUCTURAL:
        document |= _structure(review)
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


def _structure(review: Review) -> dict[str, Any]:
    """Return the edits of chains, and for nftables those of sets and tables."""
    families = review.families
    return {
        "chains": [_chain(chain, family.family) for family in families for chain in family.rules.chains],
        "sets": [_set(edit) for family in families for edit in family.rules.sets],
        "tables": [
            {"table": edit.table, "edit": edit.kind, "comments": edit.comments}
            for family in families
            for edit in family.rules.tables
        ],
    }


def _chain(chain: ChainEdit, family: IpFamily) -> dict[str, Any]:
    made: dict[str, Any] = {
        "family": family,
        "table": chain.table,
        "chain": chain.name,
        "edit": chain.kind,
        "rules": [_edit(edit, chain.table, family) for edit in chain.rules],
    }
    if chain.is_renamed:
        made["old_chain"] = chain.old_name
    if chain.policies[0] != chain.policies[1]:
        made["policies"] = chain.policies
    if chain.hooks[0] != chain.hooks[1]:
        made["hooks"] = [msgspec.to_builtins(hook) for hook in chain.hooks]
    return made


def _edit(edit: RuleEdit, table: str, family: IpFamily) -> dict[str, Any]:
    made: dict[str, Any] = {"edit": edit.kind, "old_place": edit.old_place, "new_place": edit.new_place}
    made["old"] = rule_text(edit.old, table, family) or None
    made["new"] = rule_text(edit.new, table, family) or None
    if edit.cause:
        made["cause"] = edit.cause
    if edit.cause is Cause.ENDPOINTS:
        made |= {"gone": entry_texts(edit.gone), "come": entry_texts(edit.come)}
    return made | ({"harmless": True} if edit.harmless else {})


def _set(edit: SetEdit) -> dict[str, Any]:
    named = edit.after or edit.before
    types = named.key_types if named else ()
    made: dict[str, Any] = {
        "table": edit.table,
        "set": edit.name,
        "map": edit.is_map,
        "edit": edit.kind,
        "elements": [
            {
                "edit": element.kind,
                "old": shown_element(element.old, types) if element.old else None,
                "new": shown_element(element.new, types) if element.new else None,
            }
            for element in edit.elements
        ],
    }
    if edit.old_name != edit.name:
        made["old_set"] = edit.old_name
    changed = changed_properties(edit.before, edit.after) if edit.before and edit.after else {}
    return made | ({"properties": changed} if changed else {})
