"""Laws of import: what comes out of rules compiles to these rules, whoever wrote them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, build_view
from kproxy_nat.recover.model import CUT
from kproxy_nat.recover.node_objects import configuration_object, node_object
from kproxy_nat.recover.objects import NODE_NAME, needs_zone, service_objects
from kproxy_nat.recover.reading import Recovered
from tests.conformance.command_line import compiled, run
from tests.conformance.nft_text import read_listing
from tests.conformance.rule_text import chain_differences, comparable, read_chains
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.golden.gallery import COMPACT_NFT_FILE, GALLERY, NFT_FILE, RULE_FILES, TOPICS, compact_text
from tests.oracle.compiling import load, options_of, random_input, yaml_text
from tests.property.nft_sides import COMPACT, KUBE_PROXY, is_nft, lowered, read_back

SEEDS = range(3000, 3024)
ARRANGEMENTS = [
    pytest.param(ProxyMode.IPTABLES, KUBE_PROXY, id="iptables"),
    pytest.param(ProxyMode.IPTABLES, COMPACT, id="iptables-compact"),
    pytest.param(ProxyMode.NFTABLES, KUBE_PROXY, id="nftables"),
    pytest.param(ProxyMode.NFTABLES, COMPACT, id="nftables-compact"),
]
LARGE = "large-cluster"
"""Whether the rules of endpoints have comments follows from endpoints that are not ready, too."""


def imported(tmp_path: Path, *rules: Path) -> Path:
    """Import rule files, and return the file of manifests."""
    status, out, err = run("import", *rules)
    assert status == 0, err
    manifests = tmp_path / "imported.yaml"
    manifests.write_text(out)
    return manifests


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != LARGE])
def test_the_gallery_compiles_to_itself(topic: str, tmp_path: Path) -> None:
    files = {family: GALLERY / topic / name for family, name in RULE_FILES.items()}
    manifests = imported(tmp_path, *files.values())
    for family, path in files.items():
        assert compiled(manifests, "--family", family.lower()) == path.read_text()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_kube_proxy_wrote_is_compiled_again(scenario: Scenario, tmp_path: Path) -> None:
    files = {family: tmp_path / name for family, name in RULE_FILES.items()}
    for family, path in files.items():
        path.write_text(scenario.recorded("save", family))
    manifests = imported(tmp_path, *files.values())
    for family in IpFamily:
        ours = compiled(manifests, "--nfacct", "--family", family.lower())
        before, after = (comparable(read_chains(t)) for t in (ours, scenario.recorded("save", family)))
        assert not chain_differences(before, after)


@pytest.mark.parametrize(("name", "options"), [(NFT_FILE, ()), (COMPACT_NFT_FILE, ("--layout", "compact"))])
@pytest.mark.parametrize("topic", TOPICS)
def test_the_gallery_compiles_to_itself_for_nftables(
    topic: str, name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    path = GALLERY / topic / name
    assert compiled_again(path, tmp_path, *options) == path.read_text()


@pytest.mark.parametrize("form", ["save", "restore"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_kube_proxy_wrote_for_nftables_is_compiled_again(
    scenario: Scenario, form: str, tmp_path: Path
) -> None:
    """Its listing and its transaction say the same."""
    path = tmp_path / "recorded.nft"
    path.write_text(scenario.recorded_nft(form))
    again = read_listing(compiled_again(path, tmp_path))
    assert again.objects == read_listing(scenario.recorded_nft("save")).objects


def compiled_again(rules: Path, tmp_path: Path, *options: str) -> str:
    """Import a rule file of nftables and compile it, with the service CIDRs that no manifest can hold."""
    status, out, err = run("import", rules)
    assert status == 0, err
    manifests = tmp_path / "imported.yaml"
    manifests.write_text(out)
    found = re.search(r"--service-cidr (\S+)", err)
    return compiled(manifests, *options, *(("--service-cidr", found[1]) if found else ()))


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != LARGE])
def test_the_gallery_compiles_to_itself_in_the_compact_layout(topic: str, tmp_path: Path) -> None:
    texts = {family: compact_text(topic, family) for family in IpFamily}
    files = {family: tmp_path / name for family, name in RULE_FILES.items()}
    for family, path in files.items():
        path.write_text(texts[family])
    manifests = imported(tmp_path, *files.values())
    for family in IpFamily:
        again = compiled(manifests, "--layout", "compact", "--family", family.lower())
        assert again == texts[family]


@pytest.mark.parametrize(("mode", "layout"), ARRANGEMENTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_clusters_compile_to_themselves(seed: int, mode: ProxyMode, layout: Layout) -> None:
    made = random_input(seed, sizes=(4, 15))
    views = [made.nft_view(f) if mode is ProxyMode.NFTABLES else made.view(f) for f in IpFamily]
    recovered = {view.family: read_back(view, layout) for view in views}
    if mode is ProxyMode.NFTABLES and any(hides_something(view, recovered[view.family]) for view in views):
        pytest.skip("the rules do not show every Service whole")
    again = views_again(recovered, mode)
    for view, other in zip(views, again, strict=True):
        if not view.is_large_cluster:
            assert not view_differences(other, view, layout)


def hides_something(view: NodeView, recovered: Recovered) -> bool:
    """Whether two Services claim one element, of which the other has none, or a name is cut off."""
    return bool(list(find_conflicts(view))) or any(key.service.endswith(CUT) for key in recovered.ports)


@pytest.mark.parametrize(("mode", "layout"), ARRANGEMENTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_service_port_is_known_by_its_name(seed: int, mode: ProxyMode, layout: Layout) -> None:
    """And none is there that the cluster has not; but where another Service has its only address already."""
    made = random_input(seed, sizes=(4, 15))
    for family in IpFamily:
        view = made.nft_view(family) if mode is ProxyMode.NFTABLES else made.view(family)
        wanted = {(view.port.text, view.port.name.protocol) for view in view.services}
        found = {(key.service, key.protocol) for key in read_back(view, layout).ports}
        if list(find_conflicts(view)):
            assert {name for name in found if not name[0].endswith(CUT)} <= wanted
        elif not any(name.endswith(CUT) for name, _ in found):
            assert found == wanted


def views_again(recovered: Mapping[IpFamily, Recovered], mode: ProxyMode) -> list[NodeView]:
    """Return the views of the cluster that was read back."""
    families = {family: (found.ports, found.settings) for family, found in recovered.items()}
    ports = [found.ports for found in recovered.values()]
    objects = [
        configuration_object(families),
        node_object(families, zone=needs_zone(ports)),
        *service_objects(ports),
    ]
    cluster = load(yaml_text(objects))
    cidrs = [cidr for found in recovered.values() for cidr in found.settings.service_cidrs]
    options = options_of(cluster, node_name=NODE_NAME, mode=mode, service_cidrs=cidrs)
    return [build_view(cluster, options, family) for family in IpFamily]


def view_differences(one: NodeView, other: NodeView, layout: Layout) -> list[str]:
    """Return what differs in the rules of two views, as far as their order matters."""
    if is_nft(one):
        before, after = (render_listing(lowered(v, layout).tables.values()) for v in (one, other))
        return list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""))
    ours, theirs = (read_chains(render_save(lowered(view, layout))) for view in (one, other))
    return chain_differences(ours, theirs)


@pytest.mark.parametrize("layout", [KUBE_PROXY, COMPACT], ids=lambda layout: str(layout.name))
def test_most_clusters_show_all_their_services(layout: Layout) -> None:
    """Otherwise the law above says little for nftables."""
    views = [random_input(seed, sizes=(4, 15)).nft_view(IpFamily.IPV4) for seed in SEEDS]
    shown = [view for view in views if not hides_something(view, read_back(view, layout))]
    assert len(shown) > len(views) / 3
