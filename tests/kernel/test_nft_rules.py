"""The kernel takes what we compile for nftables and lists it back byte for byte; its JSON says the same.

Other versions of nft than 1.0.6 list in their own spelling, each byte of which is known, too.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kproxy_nat.formats.nft_json_parse import parse_nft_json
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.formats.nft_words import KEYWORDS, script_words
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from kproxy_nat.ruleset.matches import InInterface
from kproxy_nat.ruleset.rules import Rule, Table
from tests.conformance.command_line import compiled
from tests.conformance.nft_text import read_listing
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.golden.gallery import GALLERY, TOPICS, compact_nft_text, nft_text
from tests.kernel.netns import KernelRefusedError, load_and_list, requires_kernel
from tests.kernel.nft_versions import as_listed, known_to_json, without_braces_of_one
from tests.oracle.compiling import (
    cluster_of,
    nft_listing_text,
    nft_script_text,
    options_of,
    random_input,
)
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service
from tests.property import examples
from tests.property.strategies_nft import tables
from tests.property.test_nft_text import commands_of

pytestmark = [pytest.mark.kernel, requires_kernel]

RANDOM_CLUSTERS = 20


def assert_held(saved: str, script: str) -> None:
    """The kernel holds what we save, by way of the listing and of the transaction, done once and twice.

    The second time base chains are made anew, and so listed last.
    """
    assert load_and_list(saved) == as_listed(saved)
    assert without_braces_of_one(load_and_list(script)) == as_listed(saved)
    again = without_braces_of_one(load_and_list(script, script))
    assert read_listing(again).objects == read_listing(as_listed(saved)).objects
    assert render_listing(parse_nft_json(load_and_list(saved, json=True))) == known_to_json(saved)


by_layout = pytest.mark.parametrize("layout", LayoutName)


@pytest.mark.parametrize("topic", TOPICS)
def test_gallery(topic: str) -> None:
    for text in (nft_text(topic), compact_nft_text(topic)):
        assert load_and_list(text) == as_listed(text)


@by_layout
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_recorded_scenarios(scenario: Scenario, layout: LayoutName, tmp_path: Path) -> None:
    saved, script = (
        scenario.compiled_nft(form, tmp_path, "--layout", layout) for form in ("save", "restore")
    )
    assert_held(saved, script)


@by_layout
@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("seed", range(RANDOM_CLUSTERS))
def test_random_clusters(seed: int, family: IpFamily, layout: LayoutName) -> None:
    view = random_input(seed).nft_view(family)
    chosen = Layout(layout)
    tables = chosen.nft_ruleset(view).tables.values()
    assert_held(render_listing(tables), render_script([chosen.nft_transaction(view)]))


@pytest.mark.parametrize("topic", TOPICS)
def test_one_layout_takes_the_place_of_the_other(topic: str) -> None:
    """What the kube-proxy layout leaves behind is gone; the order of listing is as after a fresh start."""
    options = ("--form", "restore", "--mode", "nftables", "--layout", "compact")
    script = compiled(GALLERY / topic, *options)
    assert without_braces_of_one(load_and_list(nft_text(topic), script)) == as_listed(compact_nft_text(topic))


def test_identity_file() -> None:
    text = (GALLERY / "identity.nft").read_text()
    assert load_and_list(text) == as_listed(text)
    assert render_listing(parse_nft_json(load_and_list(text, json=True))) == known_to_json(text)


def test_the_longest_names_are_taken() -> None:
    """kube-proxy 1.36 makes nft refuse everything here: a comment of 191 characters."""
    name = f"{'n' * 63}/{'s' * 63}"
    ports = [port(80, "p" * 63, nodePort=30080)]
    clients: Manifest = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    }
    objects = [node(), service(name, "10.96.0.1", ports=ports, type="NodePort", **clients)]
    here = [endpoint(f"10.180.0.{number}", "node1") for number in range(1, 30)]
    for slices in ([], [endpoint_slice(name, endpoints=here, ports=ports)]):
        options = options_of(cluster_of([*objects, *slices]), mode=ProxyMode.NFTABLES)
        view = build_view(cluster_of([*objects, *slices]), options, IpFamily.IPV4)
        assert_held(nft_listing_text(view), nft_script_text(view))
        compact = Layout(LayoutName.COMPACT)
        tables = compact.nft_ruleset(view).tables.values()
        assert_held(render_listing(tables), render_script([compact.nft_transaction(view)]))


def test_names_of_interfaces_are_read_as_names() -> None:
    """Words of nft's language, too: they are quoted, or known not to need it."""
    names = [
        *sorted(KEYWORDS),
        "cni0",
        "kube-bridge",
        "eth0.100",
        "br0:1",
        "a@b",
        "0eth",
        "eth+",
        "q+",
        "state",
    ]
    rules = [script_words("ip").rule(Rule((InInterface(name[:15]),), ())) for name in names]
    script = "add table ip t\nadd chain ip t c\n" + "".join(f"add rule ip t c {rule}\n" for rule in rules)
    listed = re.findall(r'iifname "(.*)"', load_and_list(script))
    assert listed == [f"{name[:-1]}*" if name.endswith("+") else name[:15] for name in names]


def test_what_the_kernel_cannot_hold_is_refused() -> None:
    """The tests above can fail."""
    text = nft_text("clusterip")
    with pytest.raises(KernelRefusedError):
        load_and_list(re.sub(r"goto service-\w+-", "goto service-GONE-", text, count=1))


def test_another_spelling_is_noticed() -> None:
    text = nft_text("clusterip")
    other = text.replace("10.96.0.0/12", "10.96.0.0/13").replace(
        "tcp dnat ip to", "tcp dnat ip addr . port to", 1
    )
    assert other != text
    assert load_and_list(other) != as_listed(other)


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(IpFamily).flatmap(tables))
def test_random_tables(table: Table) -> None:
    """Every kind of match, action, element and hook, far beyond what kube-proxy writes."""
    text = render_listing([table])
    assert load_and_list(text) == as_listed(text)
    script = render_script([commands_of(table)])
    assert without_braces_of_one(load_and_list(script)) == without_braces_of_one(as_listed(text))
    assert render_listing(parse_nft_json(load_and_list(text, json=True))) == known_to_json(text)
