"""The compact layout does with every packet what kube-proxy's does, with the same probabilities."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, build_view
from tests.conformance.scenarios import SCENARIOS, Scenario, configuration
from tests.golden.gallery import GALLERY, TOPICS
from tests.oracle.compiling import load, options_of, random_input
from tests.semantics.interpreter import Outcome, Packet, Rules, Seen
from tests.semantics.packets import local_addresses, other_packets, packets

CLUSTERS = int(os.environ.get("KPROXY_NAT_SEMANTICS_CLUSTERS", "30"))
FIRST_SEED = int(os.environ.get("KPROXY_NAT_SEMANTICS_FIRST_SEED", "0"))
PACKETS = 1500
"""How many packets a view is asked about at most; which ones is drawn at random, by a seed."""
SIZES = (3, 10, 40)
GRID = Fraction(1, 1 << 31)

COMPACT = Layout(LayoutName.COMPACT)
WITHOUT_BPF = Layout(LayoutName.COMPACT, Hairpin.ADDRESSES)


def text_of(layout: Layout, view: NodeView) -> str:
    return render_save(layout.ruleset(view))


def assert_agree(view: NodeView, seed: int, layout: Layout = COMPACT) -> int:
    """Compare the layouts on packets drawn with a seed; return how many there were."""
    return assert_same_behaviour(view, text_of(Layout(), view), text_of(layout, view), seed)


def assert_same_behaviour(view: NodeView, kube_proxy_text: str, compact_text: str, seed: int) -> int:
    rng = random.Random(seed)
    local = node_addresses(view, seed)
    version = 4 if view.family is IpFamily.IPV4 else 6
    kube_proxy = Rules(kube_proxy_text, local, version)
    compact = Rules(compact_text, local, version)
    asked = 0
    for packet, seen in drawn(view, local, rng, service_lists(view)):
        expected, found = kube_proxy.outcomes(packet, seen), compact.outcomes(packet, seen)
        assert_same(expected, found, packet)
        asked += 1
    return asked


def node_addresses(view: NodeView, seed: int) -> frozenset[int]:
    """Return the addresses of the node, to which some external IPs may belong."""
    extra = [ip for s in view.services for ip in s.port.external_ips][: seed % 3]
    return local_addresses(view, extra)


def drawn(
    view: NodeView, local: frozenset[int], rng: random.Random, lists: list[str]
) -> Iterator[tuple[Packet, Seen]]:
    """Yield packets to all service ports, some in other states, some from clients seen before."""
    services = rng.sample(view.services, len(view.services))
    share = max(PACKETS // max(len(services), 1), 12)
    bit = 1 << view.options.masquerade_bit
    for service in services:
        found = list(packets(view, service, local))
        for packet in rng.sample(found, min(share, len(found))):
            yield packet, frozenset()
            if rng.random() < 0.1:
                yield rng.choice(list(other_packets(packet, bit))), frozenset()
        if service.port.affinity_seconds:
            yield from _from_known_clients(lists, found, rng)


def service_lists(view: NodeView) -> list[str]:
    """Return the names of all lists of clients."""
    words = text_of(Layout(), view).split()
    return sorted({after for word, after in itertools.pairwise(words) if word == "--name"})


def _from_known_clients(
    lists: list[str], found: list[Packet], rng: random.Random
) -> Iterator[tuple[Packet, Seen]]:
    for packet in rng.sample(found, min(12, len(found))):
        chosen = rng.sample(lists, min(len(lists), rng.randint(1, 3)))
        yield packet, frozenset((name, packet.source) for name in chosen)


def assert_same(expected: dict[Outcome, Fraction], found: dict[Outcome, Fraction], packet: Packet) -> None:
    """The same outcomes; up to 16 with the same probabilities, more within the steps of the kernel's draw."""
    assert found.keys() == expected.keys(), packet
    if len(expected) <= 16:
        assert found == expected, packet
        return
    for outcome, probability in expected.items():
        assert abs(found[outcome] - probability) <= len(expected) * GRID, packet


def gallery_view(topic: str, family: IpFamily, mode: ProxyMode = ProxyMode.IPTABLES) -> NodeView:
    cluster = load((GALLERY / topic / "manifests.yaml").read_text())
    name = cluster.nodes[0].value.metadata.name if cluster.nodes else ""
    return build_view(cluster, options_of(cluster, node_name=name, mode=mode), family)


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("topic", TOPICS)
def test_gallery(topic: str, family: IpFamily) -> None:
    view = gallery_view(topic, family)
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
        cluster, local_addresses=scenario.local_addresses, nfacct=True, node_name=case["node_name"]
    )
    compact = scenario.compiled("save", family, tmp_path, "--layout", "compact")
    recorded = scenario.recorded("save", family)
    assert_same_behaviour(build_view(cluster, options, family), recorded, compact, seed=0)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + CLUSTERS))
def test_random_clusters(seed: int) -> None:
    for family in IpFamily:
        view = random_input(seed, SIZES).view(family, nfacct=seed % 2 == 0)
        assert_agree(view, seed, WITHOUT_BPF if seed % 5 == 0 else COMPACT)
