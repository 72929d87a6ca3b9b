"""Manifests, and the rules that they compile to, are the same to diff, though it takes different ways.

Only the places of rules differ in the dispatch chains: of manifests, Services that do not differ are not
compiled.
"""

from __future__ import annotations

import random

import pytest

from kproxy_nat.cli.diff_levels import compare
from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.cli.node import LoadedNode
from kproxy_nat.formats.nft_listing import join_listing
from kproxy_nat.formats.nft_rule_files import load_nft
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import Manifest, load, options_of, random_input, yaml_text
from tests.property.nft_sides import COMPACT, KUBE_PROXY

SEEDS = range(4000, 4016)


def side(name: str, objects: list[Manifest], addresses: list[str], mode: ProxyMode, layout: Layout) -> Side:
    """Return a side with manifests."""
    cluster = load(yaml_text(objects))
    options = options_of(cluster, local_addresses=addresses, mode=mode)
    views = [build_view(cluster, options, family) for family in IpFamily]
    return Side(name, LoadedNode(cluster, options, views, [], []), layout=layout)


def as_rules(manifests: Side) -> Side:
    """Return the same as a side with rules."""
    if manifests.mode is ProxyMode.NFTABLES:
        return Side(manifests.name, tables=load_nft(join_listing(manifests.nft.listed)))
    return Side(manifests.name, rules={family: manifests.dumped(family) for family in IpFamily})


def changed(objects: list[Manifest], rng: random.Random) -> list[Manifest]:
    """Return the objects without some Services and slices, and with endpoints that are not ready."""
    kept = [item for item in objects if item["kind"] == "Node" or rng.random() < 0.9]
    return [with_fewer_endpoints(item) if rng.random() < 0.2 else item for item in kept]


def with_fewer_endpoints(item: Manifest) -> Manifest:
    return {**item, "endpoints": item["endpoints"][1:]} if item.get("endpoints") else item


@pytest.mark.parametrize("layout", [KUBE_PROXY, COMPACT], ids=lambda layout: str(layout.name))
@pytest.mark.parametrize("mode", ProxyMode)
@pytest.mark.parametrize("seed", SEEDS)
def test_manifests_differ_as_their_rules_do(seed: int, mode: ProxyMode, layout: Layout) -> None:
    made = random_input(seed, sizes=(8, 20))
    objects = [*made.objects, made.config]
    old = side("old", objects, made.addresses, mode, layout)
    new = side("new", changed(objects, random.Random(seed)), made.addresses, mode, layout)
    for family in IpFamily:
        by_views = compare(old, new, family, services=True, ours=False)
        by_rules = compare(as_rules(old), as_rules(new), family, services=True, ours=False)
        mixed = compare(old, as_rules(new), family, services=True, ours=False)
        for other in (by_rules, mixed):
            assert other.services == by_views.services
            assert other.settings == by_views.settings
            assert other.rules.counts() == by_views.rules.counts()
            assert other.impact == by_views.impact
