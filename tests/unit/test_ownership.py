"""What is ours: by name, and jumps word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from kproxy_nat.apply import ownership
from kproxy_nat.formats.iptables_dump import Dump, split_dump
from kproxy_nat.net.addresses import IpFamily
from tests.corpus import read

HASH = "ABCDEFGHIJKLMN27"
CORPUS = Path(__file__).parents[1] / "corpus" / "dumps"
GALLERY = Path(__file__).parents[2] / "rules"


def dump(name: str, family: IpFamily = IpFamily.IPV4) -> Dump:
    return split_dump(read(CORPUS / name), family)


@pytest.mark.parametrize(
    "table, chain, owned",
    [
        ("nat", "KUBE-SERVICES", True),
        ("filter", "KUBE-SERVICES", True),
        ("mangle", "KUBE-SERVICES", False),
        ("nat", "KUBE-MARK-MASQ", True),
        ("filter", "KUBE-MARK-MASQ", False),
        ("nat", "KUBE-POSTROUTING", True),
        ("filter", "KUBE-FORWARD", True),
        ("nat", "KUBE-FORWARD", False),
        ("filter", "KUBE-FIREWALL", True),
        ("nat", "KUBE-FIREWALL", False),
        ("nat", "KUBE-MARK-DROP", False),
        ("nat", f"KUBE-SVC-{HASH}", True),
        ("nat", f"KUBE-SVL-{HASH}", True),
        ("nat", f"KUBE-EXT-{HASH}", True),
        ("nat", f"KUBE-FW-{HASH}", True),
        ("nat", f"KUBE-SEP-{HASH}", True),
        ("filter", f"KUBE-SVC-{HASH}", False),
        ("nat", f"KUBE-SVC-{HASH}A", False),
        ("nat", f"KUBE-SVC-{HASH[:-1]}", False),
        ("nat", f"KUBE-SVC-{HASH.lower()}", False),
        ("nat", "KUBE-SVC-ABCDEFGHIJKLMN01", False),
        ("nat", f"MY-KUBE-SVC-{HASH}", False),
        ("nat", "KUBE-SVC-", False),
        ("nat", "KUBE-PROXY-CANARY", False),
        ("filter", "KUBE-KUBELET-CANARY", False),
        ("nat", "DOCKER", False),
        ("nat", "PREROUTING", False),
    ],
)
def test_chains(table: str, chain: str, owned: bool) -> None:
    assert ownership.is_owned(table, chain) is owned


@pytest.mark.parametrize(
    "family, file", [(IpFamily.IPV4, "iptables.rules"), (IpFamily.IPV6, "ip6tables.rules")]
)
def test_all_that_is_compiled_is_ours(family: IpFamily, file: str) -> None:
    """Of every rule file of the gallery: all chains by name, and all rules in built-in chains."""
    paths = sorted(GALLERY.glob(f"*/{file}"))
    assert len(paths) > 50
    for path in paths:
        rules = split_dump(path.read_text(encoding="utf-8"), family)
        assert set(rules.tables) == set(ownership.TABLES)
        for name, table in rules.tables.items():
            assert all(ownership.is_owned(name, chain) for chain in table.user_chains())
            found = {line for chain in table.policies for line in table.chains[chain].splitlines()}
            assert found <= ownership.jump_lines(family)


def test_each_layout_has_its_jumps() -> None:
    """kube-proxy's are 14; the compact layout has one for each hook that it uses."""
    for family in IpFamily:
        jumps = ownership.jump_lines(family)
        assert len([line for line in jumps if " -j KUBE-" in line]) == 14
        assert len([line for line in jumps if " -j KPN-" in line]) == len(jumps) - 14


def test_rules_of_kube_proxy_are_recognised() -> None:
    rules = dump("kubeproxy.rules")
    jumps = ownership.jump_lines(IpFamily.IPV4)
    for name in ownership.TABLES:
        table = rules.table(name)
        strangers = [chain for chain in table.user_chains() if not ownership.is_owned(name, chain)]
        assert strangers == ["KUBE-PROXY-CANARY"]
        for chain in table.policies:
            assert set(table.chains[chain].splitlines()) <= jumps


@pytest.mark.parametrize(
    "name, kubelet, kube_proxy",
    [("kubelet.rules", True, False), ("kubeproxy.rules", False, True), ("docker.rules", False, False)],
)
def test_others_are_known_by_their_canaries(name: str, kubelet: bool, kube_proxy: bool) -> None:
    rules = dump(name)
    assert ownership.shares_firewall(rules) is kubelet
    assert ownership.managed_by_kube_proxy(rules) is kube_proxy


def test_jumps_that_a_kubelet_makes_too() -> None:
    lines = [line for line in ownership.jump_lines(IpFamily.IPV4) if ownership.leads_to_firewall(line)]
    assert sorted(lines) == ["-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL"]


def test_foreign_chains_of_the_corpus_are_foreign() -> None:
    for name in ("docker.rules", "ufw.rules", "calico.rules", "firewalld.rules", "libvirt.rules"):
        for table_name, table in dump(name).tables.items():
            assert not any(ownership.is_owned(table_name, chain) for chain in table.chains)
