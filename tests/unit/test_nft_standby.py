"""The second table, which serves while the layout is changed: when there is one, and what it holds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from kproxy_nat.apply.backends import backend_of
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.nft_script import nft_standby
from kproxy_nat.apply.nft_standby import standing_by
from kproxy_nat.apply.planners import plan_change
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import cluster_of, options_of, random_input
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, service
from tests.property import examples

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)
LAYOUTS = (KUBE_PROXY, COMPACT)
SEED = 1

by_family = pytest.mark.parametrize("family", IpFamily)
both_ways = pytest.mark.parametrize("ways", [LAYOUTS, LAYOUTS[::-1]])


def services(*endpoints: int, layout: Layout) -> Dump:
    """Return the rules of Services with so many endpoints each."""
    objects = [service(f"shop/s{number}", f"10.96.0.{10 + number}") for number, _ in enumerate(endpoints)]
    objects += [endpoint_slice(f"shop/s{n}", many_endpoints(count)) for n, count in enumerate(endpoints)]
    cluster = cluster_of([node(), *objects])
    view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), IpFamily.IPV4)
    return rules_for(view, layout)


def rules(family: IpFamily, layout: Layout) -> Dump:
    return rules_for(random_input(SEED).nft_view(family), layout)


def change_of(old: Dump, new: Dump) -> FamilyChange:
    return plan_change(backend_of(ProxyMode.NFTABLES, old.family), LiveRules("", old), new)


def size(dump: Dump) -> int:
    return sum(map(len, dump.tables["kube-proxy"].chains.values()))


@by_family
@both_ways
def test_a_change_of_layout_has_one_that_holds_the_smaller_rules(
    family: IpFamily, ways: tuple[Layout, Layout]
) -> None:
    old, new = (rules(family, layout) for layout in ways)
    (part,) = change_of(old, new).tables
    blocks = {block.name: "".join(f"{line}\n" for line in block.after or ()) for block in part.standby}
    behind = rules(family, COMPACT).tables["kube-proxy"].chains
    assert size(rules(family, COMPACT)) < size(rules(family, KUBE_PROXY))
    assert blocks.keys() == behind.keys()
    for name, block in blocks.items():
        if "hook" in block:
            priority = re.compile(r"priority (\S+);")
            own, others = (int(priority.findall(text)[0]) for text in (block, behind[name]))
            assert own == others + 1
            assert priority.sub("", block) == priority.sub("", behind[name])
        else:
            assert block == behind[name]


@both_ways
@pytest.mark.parametrize("endpoints", [(1,), (2, 2, 2), (2, 3, 60)])
def test_any_change_of_layout_has_one(endpoints: tuple[int, ...], ways: tuple[Layout, Layout]) -> None:
    old, new = (services(*endpoints, layout=layout) for layout in ways)
    assert nft_standby(change_of(old, new)).startswith(
        "create table ip kube-proxy-standby { flags owner; }\n"
    )


@by_family
@both_ways
@pytest.mark.parametrize("seed", range(examples(20)))
def test_so_has_one_of_any_cluster_with_endpoints(
    seed: int, family: IpFamily, ways: tuple[Layout, Layout]
) -> None:
    view = random_input(seed).nft_view(family)
    old, new = (rules_for(view, layout) for layout in ways)
    reached = any(service.endpoints.reachable for service in view.services)
    assert bool(nft_standby(change_of(old, new))) == reached


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((), (2, 3)),
        ((2, 2, 2), (2, 2, 3)),
        ((2, 3), (2, 3, 4)),
        ((2, 3, 4), (2,)),
        ((2,), (3,)),
        ((2, 3), (0, 0)),
    ],
)
def test_changes_within_a_layout_have_none(
    old: tuple[int, ...], new: tuple[int, ...], layout: Layout
) -> None:
    change = change_of(services(*old, layout=layout), services(*new, layout=layout))
    assert change.tables
    assert nft_standby(change) == ""


@both_ways
def test_where_there_are_no_services_there_is_none(ways: tuple[Layout, Layout]) -> None:
    for ends in (((), (2, 3)), ((2, 3), ())):
        old, new = (services(*counts, layout=way) for counts, way in zip(ends, ways, strict=True))
        assert nft_standby(change_of(old, new)) == ""
    assert nft_standby(change_of(Dump(IpFamily.IPV4), services(2, 3, layout=COMPACT))) == ""
    assert nft_standby(change_of(services(2, 3, layout=COMPACT), Dump(IpFamily.IPV4))) == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_of_services_that_is_made_anew_has_one(layout: Layout) -> None:
    new = services(2, 3, layout=layout)
    table = new.tables["kube-proxy"]
    declared = table.chains["map service-ips"].replace(";", "; size 65536;", 1)
    old = Dump(
        new.family, {"kube-proxy": replace(table, chains={**table.chains, "map service-ips": declared})}
    )
    assert nft_standby(change_of(old, new)) != ""


def test_without_the_tool_nothing_happens(tmp_path: Path) -> None:
    with standing_by(tmp_path / "none", "a script", ()):
        pass
