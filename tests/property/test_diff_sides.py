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
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import Manifest, load, options_of, random_input, yaml_text

SEEDS = range(4000, 4016)


def side(name: str, objects: list[Manifest], addresses: list[str]) -> Side:
    """Return a side with manifests."""
    cluster = load(yaml_text(objects))
    options = options_of(cluster, local_addresses=addresses)
    views = [build_view(cluster, options, family) for family in IpFamily]
    return Side(name, LoadedNode(cluster, options, views, [], []))


def as_rules(manifests: Side) -> Side:
    """Return the same as a side with rules."""
    return Side(manifests.name, rules={family: manifests.dumped(family) for family in IpFamily})


def changed(objects: list[Manifest], rng: random.Random) -> list[Manifest]:
    """Return the objects without some Services and slices, and with endpoints that are not ready."""
    kept = [item for item in objects if item["kind"] == "Node" or rng.random() < 0.9]
    return [with_fewer_endpoints(item) if rng.random() < 0.2 else item for item in kept]


def with_fewer_endpoints(item: Manifest) -> Manifest:
    return {**item, "endpoints": item["endpoints"][1:]} if item.get("endpoints") else item


@pytest.mark.parametrize("seed", SEEDS)
def test_manifests_differ_as_their_rules_do(seed: int) -> None:
    made = random_input(seed, sizes=(8, 20))
    objects = [*made.objects, made.config]
    old = side("old", objects, made.addresses)
    new = side("new", changed(objects, random.Random(seed)), made.addresses)
    for family in IpFamily:
        by_views = compare(old, new, family, services=True, ours=False)
        by_rules = compare(as_rules(old), as_rules(new), family, services=True, ours=False)
        mixed = compare(old, as_rules(new), family, services=True, ours=False)
        for other in (by_rules, mixed):
            assert other.services == by_views.services
            assert other.settings == by_views.settings
            assert other.rules.counts() == by_views.rules.counts()
            assert other.impact == by_views.impact
