"""Comparing two sides at one level, family by family, with no more work than what differs asks for."""

from __future__ import annotations

import functools
from dataclasses import replace

import msgspec

from kproxy_nat.apply.ownership import is_owned
from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.diff.edits import RuleEdit, RulesetDiff
from kproxy_nat.diff.impact import Impact, Writes, impact_of
from kproxy_nat.diff.review import FamilyReview
from kproxy_nat.diff.services import diff_services, diff_settings
from kproxy_nat.diff.structural import diff_rulesets, in_scope
from kproxy_nat.formats.iptables_difference import differing_rulesets
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.selection import Selection
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.recover.affected import affected_services
from kproxy_nat.recover.balancing import jump_target
from kproxy_nat.recover.iptables import read_services
from kproxy_nat.recover.settings import read_settings
from kproxy_nat.recover.sources import DISPATCH_CHAINS, DumpSource, RulesetSource, RuleSource
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset, Table


def compare(old: Side, new: Side, family: IpFamily, *, services: bool, ours: bool) -> FamilyReview:
    """Compare the rules of one family, and with ``services`` the Services in them.

    Args:
        old: one side.
        new: the other.
        family: of which both sides have rules.
        services: whether to read Services, too.
        ours: whether to look at chains of ours only, and at the jumps to them.

    Raises:
        InvalidInputError: a rule that differs is broken.
    """
    parts = _Parts(old, new, family)
    before, after = parts.rulesets
    if ours:
        before, after = in_scope(before, is_owned), in_scope(after, is_owned)
    rules = diff_rulesets(before, after)
    writes = _writes(after, rules, parts)
    if not services:
        return FamilyReview(family, rules, [], [], Impact(writes=writes), foreign=_foreign(rules))
    sources = parts.sources()
    old_ports, new_ports = (read_services(source) for source in sources)
    changes = diff_services(old_ports, new_ports)
    settings = diff_settings(*(read_settings(source) for source in sources))
    impact = impact_of(changes, old_ports, new_ports, writes)
    return FamilyReview(family, rules, changes, settings, impact, foreign=_foreign(rules))


class _Parts:
    """What differs between two sides in one family, as rule sets and as rules to read Services from."""

    def __init__(self, old: Side, new: Side, family: IpFamily) -> None:
        before, after = _views(old, new, family)
        self.same: NodeView | None = None
        if before is not None and after is not None:
            changed = _changed_part(before, after)
            known = {view.port.name for view in changed[1].services}
            self.same = replace(after, services=[s for s in after.services if s.port.name not in known])
            self.dumps: tuple[DumpedRules, DumpedRules] | None = None
            self.rulesets = (lower_to_ruleset(changed[0]), lower_to_ruleset(changed[1]))
        else:
            self.dumps = (old.dumped(family), new.dumped(family))
            self.rulesets = differing_rulesets(*self.dumps)

    def sources(self) -> tuple[RuleSource, RuleSource]:
        """Return where Services are read from: those that can differ, and perhaps others."""
        if self.dumps is None:
            return RulesetSource(self.rulesets[0]), RulesetSource(self.rulesets[1])
        old, new = self.dumps
        wanted = affected_services(old.dump, new.dump)
        return DumpSource(old, wanted), DumpSource(new, wanted)

    def same_rules(self, table: str, chain: str) -> list[Rule]:
        """Return the rules in a dispatch chain of Services that do not differ and so were not compiled."""
        if self.same is None or chain not in DISPATCH_CHAINS.get(table, ()):
            return []
        return [rule for rule in self._same_dispatch.tables[table].chains[chain].rules if rule.origin]

    @functools.cached_property
    def _same_dispatch(self) -> Ruleset:
        """One endpoint of each kind makes the same rules in the dispatch chains as all of them."""
        assert self.same is not None
        services = [ServiceView(view.port, _one_of_each(view.endpoints)) for view in self.same.services]
        return lower_to_ruleset(replace(self.same, services=services))


def _views(old: Side, new: Side, family: IpFamily) -> tuple[NodeView | None, NodeView | None]:
    """Return the views of both sides; of a side with nothing, the other's without Services."""
    before, after = old.view(family), new.view(family)
    if before is None and old.is_empty and after is not None:
        before = NodeView(family, after.options, [], 0)
    if after is None and new.is_empty and before is not None:
        after = NodeView(family, before.options, [], 0)
    return before, after


def _changed_part(old: NodeView, new: NodeView) -> tuple[NodeView, NodeView]:
    """Return the views without the Services whose rules are the same in both."""
    if old.options != new.options or old.is_large_cluster != new.is_large_cluster:
        return old, new
    before = {view.port.name: view for view in old.services}
    same = {
        view.port.name
        for view in new.services
        if (known := before.get(view.port.name)) is not None and _same_rules(known, view)
    }
    return (
        replace(old, services=[view for view in old.services if view.port.name not in same]),
        replace(new, services=[view for view in new.services if view.port.name not in same]),
    )


def _one_of_each(chosen: Selection) -> Selection:
    cluster, local = chosen.cluster[:1], chosen.local[:1]
    reachable = list({endpoint.text: endpoint for endpoint in (*cluster, *local)}.values())
    return Selection(cluster, local, reachable, chosen.any_usable)


def _same_rules(old: ServiceView, new: ServiceView) -> bool:
    """Whether two views of a service port make the same rules; where it was read from is not in them."""
    if msgspec.structs.astuple(old.port)[:-1] != msgspec.structs.astuple(new.port)[:-1]:
        return False
    before, after = old.endpoints, new.endpoints
    if before == after:
        return True
    return before.any_usable == after.any_usable and all(
        [e.text for e in mine] == [e.text for e in theirs]
        for mine, theirs in (
            (before.cluster, after.cluster),
            (before.local, after.local),
            (before.reachable, after.reachable),
        )
    )


def _writes(new: Ruleset, rules: RulesetDiff, parts: _Parts) -> Writes:
    """Return what is handed to the kernel to get to the new rules: every chain that differs, whole."""
    part = Ruleset(new.family)
    deleted = 0
    for edit in rules.chains:
        table = new.tables.get(edit.table)
        chain = table.chains.get(edit.name) if table else None
        if chain is None:
            deleted += 1
            continue
        rest = parts.same_rules(edit.table, edit.name)
        kept = part.tables.setdefault(edit.table, Table(edit.table))
        kept.chains[edit.name] = Chain(chain.name, [*chain.rules, *rest], chain.policy)
        deleted += edit.is_renamed
    text = render_save(part)
    return Writes(text.count("\n-A "), len(text.encode()), deleted)


def _foreign(rules: RulesetDiff) -> int:
    """Count edits of rules that are not ours."""
    count = 0
    for chain in rules.chains:
        if not is_owned(chain.table, chain.name):
            count += sum(not _is_our_jump(chain.table, edit) for edit in chain.rules) or not chain.rules
    return count


def _is_our_jump(table: str, edit: RuleEdit) -> bool:
    rule = edit.new or edit.old
    return rule is not None and is_owned(table, jump_target(rule))
