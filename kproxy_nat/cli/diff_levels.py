"""Comparing two sides at one level, family by family, with no more work than what differs asks for."""

from __future__ import annotations

from kproxy_nat.apply.ownership import is_owned
from kproxy_nat.cli.diff_parts import parts_of
from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.cli.diff_writes import writes_of
from kproxy_nat.diff.edits import RuleEdit, RulesetDiff
from kproxy_nat.diff.impact import Impact, impact_of
from kproxy_nat.diff.review import FamilyReview
from kproxy_nat.diff.services import diff_services
from kproxy_nat.diff.settings import diff_settings
from kproxy_nat.diff.structural import diff_rulesets, in_scope
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.iptables_layouts import jump_target


def compare(
    old: Side, new: Side, family: IpFamily, *, services: bool, ours: bool, others: bool = True
) -> FamilyReview:
    """Compare the rules of one family, and with ``services`` the Services in them.

    Args:
        old: one side.
        new: the other.
        family: of which both sides have rules.
        services: whether to read Services, too.
        ours: whether to look at chains of ours only, and at the jumps to them.
        others: whether tables of nftables that are not of one family are compared here.

    Raises:
        InvalidInputError: a rule that differs is broken.
    """
    parts = parts_of(old, new, family, others=others)
    before, after = parts.rulesets
    if ours:
        before, after = in_scope(before, is_owned), in_scope(after, is_owned)
    rules = diff_rulesets(before, after)
    writes = writes_of(after, rules, parts)
    if not services:
        return FamilyReview(family, rules, [], [], Impact(writes=writes), foreign=_foreign(rules))
    was, is_now = parts.recovered()
    changes = diff_services(was.ports, is_now.ports)
    node_ports = any(port.node_port for found in (was, is_now) for port in found.ports.values())
    settings = diff_settings(was.settings, is_now.settings, node_ports=node_ports)
    impact = impact_of(changes, was.ports, is_now.ports, writes)
    rearranged = was.settings.is_arranged_unlike(is_now.settings)
    return FamilyReview(family, rules, changes, settings, impact, _foreign(rules), rearranged)


def _foreign(rules: RulesetDiff) -> int:
    """Count edits of rules, elements and tables that are not ours."""
    count = 0
    for chain in rules.chains:
        if not is_owned(chain.table, chain.name):
            count += sum(not _is_our_jump(chain.table, edit) for edit in chain.rules) or not chain.rules
    count += sum(len(edit.elements) or 1 for edit in rules.sets if not is_owned(edit.table, edit.name))
    return count + sum(not is_owned(edit.table, "") for edit in rules.tables)


def _is_our_jump(table: str, edit: RuleEdit) -> bool:
    rule = edit.new or edit.old
    return rule is not None and is_owned(table, jump_target(rule))
