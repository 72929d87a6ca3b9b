"""Two examples that were worked out by hand from a description of kube-proxy, before this compiler was there.

``worked/shop`` has the whole transaction, ``worked/shop-ipv6`` the chains that its one Service has rules in.
"""

from __future__ import annotations

from pathlib import Path

from tests.conformance.command_line import compiled
from tests.conformance.rule_text import chain_differences, differences, read_chains

WORKED = Path(__file__).parent / "worked"


def test_shop() -> None:
    ours = compiled(WORKED / "shop/manifests.yaml", "--form", "restore")
    assert not differences(ours, (WORKED / "shop/iptables.restore").read_text())


def test_shop_over_ipv6() -> None:
    expected = read_chains((WORKED / "shop-ipv6/ip6tables.excerpt").read_text())
    ours = read_chains(compiled(WORKED / "shop-ipv6/manifests.yaml", "--form", "restore", "--family", "ipv6"))
    assert not chain_differences({name: ours[name] for name in expected}, expected)
    fixed = {"KUBE-POSTROUTING", "KUBE-MARK-MASQ"}
    assert {name for table, name in ours if table == "nat"} == {name for _, name in expected} | fixed
