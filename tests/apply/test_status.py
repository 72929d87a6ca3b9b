"""Status: what differs from what was applied, since when, and what went through each Service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import TOOLS, Bench, expected
from tests.kernel.netns import requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

STRANGE = "KUBE-SVC-AAAAAAAAAAAAAAAA"


def document(bench: Bench) -> dict[str, Any]:
    result = bench.run("status", "-o", "json")
    found: dict[str, Any] = json.loads(result.out)
    assert result.status == (0 if found["in_step"] else 1)
    return found


def difference(
    change: str, family: IpFamily, place: str, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = ()
) -> dict[str, Any]:
    table, chain = place.split()
    return {
        "backend": TOOLS[family],
        "table": table,
        "chain": chain,
        "change": change,
        "missing": list(missing),
        "unexpected": list(unexpected),
    }


def rules(source: Path, family: IpFamily, chain: str) -> tuple[str, ...]:
    """Return the rules that a chain should have."""
    return tuple(re.findall(rf"(?m)^-A {chain} .*", expected(source)[family]))


def test_in_step(bench: Bench, first: Path) -> None:
    bench.done("apply", first)
    found = document(bench)
    assert (found["format"], found["version"], found["action"]) == ("kproxy-nat/status", 1, "apply")
    assert (found["drift"], found["settings"], found["unfinished"]) == ([], [], False)
    assert [source["source"] for source in found["inputs"]] == [str(first / "manifests.yaml")]
    text = bench.done("status").out
    assert f"{bench.name}: apply of {found['time']} with {found['engine']}, from {first}/" in text
    assert f"{bench.name}: in step\n" in text


def test_nothing_applied(bench: Bench) -> None:
    result = bench.run("status")
    assert (result.status, result.out) == (1, "")
    assert f"error[KPN518]: nothing was applied to {bench.name}" in result.err


def test_drift(bench: Bench, first: Path) -> None:
    """A rule less, a rule more, another order, a chain less, a chain more."""
    bench.done("apply", first)
    four, six = IpFamily
    nat, jumps = (rules(first, four, chain) for chain in ("KUBE-SERVICES", "INPUT"))
    bench.iptables("-t nat -D KUBE-SERVICES 1")
    bench.iptables("-A KUBE-FORWARD -j DROP")
    bench.iptables("-D INPUT 1")
    bench.iptables(f"-A {jumps[0].removeprefix('-A ')}")
    bench.iptables(f"-t nat -N {STRANGE}")
    bench.iptables("-t nat -F KUBE-POSTROUTING", six)
    bench.iptables("-t nat -D POSTROUTING 1", six)
    bench.iptables("-t nat -X KUBE-POSTROUTING", six)
    assert document(bench)["drift"] == [
        difference("changed", four, "nat KUBE-SERVICES", nat[:1]),
        difference("new", four, f"nat {STRANGE}"),
        difference("changed", four, "filter INPUT"),
        difference("changed", four, "filter KUBE-FORWARD", (), ("-A KUBE-FORWARD -j DROP",)),
        difference("gone", six, "nat KUBE-POSTROUTING", rules(first, six, "KUBE-POSTROUTING")),
        difference("changed", six, "nat POSTROUTING", rules(first, six, "POSTROUTING")),
    ]
    lines = bench.run("status").out.splitlines()
    assert f"{bench.name}: drift" in lines
    for line in (
        f"    - {nat[0]}",
        "    + -A KUBE-FORWARD -j DROP",
        f"  iptables nat {STRANGE}: it was not applied",
        "  iptables filter INPUT: its rules are in another order",
        "  ip6tables nat KUBE-POSTROUTING: it is gone",
    ):
        assert line in lines
    bench.done("apply", first)
    assert document(bench)["in_step"]


def test_families_that_were_applied_one_after_the_other(bench: Bench, first: Path, third: Path) -> None:
    """Each is compared with what was applied to it."""
    four, six = IpFamily
    bench.done("apply", first, "--family", "ipv4")
    bench.done("apply", third, "--family", "ipv6")
    found = document(bench)
    assert found["in_step"]
    assert found["since"][TOOLS[six]] == found["time"]
    assert {"iptables", "ip6tables", "nft ip", "nft ip6"} == found["since"].keys()
    bench.iptables("-D INPUT 1", four)
    drift = difference("changed", four, "filter INPUT", rules(first, four, "INPUT")[:1])
    assert document(bench)["drift"] == [drift]
    assert [one["family"] for one in document(bench)["services"]][:1] == [four]
    bench.done("rollback")
    assert document(bench)["drift"] == [drift]


def test_families_that_were_applied_with_different_variants(bench: Bench, first: Path) -> None:
    """Each is read by its own, unless one is asked for."""
    four, six = IpFamily
    other = Bench(bench.name, "legacy" if bench.variant == "nft" else "nft", bench.state_dir, bench.main)
    bench.done("apply", first, "--family", "ipv4")
    other.done("apply", first, "--family", "ipv6")
    plain = ("status", "--netns", bench.name, "--state-dir", str(bench.state_dir), "-o", "json")
    assert json.loads(bench.main(*plain).out)["in_step"]
    bench.iptables("-D INPUT 1", four)
    other.iptables("-D INPUT 1", six)
    drift = json.loads(bench.main(*plain).out)["drift"]
    assert {(one["backend"], one["chain"]) for one in drift} == {(TOOLS[f], "INPUT") for f in (four, six)}
    assert {one["backend"] for one in document(bench)["drift"]} == {TOOLS[four], TOOLS[six]}
    assert {one["change"] for one in document(bench)["drift"] if one["backend"] == TOOLS[six]} >= {"gone"}


def test_read_in_process_though_applied_with_the_other_variant(bench: Bench, first: Path) -> None:
    """The library reads legacy tables only, and was asked for."""
    Bench(bench.name, "nft", bench.state_dir, bench.main).done("apply", first)
    plain = ("status", "--netns", bench.name, "--state-dir", str(bench.state_dir), "-o", "json")
    assert json.loads(bench.main(*plain).out)["in_step"]
    assert not json.loads(bench.main(*plain, "--engine", "python-iptables").out)["in_step"]


def test_a_setting(bench: Bench, first: Path) -> None:
    bench.done("apply", first)
    bench.set_sysctl("net.ipv4.conf.all.route_localnet", "0")
    setting = {"name": "net.ipv4.conf.all.route_localnet", "applied": "1", "live": "0"}
    assert document(bench)["settings"] == [setting]
    assert "  net.ipv4.conf.all.route_localnet is 0, not 1\n" in bench.run("status").out


@pytest.mark.parametrize("layout", ["kube-proxy", "compact"])
def test_connections_of_a_service(bench: Bench, first: Path, layout: str) -> None:
    """They are the packets that rules have counted which name a frontend, or an endpoint."""
    bench.done("apply", first, "--layout", layout)
    local, endpoint = "-d 127.0.0.0/8 -p tcp .*--dports? 30080", "DNAT --to-destination 10.180.2.5:8080"
    words = {"10.96.12.34/32": 3, local: 4, endpoint: 5}
    counted = bench.counted(IpFamily.IPV4)
    for word, count in words.items():
        counted, found = re.subn(
            rf"(?m)^\[0:0\] (-A (?!\S+ .*MARK)\S+ .*{word}.*)", rf"[{count}:99] \1", counted
        )
        assert found == 1, word
    bench.load(counted, IpFamily.IPV4, "--counters")
    (service,) = (one for one in document(bench)["services"] if one["family"] == "IPv4")
    assert service["service"] == "shop/web:http"
    assert {one["to"]: one["connections"] for one in service["frontends"]} == {
        "10.96.12.34:80/TCP": 3,
        "127.0.0.0/8:30080/TCP": 4,
        "*:30080/TCP": 0,
    }
    endpoints = {one["endpoint"]: one["connections"] for one in service["endpoints"]}
    assert endpoints.pop("10.180.2.5:8080") == 5
    assert set(endpoints.values()) == {0}
    assert "  127.0.0.0/8:30080/TCP  4\n" in bench.done("status").out
