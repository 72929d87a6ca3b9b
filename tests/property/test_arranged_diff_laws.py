"""Laws of differences in both modes and layouts, and between them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.cli.diff_levels import compare
from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.cli.diff_unified import unified_text
from kproxy_nat.diff.edits import EditKind
from kproxy_nat.diff.services import diff_services
from kproxy_nat.diff.settings import diff_settings
from kproxy_nat.diff.structural import apply_diff, diff_rulesets
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.selection import Selection
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.recover.model import CUT
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Rule, Ruleset, Table
from tests.oracle.compiling import random_input
from tests.property.nft_sides import COMPACT, KUBE_PROXY, as_dump, as_tables, is_nft, lowered, read_back
from tests.property.strategies_nft import tables

SEEDS = (*range(6000, 6006), 6007, 6008, 6011)
"""One of these clusters has a Service with hundreds of endpoints, 6005; 6006 would be another, as slow."""
ARRANGEMENTS = [
    pytest.param(ProxyMode.IPTABLES, KUBE_PROXY, id="iptables"),
    pytest.param(ProxyMode.IPTABLES, COMPACT, id="iptables-compact"),
    pytest.param(ProxyMode.NFTABLES, KUBE_PROXY, id="nftables"),
    pytest.param(ProxyMode.NFTABLES, COMPACT, id="nftables-compact"),
]
arranged = pytest.mark.parametrize(("mode", "layout"), ARRANGEMENTS)
by_seed = pytest.mark.parametrize("seed", SEEDS)
families = st.sampled_from(IpFamily)


def views(seed: int, mode: ProxyMode) -> list[NodeView]:
    """Return both families' views of a random cluster."""
    made = random_input(seed, sizes=(8, 20))
    return [made.nft_view(f) if mode is ProxyMode.NFTABLES else made.view(f) for f in IpFamily]


def variant(view: NodeView, seed: int) -> NodeView:
    """Return the view with some Services left out, and endpoints of others."""
    rng = random.Random(seed)
    kept = [service for service in view.services if rng.random() < 0.8]
    return replace(
        view, services=[thinned(service, rng) if rng.random() < 0.3 else service for service in kept]
    )


def thinned(service: ServiceView, rng: random.Random) -> ServiceView:
    """Return a service port without one of its endpoints, if no policy loses its last one by that."""
    chosen = service.endpoints
    spare = [e for e in chosen.reachable if [e] not in (chosen.cluster, chosen.local)]
    if not spare:
        return service
    gone = rng.choice(spare)
    cluster, local, reachable = (
        [e for e in endpoints if e is not gone]
        for endpoints in (chosen.cluster, chosen.local, chosen.reachable)
    )
    return ServiceView(service.port, Selection(cluster, local, reachable, chosen.any_usable))


def side(view: NodeView, layout: Layout) -> Side:
    if is_nft(view):
        return Side("rules", tables=as_tables(view, layout))
    return Side("rules", rules={view.family: as_dump(view, layout)})


def canonical(rule: Rule, table: Table) -> Rule:
    if not table.family:
        return canonical_rule(rule)
    family = next((f for f, nft in NFT_FAMILIES.items() if nft == table.family), IpFamily.IPV4)
    return canonical_nft_rule(rule, family)


def held(ruleset: Ruleset) -> dict[object, object]:
    """Return what a rule set holds, in canonical form, without tables and chains of built-in emptiness."""
    found: dict[object, object] = {}
    for table in ruleset.tables.values():
        if table.family:
            found[table.label] = table.comment
        for chain in table.chains.values():
            if table.family or chain.rules or chain.policy != "ACCEPT":
                rules = [canonical(rule, table) for rule in chain.rules]
                found[table.label, chain.name] = chain.policy, chain.hook, chain.comment, rules
        for named in table.sets.values():
            found[table.label, "set", named.name] = canonical_set(named)
    return found


@settings(deadline=None, max_examples=60)
@given(st.data(), families)
def test_edits_of_tables_lead_from_old_to_new(data: st.DataObject, family: IpFamily) -> None:
    old, new = (Ruleset(family, {t.label: t}) for t in (data.draw(tables(family)), data.draw(tables(family))))
    assert held(apply_diff(old, diff_rulesets(old, new))) == held(new)
    assert not diff_rulesets(old, old)
    assert not diff_rulesets(new, new)


@settings(deadline=None, max_examples=30)
@given(st.data(), families)
def test_a_table_comes_and_goes_with_all_that_it_holds(data: st.DataObject, family: IpFamily) -> None:
    nothing, some = Ruleset(family), Ruleset(family, {"t": data.draw(tables(family))})
    assert held(apply_diff(nothing, diff_rulesets(nothing, some))) == held(some)
    assert held(apply_diff(some, diff_rulesets(some, nothing))) == {}


@arranged
@by_seed
def test_edits_lead_from_one_cluster_to_another(seed: int, mode: ProxyMode, layout: Layout) -> None:
    for old, new in zip(views(seed, mode), views(seed + 1, mode), strict=True):
        before, after = lowered(old, layout), lowered(new, layout)
        assert held(apply_diff(before, diff_rulesets(before, after))) == held(after)


@arranged
@by_seed
def test_nothing_differs_from_itself_at_any_level(seed: int, mode: ProxyMode, layout: Layout) -> None:
    for view in views(seed, mode):
        one, other = side(view, layout), side(view, layout)
        review = compare(one, other, view.family, services=True, ours=False)
        assert not review.rules
        assert not review.services
        assert not review.settings
        assert unified_text(one, other, [view.family], color=False) == ""
        found = read_back(view, layout)
        assert diff_services(found.ports, found.ports) == []
        assert diff_settings(found.settings, found.settings) == []


@arranged
@by_seed
def test_a_difference_of_services_is_one_of_rules(seed: int, mode: ProxyMode, layout: Layout) -> None:
    for view in views(seed, mode):
        old, new = side(view, layout), side(variant(view, seed), layout)
        review = compare(old, new, view.family, services=True, ours=False)
        if review.services or review.settings:
            assert review.rules
        before, after = read_back(view, layout), read_back(variant(view, seed), layout)
        assert review.services == diff_services(before.ports, after.ports)
        assert bool(review.rules) == bool(unified_text(old, new, [view.family], color=False))


@arranged
@by_seed
def test_order_of_services_is_no_difference(seed: int, mode: ProxyMode, layout: Layout) -> None:
    for view in views(seed, mode):
        if list(find_conflicts(view)):
            continue
        shuffled = list(view.services)
        random.Random(seed).shuffle(shuffled)
        other = replace(view, services=shuffled)
        review = compare(side(view, layout), side(other, layout), view.family, services=True, ours=False)
        assert not review.services
        assert not review.settings
        assert not review.rules.sets
        assert all(edit.kind is EditKind.MOVE and edit.harmless for edit in review.rules.rules())


@by_seed
def test_modes_and_layouts_show_the_same_services(seed: int) -> None:
    """Of one cluster, in all arrangements; but for what one of them does not show."""
    made = random_input(seed, sizes=(8, 20))
    for family in IpFamily:
        view, nft = made.view(family), made.nft_view(family)
        if list(find_conflicts(nft)):
            continue
        reference = read_back(view, KUBE_PROXY).ports
        assert diff_services(reference, read_back(view, COMPACT).ports) == []
        found = read_back(nft, KUBE_PROXY).ports
        if any(key.service.endswith(CUT) for key in found) or view.options.detectors != nft.options.detectors:
            continue
        assert diff_services(found, read_back(nft, COMPACT).ports) == []
        changes = diff_services(reference, found)
        assert [change for change in changes if not follows_from_mode(change.facts)] == []


def follows_from_mode(facts: tuple[object, ...]) -> bool:
    """Whether all that is said of a Service are options that each mode has of its own."""
    return all("masquerades " in str(fact) for fact in facts)
