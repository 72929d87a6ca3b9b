"""``compile --mode nftables`` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_compile import BOTH, SLICE
from tests.cli.test_compile_errors import CONFIG, NODE, SERVICE

NFT = ("--mode", "nftables")
CHAIN = "service-"


def test_both_families_are_on_stdout(run: Run) -> None:
    result = run("compile", "-", *NFT, stdin=f"{BOTH}---\n{SLICE}")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("table ip kube-proxy {\n")
    assert "\n}\ntable ip6 kube-proxy {\n" in result.out
    assert "map { 0 : 10.1.0.1 . 8080 }" in result.out


@pytest.mark.parametrize(
    ("family", "present", "absent"), [("ipv4", "ip", "ip6"), ("ipv6", "ip6", "ip"), ("all", "ip6", "inet")]
)
def test_the_family_can_be_limited(run: Run, family: str, present: str, absent: str) -> None:
    result = run("compile", "-", *NFT, "--family", family, stdin=BOTH)
    assert (result.status, result.err) == (0, "")
    assert f"table {present} kube-proxy" in result.out
    assert f"table {absent} kube-proxy" not in result.out


def test_a_directory_gets_one_file(run: Run) -> None:
    assert run("compile", "-", *NFT, "-o", "out/", stdin=BOTH).status == 0
    assert [path.name for path in Path("out").iterdir()] == ["nftables.nft"]
    assert run("compile", "-", *NFT, "-o", "one.nft", stdin=BOTH).status == 0
    assert Path("one.nft").read_text() == Path("out/nftables.nft").read_text()
    assert run("compile", "-", *NFT, stdin=BOTH).out == Path("one.nft").read_text()


def test_the_transaction_is_kube_proxys(run: Run) -> None:
    out = run("compile", "-", *NFT, "--form", "restore", stdin=SERVICE).out
    assert out.startswith('add table ip kube-proxy { comment "rules for kube-proxy" ; }\n')
    assert "\nadd table ip6 kube-proxy " in out


def test_json_holds_sets_and_rules(run: Run) -> None:
    out = run("compile", "-", *NFT, "--form", "json", stdin=SERVICE).out
    (table, _) = (t for r in json.loads(out)["rulesets"] for t in r["tables"])
    assert (table["name"], table["family"]) == ("kube-proxy", "ip")
    by_name = {named["name"]: named for named in table["sets"]}
    assert by_name["cluster-ips"]["elements"] == [{"key": ["10.96.0.10"]}]
    refused = {"key": ["10.96.0.10", "tcp", 80], "comment": "shop/web"}
    refused["value"] = {"action": "goto", "chain": "reject-chain"}  # type: ignore[assignment]
    assert by_name["no-endpoint-services"]["elements"] == [refused]
    (jump,) = next(c for c in table["chains"] if c["name"] == "nat-prerouting")["rules"]
    action = {"action": "jump", "chain": "services"}
    assert jump == {"matches": [], "actions": [action], "text": "jump services"}


def test_a_configuration_chooses_the_mode_and_its_section_counts(run: Run) -> None:
    config = f"{CONFIG}mode: nftables\nnftables: {{masqueradeBit: 9}}\niptables: {{masqueradeBit: 3}}\n"
    out = run("compile", "-", stdin=f"{SERVICE}---\n{config}").out
    assert "meta mark & 0x00000200 != 0x00000000" in out


def test_service_cidrs_are_guarded_where_they_are_known(run: Run) -> None:
    unknown = run("compile", "-", *NFT, stdin=SERVICE).out
    assert "Drop traffic to unallocated" not in unknown
    given = ("--service-cidr", "10.96.0.0/12,fd00::/112")
    known = run("compile", "-", *NFT, *given, stdin=SERVICE).out
    assert 'ip daddr 10.96.0.0/12 drop comment "Drop traffic to unallocated ClusterIPs"' in known
    assert "ip6 daddr fd00::/112 drop" in known


def test_service_cidrs_are_no_business_of_iptables(run: Run) -> None:
    result = run("compile", "-", "--controlplane", "off", "--service-cidr", "10.96.0.0/12", stdin=SERVICE)
    assert result.status == 2
    assert "it goes with --controlplane auto or --mode nftables" in result.err


def test_node_ports_are_served_at_the_nodes_own_addresses(run: Run) -> None:
    out = run("compile", "-", *NFT, stdin=NODE % "node1").out
    assert "fib daddr type local ip6 daddr != ::1" in out  # no address of that family is known
    every = run("compile", "-", *NFT, "--node-port-addresses", "0.0.0.0/0,::/0", stdin=NODE % "node1").out
    assert "fib daddr type local ip daddr != 127.0.0.0/8" in every
    one = run("compile", "-", *NFT, "--node-ip", "192.0.2.1", stdin=NODE % "node1").out
    assert "elements = { 192.0.2.1 }" in one


@pytest.mark.parametrize("option", ["--nfacct", "--localhost-node-ports"])
def test_options_of_the_other_mode_are_refused(run: Run, option: str) -> None:
    result = run("compile", "-", *NFT, option, stdin=SERVICE)
    assert result.status == 3
    assert f"error[KPN204]: {option}: it goes with mode iptables, but the mode is nftables" in result.err


def test_the_longest_names_fit(run: Run) -> None:
    """kube-proxy 1.36 writes a comment here that makes nft refuse everything."""
    text = SERVICE.replace("name: web", f"name: {'s' * 63}").replace(
        "namespace: shop", f"namespace: {'n' * 63}"
    )
    text = text.replace("- port: 80", f"- port: 80\n    name: {'p' * 63}")
    result = run("compile", "-", *NFT, stdin=text)
    assert result.status == 0, result.err
    (comment,) = re.findall(r'comment "(.*)" : goto reject-chain', result.out)
    assert comment == f"{'n' * 63}/{'s' * 61}..."
