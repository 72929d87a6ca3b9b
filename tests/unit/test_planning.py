"""Plans: the smallest change, and what they leave alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from kproxy_nat.apply.ownership import is_owned
from kproxy_nat.apply.planning import (
    LiveRules,
    foreign_part,
    owned_part,
    owned_rules,
    plan_change,
    predict,
)
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.formats.iptables_dump import Dump, split_dump
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS
from tests.property import examples
from tests.unit.strategies_live import (
    LIVE,
    LIVE_AND_EDITED,
    TABLES,
    WANTED,
    blocks_of,
    jumps_of,
    normal,
    read_back,
)

LAW = settings(deadline=None, max_examples=examples(150))

NAT_JUMP = '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
OURS = ":KUBE-SERVICES - [0:0]\n"


def nat(*rules: str, chains: str = OURS) -> LiveRules:
    """Return live rules of the table nat."""
    frame = "".join(f":{name} ACCEPT [0:0]\n" for name in BUILTIN_CHAINS["nat"])
    text = f"*nat\n{frame}{chains}" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n"
    return LiveRules(text, split_dump(text, IpFamily.IPV4))


def prerouting(dump: Dump) -> list[str]:
    return dump.table("nat").chains["PREROUTING"].splitlines()


@LAW
@given(LIVE, WANTED)
def test_our_chains_become_what_is_wanted(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    for table in TABLES:

        def ours(chain: str, table: str = table) -> bool:
            return is_owned(table, chain)

        assert blocks_of(after, table, ours) == blocks_of(goal, table, ours)


@LAW
@given(LIVE, WANTED)
def test_foreign_rules_stay_in_their_order(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    for table in TABLES:
        before_table, after_table = rules.dump.table(table), after.table(table)
        assert after_table.policies == before_table.policies
        for chain, block in before_table.chains.items():
            if chain in before_table.policies:
                known = jumps_of(table, chain)
                left = [line for line in after_table.chains[chain].splitlines() if line not in known]
                assert left == [line for line in block.splitlines() if line not in known]
            elif not is_owned(table, chain):
                assert after_table.chains[chain] == block


@LAW
@given(LIVE, WANTED)
def test_the_jumps_are_those_that_are_wanted(rules: LiveRules, goal: Dump) -> None:
    """Each is there if it is wanted; those that were there before stay where they were, others come first."""
    after = predict(rules.dump, plan_change(rules, goal))
    for table in TABLES:
        for chain in BUILTIN_CHAINS[table]:
            known = jumps_of(table, chain)
            desired = goal.table(table).chains[chain].splitlines()
            found = after.table(table).chains[chain].splitlines()
            before = rules.dump.table(table).chains[chain].splitlines()
            assert {line for line in found if line in known} == set(desired)
            if not any(line in known for line in before):
                assert found == [*desired, *before]


@LAW
@given(LIVE, WANTED)
def test_a_second_plan_finds_nothing(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    assert plan_change(read_back(after), goal).tables == ()


@LAW
@given(LIVE, WANTED)
def test_the_way_back_leads_to_what_was_before(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    back = plan_change(read_back(after), owned_part(rules.dump))
    assert normal(predict(after, back)) == normal(rules.dump)


@LAW
@given(LIVE_AND_EDITED)
def test_the_way_back_undoes_edits_of_our_jumps(drawn: tuple[LiveRules, Dump]) -> None:
    rules, edited = drawn
    back = plan_change(read_back(edited), owned_part(rules.dump))
    assert normal(predict(edited, back)) == normal(rules.dump)


@LAW
@given(LIVE, WANTED)
def test_only_chains_that_differ_are_in_a_plan(rules: LiveRules, goal: Dump) -> None:
    change = plan_change(rules, goal)
    after = predict(rules.dump, change)
    for table in TABLES:
        before_chains, after_chains = rules.dump.table(table).chains, after.table(table).chains
        differing = {
            name
            for name in before_chains.keys() | after_chains.keys()
            if before_chains.get(name) != after_chains.get(name)
        }
        planned = {chain.name for part in change.tables if part.table == table for chain in part.chains}
        assert planned == differing


@LAW
@given(LIVE)
def test_without_ours_the_foreign_part_is_all(rules: LiveRules) -> None:
    after = predict(rules.dump, plan_change(rules, Dump(IpFamily.IPV4)))
    assert owned_rules(after) == []
    assert foreign_part(after) == foreign_part(rules.dump)
    assert plan_change(read_back(after), Dump(IpFamily.IPV4)).tables == ()


@LAW
@given(LIVE, WANTED)
def test_what_is_not_ours_does_not_change_the_foreign_part(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    assert foreign_part(after) == foreign_part(rules.dump)


def test_other_tables_are_foreign() -> None:
    text = (
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"
    )
    dump = split_dump(text, IpFamily.IPV4)
    assert plan_change(LiveRules(text, dump), Dump(IpFamily.IPV4)).tables == ()
    assert owned_rules(dump) == []
    assert foreign_part(dump) == text


def test_a_rule_that_is_only_written_otherwise_stays() -> None:
    rule = '-A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m comment --comment "a:b" -m tcp --dport 80 -j ACCEPT'
    otherwise = '-A KUBE-SERVICES -d 10.0.0.1 -p tcp -m comment --comment "a:b" -m tcp --dport 80 -j ACCEPT'
    assert plan_change(nat(NAT_JUMP, otherwise), nat(NAT_JUMP, rule).dump).tables == ()
    other = rule.replace("80", "81")
    (part,) = plan_change(nat(NAT_JUMP, other), nat(NAT_JUMP, rule).dump).tables
    assert [chain.name for chain in part.chains] == ["KUBE-SERVICES"]


def test_missing_jumps_come_first_and_those_there_stay() -> None:
    mine = "-A PREROUTING -s 10.9.0.0/16 -j ACCEPT"
    there = nat(mine, NAT_JUMP)
    assert plan_change(there, nat(NAT_JUMP).dump).tables == ()
    gone = nat(mine)
    assert prerouting(predict(gone.dump, plan_change(gone, nat(NAT_JUMP).dump))) == [NAT_JUMP, mine]


@pytest.mark.parametrize("kind", ["-j", "-g"])
@pytest.mark.parametrize("chain", ["PREROUTING", "MINE"])
def test_a_foreign_rule_that_leads_to_a_chain_of_ours(chain: str, kind: str) -> None:
    chains = f"{OURS}:MINE - [0:0]\n"
    rule = f"-A {chain} -p tcp {kind} KUBE-SERVICES"
    rules = nat(rule, chains=chains)
    with pytest.raises(ApplyError) as caught:
        plan_change(rules, Dump(IpFamily.IPV4))
    (problem,) = caught.value.problems
    assert problem.code is Code.CHAIN_IN_USE
    assert problem.message == f"nat: rule {rule} leads to KUBE-SERVICES, which is to be deleted"
    assert plan_change(rules, nat(chains=chains).dump).tables == ()


def test_a_foreign_rule_that_only_speaks_of_a_chain_of_ours() -> None:
    rules = nat('-A PREROUTING -m comment --comment "see KUBE-SERVICES here" -j ACCEPT')
    (part,) = plan_change(rules, Dump(IpFamily.IPV4)).tables
    assert [chain.name for chain in part.chains] == ["KUBE-SERVICES"]


def test_counters_are_those_of_the_rules_that_are_written() -> None:
    kept, gone = "-A KUBE-SERVICES -s 10.0.0.1/32", "-A KUBE-SERVICES -s 10.0.0.2/32"
    rules = nat(f"[5:300] {kept}", f"[6:400] {gone}", f"[7:500] {NAT_JUMP}")
    assert rules.dump == nat(kept, gone, NAT_JUMP).dump
    (part,) = plan_change(rules, nat(NAT_JUMP, kept, "-A KUBE-SERVICES -s 10.0.0.3/32").dump).tables
    assert dict(part.counters) == {kept: "5:300", gone: "6:400"}
    (part,) = plan_change(rules, nat(NAT_JUMP, kept).dump, counted="").tables
    assert dict(part.counters) == {}


FIREWALL_JUMP = "-A INPUT -j KUBE-FIREWALL"


def filter_rules(*lines: str, canary: bool) -> LiveRules:
    canary_line = ":KUBE-KUBELET-CANARY - [0:0]\n" if canary else ""
    frame = "".join(f":{name} ACCEPT [0:0]\n" for name in BUILTIN_CHAINS["filter"])
    body = "".join(f"{line}\n" for line in lines)
    text = f"*filter\n{frame}:KUBE-FIREWALL - [0:0]\n:KUBE-FORWARD - [0:0]\n{canary_line}{body}COMMIT\n"
    return LiveRules(text, split_dump(text, IpFamily.IPV4))


def test_what_a_kubelet_looks_after_stays() -> None:
    shared = filter_rules(FIREWALL_JUMP, "-A KUBE-FIREWALL -j DROP", canary=True)
    assert owned_rules(shared.dump) == ["KUBE-FORWARD"]
    (part,) = plan_change(shared, Dump(IpFamily.IPV4)).tables
    assert [chain.name for chain in part.chains] == ["KUBE-FORWARD"]
    assert "KUBE-FIREWALL" in foreign_part(shared.dump)


def test_without_a_kubelet_its_chain_is_ours() -> None:
    alone = filter_rules(FIREWALL_JUMP, "-A KUBE-FIREWALL -j DROP", canary=False)
    assert owned_rules(alone.dump) == ["KUBE-FIREWALL", "KUBE-FORWARD", FIREWALL_JUMP]
    (part,) = plan_change(alone, Dump(IpFamily.IPV4)).tables
    assert [chain.name for chain in part.chains] == ["INPUT", "KUBE-FIREWALL", "KUBE-FORWARD"]
    assert foreign_part(alone.dump) == ""
