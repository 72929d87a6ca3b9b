"""The names of the compact layout's chains, and whose chains and jumps a namespace holds."""

from __future__ import annotations

import pytest

from kproxy_nat.apply import ownership
from kproxy_nat.lowering import chain_names, compact_names
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.wellformed import MAX_CHAIN_NAME, faults
from tests.oracle.compiling import random_input, view_of
from tests.oracle.manifests import endpoint, endpoint_slice, node, port, service


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", IpFamily)
def test_every_chain_is_ours_and_short_enough(seed: int, family: IpFamily) -> None:
    ruleset = Layout(LayoutName.COMPACT).ruleset(random_input(seed).view(family))
    assert list(faults(ruleset)) == []
    for table in ruleset.tables.values():
        for chain in table.chains.values():
            if chain.policy is None:
                assert ownership.is_owned(table.name, chain.name), chain.name


@pytest.mark.parametrize(
    "name",
    [
        "KPN-",
        "KPN-SVC-short",
        "KPN-SERVICES-2",
        "MY-KPN-SERVICES",
        "KPN-SVC-AAAAAAAAAAAAAAAA-xyz",
        "KPN-XX-10.0.0.0/8",
        "KUBE-SVC-AAAAAAAAAAAAAAA1",
    ],
)
def test_names_that_only_look_alike_are_foreign(name: str) -> None:
    assert not compact_names.is_compact_chain(name)
    assert not ownership.is_owned("nat", name)


def test_in_other_tables_nothing_is_ours() -> None:
    assert not ownership.is_owned("mangle", compact_names.SERVICES)


def test_no_name_begins_as_one_that_kube_proxy_cleans_up() -> None:
    assert not compact_names.PREFIX.startswith("KUBE")
    assert not chain_names.CLUSTER_PREFIX.startswith(compact_names.PREFIX)


def test_a_branch_is_named_by_its_range_where_that_fits() -> None:
    assert compact_names.branch_name(compact_names.SERVICES, "10.96.0.0/14") == "KPN-IP-10.96.0.0/14"
    longest = compact_names.branch_name(compact_names.SERVICES, "255.255.255.252/30")
    assert longest == "KPN-IP-255.255.255.252/30"
    assert len(longest) <= MAX_CHAIN_NAME
    hashed = compact_names.branch_name(compact_names.SERVICES, "fd00:10:96::/114")
    assert compact_names.is_compact_chain(hashed)
    assert ":" not in hashed


@pytest.mark.parametrize(("family", "address"), [("IPv4", "10.96.0.10"), ("IPv6", "fd00:10:96::10")])
def test_branches_below_one_address_are_ours(family: str, address: str) -> None:
    """Many ports of one address are divided by protocol and by ranges of ports."""
    ports = [
        port(number, f"p{number}-{protocol.lower()}", protocol)
        for number in range(1, 60000, 1500)
        for protocol in ("TCP", "UDP", "SCTP")
    ]
    objects = [
        node(),
        service(cluster_ip=address, ports=ports),
        endpoint_slice(family=family, endpoints=[endpoint(address)], ports=ports),
    ]
    ruleset = Layout(LayoutName.COMPACT).ruleset(view_of(objects, IpFamily(family)))
    assert list(faults(ruleset)) == []
    branches = [name for name in ruleset.tables["nat"].chains if name.startswith("KPN-IP-")]
    assert len(branches) > 10
    assert all(compact_names.is_compact_chain(name) for name in branches)
    assert not any(" " in name for name in branches)


@pytest.mark.parametrize("family", IpFamily)
def test_the_jumps_of_both_layouts_are_ours(family: IpFamily) -> None:
    lines = ownership.jump_lines(family)
    for target in ("KUBE-SERVICES", "KPN-SERVICES", "KPN-FORWARD", "KUBE-FORWARD"):
        assert any(line.endswith(f" -j {target}") for line in lines)
