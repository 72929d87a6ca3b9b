"""From one layout to the other: one transaction a table, which leaves what is wanted and what is foreign."""

from __future__ import annotations

import pytest

from kproxy_nat.apply.planning import LiveRules, foreign_part, plan_change, predict
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.apply.service_counters import FrontendCounter, service_counters
from kproxy_nat.formats.iptables_dump import Dump, join_dump, split_dump
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from tests.oracle.compiling import random_input, view_of
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, port, service

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)
FOREIGN = "-A FORWARD -s 203.0.113.99/32 -j DROP\n"


def live_rules(layout: Layout, seed: int) -> LiveRules:
    text = render_save(layout.ruleset(random_input(seed).view(IpFamily.IPV4)))
    head, forward, rest = text.partition("-A FORWARD ")
    text = head + FOREIGN + forward + rest
    return LiveRules(text, split_dump(text, IpFamily.IPV4))


def wanted(layout: Layout, seed: int) -> Dump:
    return split_dump(render_save(layout.ruleset(random_input(seed).view(IpFamily.IPV4))), IpFamily.IPV4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("old", "new"), [(KUBE_PROXY, COMPACT), (COMPACT, KUBE_PROXY)])
def test_the_wanted_rules_and_the_foreign_ones_are_left(old: Layout, new: Layout, seed: int) -> None:
    live = live_rules(old, seed)
    change = plan_change(live, wanted(new, seed))
    after = predict(live.dump, change)
    assert foreign_part(after) == foreign_part(live.dump)
    assert FOREIGN in join_dump(after)
    without = split_dump(join_dump(after).replace(FOREIGN, ""), IpFamily.IPV4)
    assert parse_save(join_dump(without), IpFamily.IPV4) == parse_save(
        join_dump(wanted(new, seed)), IpFamily.IPV4
    )
    assert not plan_change(LiveRules(join_dump(after), after), wanted(new, seed)).tables


@pytest.mark.parametrize(("old", "new"), [(KUBE_PROXY, COMPACT), (COMPACT, KUBE_PROXY)])
def test_one_transaction_a_table_in_which_old_chains_go_last(old: Layout, new: Layout) -> None:
    live = live_rules(old, 5)
    text = restore_text(plan_change(live, wanted(new, 5)))
    assert [line for line in text.splitlines() if line.startswith("*")] == ["*nat", "*filter"]
    assert text.count("COMMIT\n") == 2
    for block in text.split("COMMIT\n")[:-1]:
        lines = block.splitlines()
        last_rule = max(at for at, line in enumerate(lines) if line.startswith(("-A ", "-I ")))
        first_gone = min(at for at, line in enumerate(lines) if line.startswith("-X "))
        assert last_rule < first_gone


def test_counters_are_read_from_either_layout() -> None:
    objects = [
        node(),
        service(ports=[port(nodePort=30080)], type="NodePort"),
        endpoint_slice(endpoints=many_endpoints(40)),
    ]
    view = view_of(objects)
    found = []
    for layout in (KUBE_PROXY, COMPACT):
        saved = render_save(layout.ruleset(view)).splitlines()
        text = "\n".join(f"[2:120] {line}" if line.startswith("-A ") else line for line in saved) + "\n"
        found.append(service_counters(text, IpFamily.IPV4))
    assert found[0] == found[1]
    (counters,) = found[1]
    assert counters.service == "shop/web:http"
    assert counters.frontends == [
        FrontendCounter("*:30080/TCP", 2),
        FrontendCounter("10.96.0.10:80/TCP", 2),
    ]
    assert len(counters.endpoints) == 40
