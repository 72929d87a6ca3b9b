"""Figures of layouts: rules on a packet's way, counted by hand and by formula."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.nft_script_parse import parse_tables
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from kproxy_nat.stats.measures import measure, measure_iptables, measure_views, summary
from kproxy_nat.stats.nft_walks import NftWalker
from kproxy_nat.stats.packets import FirstPacket
from kproxy_nat.stats.text import stats_text
from kproxy_nat.stats.traffic import Traffic
from kproxy_nat.stats.walks import Walker
from tests.oracle.compiling import cluster_of, options_of, view_of
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


def test_lists_of_ports() -> None:
    found = ways(
        "PREROUTING -p tcp -m multiport --dports 81,90:99 -j ACCEPT",
        "PREROUTING -p tcp -m multiport --sports 80 -j ACCEPT",
        "PREROUTING -p tcp -m multiport ! --dports 81 -j A",
        "A -p tcp -m multiport --dports 80 -j B",
        "B -p tcp -m multiport --dports 70:79,80 -j ACCEPT",
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
    assert lines[0] == "IPv4: 1 service port, 2 endpoints"
    assert lines[1].split() == ["iptables", "kube-proxy", "iptables", "compact"]
    titles = [line.split("  ")[1] for line in lines[2:] if line.startswith("  ")]
    kinds = ["ClusterIP (1)", "NodePort (1)", "LoadBalancer (1)", "not a Service (1)"]
    assert titles == ["rules", "chains", "bytes", *kinds]


NFT = """table ip t {
\tset clients {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\ttimeout 1m
\t}

\tmap vips {
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t\telements = { 10.96.0.1 . tcp . 80 : goto a }
\t}

\tmap slots {
\t\ttypeof ip daddr . th dport . numgen random mod 2 : ip daddr . th dport
\t\telements = { 10.96.0.1 . 80 . 0 : 10.0.0.1 . 8080 }
\t}

\tchain early {
\t\ttype filter hook prerouting priority dstnat - 10; policy accept;
\t\tct state new ip saddr 1.1.1.1 drop
\t}

\tchain late {
\t\ttype filter hook forward priority filter; policy accept;
\t\tct status dnat accept
\t\tdrop
\t}

\tchain out {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tmeta mark & 0x00004000 != 0x00000000 masquerade
\t\treturn
\t}

\tchain nat {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tjump b
\t\tip daddr . meta l4proto . th dport vmap @vips
\t\tip saddr 10.0.0.0/8 accept
\t}

\tchain a {
%s\t}

\tchain b {
\t\treturn
\t\tdrop
\t}
}
"""


def nft_ways(*rules: str, packet: FirstPacket = PACKET) -> list[tuple[float, int]]:
    (table,) = parse_tables(NFT % "".join(f"\t\t{rule}\n" for rule in rules))
    return sorted(NftWalker(table, frozenset((Address("192.168.0.2"),))).walk(packet))


def test_rules_of_nftables_are_counted_through_all_hooks() -> None:
    """Early 1, jump and return 2, the look-up 1; then the rules of chain a; late 1, and out 1 or 2."""
    assert nft_ways("meta l4proto udp drop", "dnat to 10.0.0.1:80") == [(1.0, 4 + 2 + 1 + 2)]
    marked = "meta mark set meta mark | 0x00004000"
    assert nft_ways(f"{marked} dnat to 10.0.0.1:80") == [(1.0, 4 + 1 + 1 + 1)]
    assert nft_ways(marked, "dnat to 192.168.0.2:80") == [(1.0, 4 + 2)]


def test_draws_of_nftables_have_their_probabilities() -> None:
    """A slot that is missing translates nothing; late drops it in its second rule."""
    draw = "dnat ip to ip daddr . tcp dport . numgen random mod 2 map @slots"
    assert nft_ways(draw) == [(0.5, 4 + 1 + 2), (0.5, 4 + 1 + 1 + 2)]
    one_of_four = "numgen random mod 4 0 dnat to 10.0.0.1:80"
    assert nft_ways(one_of_four, "drop") == [(0.25, 4 + 1 + 1 + 2), (0.75, 4 + 2)]
    to_other = "dnat ip to ip daddr . udp dport . numgen random mod 2 map @slots"
    assert nft_ways(to_other) == [(1.0, 4 + 1 + 2)]


def test_no_client_was_seen_before() -> None:
    rules = ("ip saddr @clients drop", "update @clients { ip saddr } dnat to 10.0.0.1:80")
    assert nft_ways(*rules) == [(1.0, 4 + 2 + 1 + 2)]


def test_what_is_refused_early_goes_no_further() -> None:
    refused = FirstPacket(Address("1.1.1.1"), PACKET.destination, "tcp", 80, "eth0")
    assert nft_ways(packet=refused) == [(1.0, 1)]


@pytest.mark.parametrize("services", [3, 200])
@pytest.mark.parametrize("layout", LayoutName)
def test_no_number_of_services_makes_a_way_longer_in_nftables(services: int, layout: LayoutName) -> None:
    objects = [node()]
    for number in range(services):
        name = f"shop/s{number}"
        objects += [service(name, f"10.96.{number >> 8}.{number & 255}"), endpoint_slice(name)]
    cluster = cluster_of(objects)
    view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), IpFamily.IPV4)
    found = measure(view, Layout(layout))
    assert found.first_packet[Traffic.CLUSTER_IP].worst <= 13
    own_chains = services if layout is LayoutName.KUBE_PROXY else 1
    assert found.chains == 7 + own_chains
    assert found.sets == 8 + own_chains
    assert found.elements == 3 * services + 1
