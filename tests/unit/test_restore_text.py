"""The text for iptables-restore does what the plan foretells, counters included."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings

from kproxy_nat.apply.changes import ChainChange, FamilyChange, TableChange
from kproxy_nat.apply.planning import LiveRules, owned_part, plan_change, predict
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.formats.iptables_dump import Dump, join_dump
from kproxy_nat.formats.iptables_parse import parse_restore, parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.transactions import evaluate
from tests.property import examples
from tests.unit.strategies_live import LIVE, LIVE_AND_EDITED, WANTED, read_back

LAW = settings(deadline=None, max_examples=examples(100))


def loaded(rules: LiveRules, change: FamilyChange, *, counters: bool = False) -> str:
    """Return what the kernel would list after loading the change."""
    base = parse_save(rules.text, rules.dump.family)
    after = evaluate(parse_restore(restore_text(change), rules.dump.family), base)
    return render_save(after, counters=counters)


def listed(dump: Dump) -> str:
    return render_save(parse_save(join_dump(dump), dump.family))


@LAW
@given(LIVE, WANTED)
def test_loading_gives_what_was_predicted(rules: LiveRules, goal: Dump) -> None:
    change = plan_change(rules, goal)
    assert loaded(rules, change) == listed(predict(rules.dump, change))


@LAW
@given(LIVE, WANTED)
def test_the_way_back_as_text(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    there = read_back(after)
    back = plan_change(there, owned_part(rules.dump))
    assert loaded(there, back) == listed(predict(after, back))


def has_equal_rules(dump: Dump) -> bool:
    """Tell whether a built-in chain holds a rule twice; see test_the_second_of_two_equal_rules_goes."""
    blocks = [table.chains[chain].splitlines() for table in dump.tables.values() for chain in table.policies]
    return any(len(set(lines)) < len(lines) for lines in blocks)


@LAW
@given(LIVE_AND_EDITED)
def test_edited_jumps_as_text(drawn: tuple[LiveRules, Dump]) -> None:
    rules, edited = drawn
    assume(not any(has_equal_rules(dump) for dump in (rules.dump, edited)))
    there = read_back(edited)
    back = plan_change(there, owned_part(rules.dump))
    assert loaded(there, back) == listed(rules.dump)


def counts(text: str) -> dict[str, set[str]]:
    """Return the counters of each rule, by table and line."""
    found: dict[str, set[str]] = {}
    table = ""
    for line in text.splitlines():
        table = line if line.startswith("*") else table
        rule = re.fullmatch(r"(?:\[(\d+:\d+)\] )?(-A .*)", line)
        if rule:
            found.setdefault(f"{table} {rule[2]}", set()).add(rule[1] or "0:0")
    return found


@LAW
@given(LIVE, WANTED)
def test_counters_of_rules_that_stay_go_on(rules: LiveRules, goal: Dump) -> None:
    """Of rules that are there twice, one counter may take the place of the other."""
    change = plan_change(rules, goal)
    before = counts(rules.text)
    after = counts(loaded(rules, change, counters=True))
    for line, counted in after.items():
        assert counted <= before.get(line, {"0:0"}) | ({"0:0"} if len(before.get(line, ())) > 1 else set())


@LAW
@given(LIVE, WANTED)
def test_the_way_back_brings_back_counters(rules: LiveRules, goal: Dump) -> None:
    after = predict(rules.dump, plan_change(rules, goal))
    there = read_back(after)
    back = plan_change(there, owned_part(rules.dump), rules.text)
    again = counts(loaded(there, back, counters=True))
    for table in back.tables:
        for chain in table.chains:
            for line in () if chain.builtin else chain.after or ():
                counted = counts(rules.text)[f"*{table.table} {line}"]
                assert again[f"*{table.table} {line}"] <= counted


def test_the_second_of_two_equal_rules_goes() -> None:
    jump, mine = "-A INPUT -j KUBE-FIREWALL", "-A INPUT -j ACCEPT"
    frame = ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n"
    frame = f"*filter\n{frame}"
    live = parse_save(f"{frame}{jump}\n{mine}\n{jump}\nCOMMIT\n", IpFamily.IPV4)
    chain = ChainChange("INPUT", (jump, mine, jump), (jump, mine), builtin=True)
    text = restore_text(FamilyChange(IpFamily.IPV4, (TableChange("filter", (chain,)),)))
    after = render_save(evaluate(parse_restore(text, IpFamily.IPV4), live))
    assert after == f"{frame}{jump}\n{mine}\nCOMMIT\n"


def test_the_whole_text() -> None:
    jump = "-A PREROUTING -j KUBE-SERVICES"
    mine = '-A PREROUTING -m comment --comment "-A PREROUTING" -j ACCEPT'
    chains = (
        ChainChange("KUBE-SEP-OLD", ("-A KUBE-SEP-OLD -j ACCEPT",), None),
        ChainChange("KUBE-SERVICES", None, ("-A KUBE-SERVICES -p tcp", "-A KUBE-SERVICES -p udp")),
        ChainChange("OUTPUT", ("-A OUTPUT -j KUBE-SEP-OLD",), (), builtin=True),
        ChainChange("PREROUTING", (mine,), (mine, jump), builtin=True),
    )
    counters = {"-A KUBE-SERVICES -p udp": "1:2", jump: "3:4"}
    change = FamilyChange(IpFamily.IPV4, (TableChange("nat", chains, counters),))
    assert restore_text(change) == (
        "*nat\n"
        ":KUBE-SERVICES - [0:0]\n"
        ":KUBE-SEP-OLD - [0:0]\n"
        "-D OUTPUT -j KUBE-SEP-OLD\n"
        "-A KUBE-SERVICES -p tcp\n"
        "[1:2] -A KUBE-SERVICES -p udp\n"
        "[3:4] -I PREROUTING 2 -j KUBE-SERVICES\n"
        "-X KUBE-SEP-OLD\n"
        "COMMIT\n"
    )


def test_nothing_to_do_is_no_text() -> None:
    assert restore_text(FamilyChange(IpFamily.IPV6, ())) == ""
