"""Figures of layouts: rules on a packet's way, counted by hand and by formula."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.stats.measures import measure_iptables, measure_views, summary
from kproxy_nat.stats.text import stats_text
from kproxy_nat.stats.traffic import Traffic
from kproxy_nat.stats.walks import FirstPacket, Walker
from tests.oracle.compiling import view_of
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, port, service

PACKET = FirstPacket(Address("192.0.2.1"), Address("10.96.0.1"), "tcp", 80, "eth0")
NAT = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
"""


def ways(*rules: str, packet: FirstPacket = PACKET) -> list[tuple[float, int]]:
    text = NAT + "".join(f"-A {rule}\n" for rule in rules) + "COMMIT\n"
    return Walker(parse_save(text, IpFamily.IPV4), frozenset((Address("192.168.0.2"),))).walk(packet)


def test_rules_are_counted_up_to_the_one_that_decides() -> None:
    found = ways(
        "PREROUTING -d 10.96.0.9/32 -j A",
        "PREROUTING -p udp -m udp --dport 80 -j A",
        "PREROUTING -d 10.96.0.0/16 -j A",
        "A -m comment --comment counts",
        "A -p tcp -j DNAT --to-destination 10.0.0.1:8080",
        "A -j ACCEPT",
        "PREROUTING -j ACCEPT",
    )
    assert found == [(1.0, 5)]


def test_a_jump_comes_back_and_a_goto_does_not() -> None:
    assert ways("PREROUTING -j A", "A -j B", "A -s 1.1.1.1/32 -j ACCEPT", "PREROUTING -p udp -j A") == [
        (1.0, 4)
    ]
    assert ways("PREROUTING -j A", "A -g B", "A -s 1.1.1.1/32 -j ACCEPT", "PREROUTING -p udp -j A") == [
        (1.0, 3)
    ]


def test_draws_have_their_probabilities() -> None:
    found = ways(
        "PREROUTING -m statistic --mode random --probability 0.25 -j A",
        "PREROUTING -j A",
        "A -p tcp -j DNAT --to-destination 10.0.0.1:8080",
    )
    assert sorted(found) == [(0.25, 2), (0.75, 3)]


def test_a_mark_counts_on_the_way_out() -> None:
    out = ("POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN", "POSTROUTING -j MASQUERADE")
    assert ways(*out) == [(1.0, 1)]
    assert ways("PREROUTING -j MARK --set-xmark 0x4000/0x4000", *out) == [(1.0, 3)]


def test_what_goes_to_the_node_does_not_leave() -> None:
    to_node = FirstPacket(PACKET.source, Address("192.168.0.2"), "tcp", 80, "eth0")
    assert ways("POSTROUTING -j ACCEPT", packet=to_node) == [(1.0, 0)]


def test_quantiles() -> None:
    walks = summary([[(0.5, 10), (0.5, 20)], [(1.0, 30)]])
    assert (walks.frontends, walks.median, walks.p99, walks.worst) == (2, 20, 30, 30)


@pytest.mark.parametrize("services", [3, 40, 200])
def test_the_linear_layout_grows_and_the_tree_does_not(services: int) -> None:
    objects = [node()]
    for number in range(services):
        name = f"shop/s{number}"
        objects += [service(name, f"10.96.{number >> 8}.{number & 255}"), endpoint_slice(name)]
    view = view_of(objects)
    linear = measure_iptables(view, Layout()).first_packet[Traffic.CLUSTER_IP]
    tree = measure_iptables(view, Layout(LayoutName.COMPACT)).first_packet[Traffic.CLUSTER_IP]
    assert linear.worst - linear.median == pytest.approx(services / 2, abs=1)
    assert tree.worst <= 16 + 4 * 4 + 12


def test_the_table_has_a_column_for_each_layout_and_a_row_for_each_kind_there_is() -> None:
    objects = [
        node(),
        service(vips=["198.51.100.7"], ports=[port(nodePort=30080)], type="LoadBalancer"),
        endpoint_slice(endpoints=many_endpoints(2)),
    ]
    document = measure_views([view_of(objects)], "node1", Hairpin.BPF)
    lines = stats_text(document).splitlines()
    assert lines[0] == "IPv4: 1 service ports, 2 endpoints"
    assert lines[1].split() == ["iptables", "kube-proxy", "iptables", "compact"]
    titles = [line.split("  ")[1] for line in lines[2:] if line.startswith("  ")]
    kinds = ["ClusterIP (1)", "NodePort (1)", "LoadBalancer (1)", "not a Service (1)"]
    assert titles == ["rules", "chains", "bytes", *kinds]
