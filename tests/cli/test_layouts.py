"""``kproxy-nat stats`` and ``--layout compact``, as a user meets them."""

from __future__ import annotations

import json

from kproxy_nat.net.addresses import IpFamily
from tests.cli.conftest import Run
from tests.golden.gallery import GALLERY, compact_nft_text, compact_text

NODE_PORT = str(GALLERY / "nodeport")
LAYOUTS = ["kube-proxy", "compact"]
DUAL_STACK = str(GALLERY / "dual-stack")


def test_the_layout_is_chosen_by_an_option(run: Run) -> None:
    result = run("compile", NODE_PORT, "--layout", "compact")
    assert (result.status, result.out) == (0, compact_text("nodeport", IpFamily.IPV4))
    assert "KPN-" not in run("compile", NODE_PORT).out


def test_hairpins_without_bpf(run: Run) -> None:
    out = run("compile", NODE_PORT, "--layout", "compact", "--hairpin", "addresses").out
    assert "-m bpf" not in out
    assert "-j KPN-HAIRPIN" in out
    assert run("compile", NODE_PORT, "--hairpin", "addresses").out == run("compile", NODE_PORT).out


def test_the_layout_is_chosen_in_nftables_mode_too(run: Run) -> None:
    result = run("compile", NODE_PORT, "--mode", "nftables", "--layout", "compact")
    assert (result.status, result.out) == (0, compact_nft_text("nodeport"))
    script = run("compile", NODE_PORT, "--mode", "nftables", "--layout", "compact", "--form", "restore").out
    assert script.startswith("add table ip kube-proxy\ndelete table ip kube-proxy\nadd table ip kube-proxy")


def test_an_unknown_layout_is_wrong_usage(run: Run) -> None:
    result = run("compile", NODE_PORT, "--layout", "smallest")
    assert (result.status, result.out) == (2, "")
    assert "'kube-proxy', 'compact'" in result.err


def test_stats_show_the_layouts_side_by_side(run: Run) -> None:
    result = run("stats", NODE_PORT)
    assert (result.status, result.err) == (0, "")
    head, columns, *rows = result.out.splitlines()
    assert head.startswith("IPv4: ")
    assert columns.split() == [
        word for mode in ("iptables", "nftables") for layout in LAYOUTS for word in (mode, layout)
    ]
    assert [row.split()[0] for row in rows[:5]] == ["rules", "chains", "sets", "elements", "bytes"]
    assert any(row.strip().startswith("NodePort") for row in rows)


def test_stats_as_json(run: Run) -> None:
    document = json.loads(run("stats", DUAL_STACK, "-o", "json").out)
    assert (document["format"], document["version"], document["node"]) == ("kproxy-nat/stats", 1, "node1")
    assert [family["family"] for family in document["families"]] == ["IPv4", "IPv6"]
    for family in document["families"]:
        assert [layout["layout"] for layout in family["layouts"]] == 2 * LAYOUTS
        assert [layout["mode"] for layout in family["layouts"]] == 2 * ["iptables"] + 2 * ["nftables"]
        for layout in family["layouts"]:
            assert layout["rules"] > 0
            walks = layout["first_packet"]["ClusterIP"]
            assert 0 < walks["median"] <= walks["p99"] <= walks["worst"]


def test_stats_of_one_mode(run: Run) -> None:
    """Each is the mode's own view: nftables serves node ports at the node's address only."""
    both = json.loads(run("stats", NODE_PORT, "-o", "json").out)["families"][0]["layouts"]
    for mode in ("iptables", "nftables"):
        (family,) = json.loads(run("stats", NODE_PORT, "-o", "json", "--mode", mode).out)["families"]
        assert family["layouts"] == [layout for layout in both if layout["mode"] == mode]


def test_stats_with_options_of_one_mode(run: Run) -> None:
    assert run("stats", NODE_PORT, "--nfacct", "--localhost-node-ports").status == 0
    assert run("stats", NODE_PORT, "--nfacct", "--mode", "nftables").status == 3


def test_stats_without_services(run: Run) -> None:
    """What is there anyway is shown for both modes, too."""
    (family,) = json.loads(run("stats", str(GALLERY / "empty-cluster"), "-o", "json").out)["families"]
    assert (family["family"], family["services"]) == ("IPv4", 0)
    assert [layout["mode"] for layout in family["layouts"]] == 2 * ["iptables"] + 2 * ["nftables"]


def test_stats_of_one_family(run: Run) -> None:
    document = json.loads(run("stats", DUAL_STACK, "-o", "json", "--family", "ipv6").out)
    assert [family["family"] for family in document["families"]] == ["IPv6"]


def test_bad_input_is_reported(run: Run) -> None:
    result = run("stats", "-", stdin="kind: [")
    assert (result.status, result.out) == (3, "")
