"""Laws of differences: nothing differs from itself, edits lead from old to new, order is no matter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.diff.edits import EditKind, RulesetDiff
from kproxy_nat.diff.rules import diff_rules
from kproxy_nat.diff.services import diff_services
from kproxy_nat.diff.settings import diff_settings
from kproxy_nat.diff.structural import apply_diff, diff_rulesets
from kproxy_nat.diff.unified import Block, unified_diff
from kproxy_nat.formats.iptables_difference import differing_rulesets
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules, load_dump
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.recover.affected import affected_services
from kproxy_nat.recover.iptables import read_services
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.recover.settings import read_settings
from kproxy_nat.recover.sources import DumpSource, RulesetSource
from kproxy_nat.ruleset.actions import Accept, Drop, Jump
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.matches import Comment
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset, Table
from tests.oracle.compiling import random_input
from tests.property.strategies_rules import rulesets

SEEDS = range(2000, 2016)
by_seed = pytest.mark.parametrize("seed", SEEDS)
families = st.sampled_from(IpFamily)


def held(ruleset: Ruleset) -> dict[tuple[str, str], tuple[str | None, list[Rule]]]:
    """Return what a rule set holds, in canonical form, without tables and chains of built-in emptiness."""
    return {
        (table.name, chain.name): (chain.policy, [canonical_rule(rule) for rule in chain.rules])
        for table in ruleset.tables.values()
        for chain in table.chains.values()
        if chain.rules or chain.policy != "ACCEPT"
    }


@settings(deadline=None)
@given(st.data(), families)
def test_edits_lead_from_old_to_new(data: st.DataObject, family: IpFamily) -> None:
    old, new = data.draw(rulesets(family)), data.draw(rulesets(family))
    assert held(apply_diff(old, diff_rulesets(old, new))) == held(new)


@settings(deadline=None)
@given(st.data(), families)
def test_nothing_differs_from_itself(data: st.DataObject, family: IpFamily) -> None:
    ruleset = data.draw(rulesets(family))
    assert diff_rulesets(ruleset, ruleset) == RulesetDiff(family, ())


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), max_size=12), st.lists(st.integers(0, 8), max_size=12))
def test_as_many_rules_stay_as_can(old: list[int], new: list[int]) -> None:
    """What stays in its place is a longest common sequence, where no rule is there twice."""
    old, new = list(dict.fromkeys(old)), list(dict.fromkeys(new))
    edits = diff_rules([rule(n) for n in old], [rule(n) for n in new])
    stay = len(old) - sum(edit.kind is not EditKind.INSERT for edit in edits)
    assert stay == longest_common(old, new)


def rule(number: int) -> Rule:
    return Rule((Comment(str(number)),), (Jump(f"C{number}"),))


def longest_common(old: Sequence[int], new: Sequence[int]) -> int:
    """Return the length of a longest common subsequence, by the textbook."""
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, before in enumerate(old, start=1):
        for j, after in enumerate(new, start=1):
            best[i][j] = best[i - 1][j - 1] + 1 if before == after else max(best[i - 1][j], best[i][j - 1])
    return best[-1][-1]


@settings(deadline=None)
@given(st.data())
def test_a_chain_under_another_name_is_the_same_chain(data: st.DataObject) -> None:
    """Renaming all user chains by one permutation of new names leaves no rule to insert or remove."""
    names = ["A", "B", "C"]
    renamed = dict(zip(names, data.draw(st.permutations(["X", "Y", "Z"])), strict=True))
    old = Ruleset(IpFamily.IPV4, {"nat": user_table({name: name for name in names})})
    new = Ruleset(IpFamily.IPV4, {"nat": user_table(renamed)})
    diff = diff_rulesets(old, new)
    assert {edit.old_name: edit.name for edit in diff.chains if edit.is_renamed} == renamed
    assert not list(diff.rules())


def user_table(names: dict[str, str]) -> Table:
    """Return a table in which OUTPUT leads to A, A to B and C, and these to different ends."""
    a, b, c = names["A"], names["B"], names["C"]
    chains = {
        "OUTPUT": Chain("OUTPUT", [Rule((), (Jump(a),))], "ACCEPT"),
        a: Chain(a, [Rule((Comment("x"),), (Jump(b),)), Rule((), (Jump(c),))]),
        b: Chain(b, [Rule((), (Accept(),))]),
        c: Chain(c, [Rule((), (Drop(),))]),
    }
    return Table("nat", chains)


lines = st.lists(st.sampled_from("abcd"), max_size=6)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("pqrst"), st.tuples(lines, lines, st.integers(0, 2)), max_size=5))
def test_a_unified_diff_holds_both_sides(parts: dict[str, tuple[list[str], list[str], int]]) -> None:
    """Context and removals are parts of the old text in order, context and additions of the new one."""
    old: list[Block] = [((key,), parts[key][0]) for key in sorted(parts) if parts[key][2] != 1]
    new: list[Block] = [((key,), parts[key][1]) for key in sorted(parts) if parts[key][2] != 2]
    before = [line for _, held in old for line in held]
    after = [line for _, held in new for line in held]
    text = list(unified_diff(old, new, "old", "new"))
    assert text or old == new
    assert not text or old != new
    assert patched(before, text) == after


def patched(before: list[str], text: list[str]) -> list[str]:
    """Apply a unified diff, as patch(1) would."""
    result: list[str] = []
    position = 0
    for line in text[2:]:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            begin = int(start) - (0 if count == "0" else 1)
            result += before[position:begin]
            position = begin
        elif line[0] == "+":
            result.append(line[1:])
        else:
            assert before[position] == line[1:]
            result += [line[1:]] if line[0] == " " else []
            position += 1
    return result + before[position:]


def views(seed: int) -> list[NodeView]:
    """Return both families' views of a random cluster."""
    made = random_input(seed, sizes=(8, 20))
    return [made.view(family) for family in IpFamily]


def variant(view: NodeView, seed: int) -> NodeView:
    """Return the view with some Services left out."""
    rng = random.Random(seed)
    kept = [service for service in view.services if rng.random() < 0.8]
    return NodeView(view.family, view.options, kept, view.endpoint_count)


def dumped(view: NodeView) -> DumpedRules:
    text = render_save(lower_to_ruleset(view))
    return DumpedRules(load_dump(text, view.family), text)


@by_seed
def test_recovered_services_are_those_of_the_view(seed: int) -> None:
    for view in views(seed):
        found = read_services(DumpSource(dumped(view)))
        expected = {PortKey(s.port.text, s.port.name.protocol) for s in view.services}
        assert found.keys() == expected
        for service in view.services:
            check_port(found[PortKey(service.port.text, service.port.name.protocol)], service)


def check_port(port: RecoveredPort, service: ServiceView) -> None:
    wanted, chosen = service.port, service.endpoints
    assert port.rest == ()
    assert (port.cluster_ip, port.port) == (wanted.cluster_ip, wanted.port)
    assert port.node_port == wanted.node_port
    assert port.health_check_node_port == wanted.health_check_node_port
    assert set(port.addresses) == {*wanted.external_ips, *wanted.load_balancer_vips}
    if service.balances_cluster:
        assert port.cluster == {e.text: Fraction(1, len(chosen.cluster)) for e in chosen.cluster}
    if service.balances_local:
        assert port.local == {e.text: Fraction(1, len(chosen.local)) for e in chosen.local}
    if service.has_internal_endpoints:
        assert port.internal_policy == ("Local" if wanted.internal_local else "Cluster")
        assert port.affinity_seconds == wanted.affinity_seconds
    if service.is_reached_from_outside:
        assert port.external_policy == ("Local" if wanted.external_local else "Cluster")
    if service.is_firewalled:
        assert port.source_ranges == wanted.source_ranges
    refused = not service.has_endpoints
    assert (port.internal_verdict == "REJECT") == refused


@by_seed
def test_reading_what_is_affected_is_reading_what_differs(seed: int) -> None:
    """The Services that are left unread are the same on both sides."""
    for view in views(seed):
        old, new = dumped(view), dumped(variant(view, seed))
        wanted = affected_services(old.dump, new.dump)
        narrow = [read_services(DumpSource(side, wanted)) for side in (old, new)]
        whole = [read_services(DumpSource(side)) for side in (old, new)]
        assert diff_services(*narrow) == diff_services(*whole)


@by_seed
def test_a_difference_of_services_is_one_of_rules(seed: int) -> None:
    first, second = views(seed), views(seed + 1)
    for old_view, new_view in [*zip(first, second, strict=True), *((v, variant(v, seed)) for v in first)]:
        old, new = dumped(old_view), dumped(new_view)
        rules = diff_rulesets(*differing_rulesets(old, new))
        before, after = (read_services(DumpSource(side)) for side in (old, new))
        if diff_services(before, after):
            assert rules.chains
        if not rules.chains:
            assert before == after
        whole = apply_diff(
            lower_to_ruleset(old_view), diff_rulesets(lower_to_ruleset(old_view), lower_to_ruleset(new_view))
        )
        assert held(whole) == held(lower_to_ruleset(new_view))


@by_seed
def test_nothing_differs_from_itself_at_any_level(seed: int) -> None:
    for view in views(seed):
        rules = dumped(view)
        source = RulesetSource(lower_to_ruleset(view))
        services = read_services(source)
        assert services == read_services(DumpSource(rules))
        assert diff_services(services, services) == []
        assert diff_settings(read_settings(source), read_settings(DumpSource(rules))) == []
        assert affected_services(rules.dump, rules.dump) == set()


@by_seed
def test_order_of_services_in_the_rules_is_no_difference(seed: int) -> None:
    """kube-proxy writes Services in random order: rules move without harm, and no Service differs."""
    for view in views(seed):
        shuffled = list(view.services)
        random.Random(seed).shuffle(shuffled)
        other = NodeView(view.family, view.options, shuffled, view.endpoint_count)
        old, new = dumped(view), dumped(other)
        before, after = (read_services(DumpSource(side)) for side in (old, new))
        assert diff_services(before, after) == []
        edits = list(diff_rulesets(*differing_rulesets(old, new)).rules())
        assert all(edit.kind is EditKind.MOVE for edit in edits)
        assert all(edit.harmless for edit in edits) or has_conflicts(view)


def has_conflicts(view: NodeView) -> bool:
    return bool(list(find_conflicts(view)))


def test_pairs_of_seeds_do_differ() -> None:
    """Otherwise the laws above say little."""
    texts = [dumped(views(seed)[0]).text for seed in SEEDS[:4]]
    assert all(one != two for one, two in pairwise(texts))
