"""The compact layout for nftables does with every packet what kube-proxy's does, as probably."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml

from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, build_view
from tests.conformance.scenarios import SCENARIOS, SERVICE_CIDRS, Scenario, configuration
from tests.golden.gallery import TOPICS
from tests.oracle.compiling import load, options_of, random_input
from tests.semantics.nft_interpreter import NftRules
from tests.semantics.test_layouts_agree import (
    CLUSTERS,
    FIRST_SEED,
    SIZES,
    drawn,
    gallery_view,
    node_addresses,
)

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)


def text_of(layout: Layout, view: NodeView) -> str:
    return render_listing(layout.nft_ruleset(view).tables.values())


def assert_agree(view: NodeView, seed: int) -> int:
    """Compare the layouts on packets drawn with a seed; return how many there were."""
    return assert_same_behaviour(view, text_of(KUBE_PROXY, view), text_of(COMPACT, view), seed)


def assert_same_behaviour(view: NodeView, kube_proxy_text: str, compact_text: str, seed: int) -> int:
    local = node_addresses(view, seed)
    version = 4 if view.family is IpFamily.IPV4 else 6
    kube_proxy = NftRules(kube_proxy_text, local, version)
    compact = NftRules(compact_text, local, version)
    lists = re.findall(r"(?m)^\tset (affinity-\S+)", text_of(KUBE_PROXY, view))
    asked = 0
    for packet, seen in drawn(view, local, random.Random(seed), lists):
        assert compact.outcomes(packet, seen) == kube_proxy.outcomes(packet, seen), packet
        asked += 1
    return asked


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("topic", TOPICS)
def test_gallery(topic: str, family: IpFamily) -> None:
    view = gallery_view(topic, family, ProxyMode.NFTABLES)
    asked = assert_agree(view, seed=1)
    assert asked > 0 or not view.services


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_recordings(scenario: Scenario, family: IpFamily, tmp_path: Path) -> None:
    """What kube-proxy itself wrote, against the compact layout of the same input."""
    case = scenario.case
    manifests = (scenario.folder / "manifests.yaml").read_text()
    cluster = load(manifests, yaml.safe_dump(configuration(case.get("set", {}))))
    options = options_of(
        cluster,
        local_addresses=scenario.local_addresses,
        mode=ProxyMode.NFTABLES,
        node_name=case["node_name"],
        service_cidrs=SERVICE_CIDRS,
    )
    compact = scenario.compiled_nft("save", tmp_path, "--layout", "compact")
    view = build_view(cluster, options, family)
    assert_same_behaviour(view, scenario.recorded_nft("save"), compact, seed=0)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + CLUSTERS))
def test_random_clusters(seed: int) -> None:
    for family in IpFamily:
        assert_agree(random_input(seed, SIZES).nft_view(family), seed)
