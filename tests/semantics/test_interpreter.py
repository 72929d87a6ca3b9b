"""The interpreter of the tests, by rules whose outcomes are known; and that it tells layouts apart."""

from __future__ import annotations

import ipaddress
from fractions import Fraction

import pytest

from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.bytecode import SAME_ADDRESSES
from tests.semantics.bpf_machine import run
from tests.semantics.interpreter import Outcome, Packet, Rules
from tests.semantics.test_layouts_agree import (
    COMPACT,
    assert_same_behaviour,
    gallery_view,
    text_of,
)

NODE = int(ipaddress.ip_address("192.168.0.2"))
CLIENT = int(ipaddress.ip_address("192.0.2.9"))
VIP = int(ipaddress.ip_address("10.96.0.1"))
PACKET = Packet(CLIENT, VIP, "tcp", 80, "eth0")

HEAD = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
%s
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
%s
COMMIT
"""


def outcomes(nat: str, filtered: str = "", packet: Packet = PACKET) -> dict[Outcome, Fraction]:
    return Rules(HEAD % (filtered, nat), frozenset((NODE,)), 4).outcomes(packet)


def destinations(found: dict[Outcome, Fraction]) -> dict[str, Fraction]:
    return {f"{ipaddress.ip_address(o.destination)}:{o.port}": share for o, share in found.items()}


def test_a_draw_is_as_exact_as_the_kernels() -> None:
    found = outcomes(
        "-A PREROUTING -m statistic --mode random --probability 0.33333333349 -j A\n"
        "-A PREROUTING -j B\n"
        "-A A -p tcp -j DNAT --to-destination 10.0.0.1:8080\n-A B -p tcp -j DNAT --to-destination 10.0.0.2:81"
    )
    third = Fraction(715827883, 1 << 31)
    assert destinations(found) == {"10.0.0.1:8080": third, "10.0.0.2:81": 1 - third}


def test_goto_does_not_come_back_but_jump_does() -> None:
    after = "-A B -s 1.1.1.1/32 -j ACCEPT\n-A A -%s B\n-A A -j MASQUERADE\n-A POSTROUTING -j A"
    assert [o.masqueraded for o in outcomes(after % "j")] == [True]
    assert [o.masqueraded for o in outcomes(after % "g")] == [False]


def test_a_list_is_set_only_where_what_stands_before_it_matched() -> None:
    rule = "-A PREROUTING%s -m recent --set --name L --mask 255.255.255.255 --rsource -j ACCEPT"
    assert [o.seen for o in outcomes(rule % " -p tcp")] == [frozenset({("L", CLIENT)})]
    assert [o.seen for o in outcomes(rule % " -p udp")] == [frozenset()]


def test_a_verdict_is_told_from_the_hosts_policy() -> None:
    assert [o.verdict for o in outcomes("", "-A FORWARD -d 10.96.0.1/32 -j ACCEPT")] == ["ACCEPT"]
    assert [o.verdict for o in outcomes("", "-A FORWARD -d 10.96.0.2/32 -j ACCEPT")] == ["POLICY"]
    assert [o.verdict for o in outcomes("", "-A INPUT -j DROP")] == ["POLICY"]


def test_the_state_dnat_needs_a_change() -> None:
    rules = "-A PREROUTING -p tcp -j DNAT --to-destination %s:80"
    guard = "-A FORWARD -m conntrack --ctstate DNAT -j DROP"
    assert [o.verdict for o in outcomes(rules % "10.0.0.1", guard)] == ["DROP"]
    assert [o.verdict for o in outcomes(rules % "10.96.0.1", guard)] == ["POLICY"]


@pytest.mark.parametrize("family", IpFamily)
def test_the_program_for_hairpins_compares_whole_addresses(family: IpFamily) -> None:
    size, before = (4, 12) if family is IpFamily.IPV4 else (16, 8)
    program = SAME_ADDRESSES[family]
    address = bytes(range(1, size + 1))
    assert run(program, bytes(before) + address + address)
    for position in range(size):
        other = bytes(b ^ (1 if at == position else 0) for at, b in enumerate(address))
        assert not run(program, bytes(before) + address + other)
    assert not run(program, bytes(before) + address)


CHANGES = [
    ("external-policy-local", "-m addrtype --src-type LOCAL -j MARK", "-m addrtype --dst-type LOCAL -j MARK"),
    ("external-policy-local", "-j DROP", "-j ACCEPT"),
    ("loadbalancer-source-ranges", "-j DROP", "-j ACCEPT"),
    ("clusterip", "--probability 0.5", "--probability 0.4"),
    ("clusterip", "! -s 10.180.0.0/16 -j MARK", "-s 10.180.0.0/16 -j MARK"),
    ("clusterip", "-m bpf", "-p udp -m bpf"),
    ("session-affinity", "--update", "--set"),
    ("nodeport", "--dst-type LOCAL -j KPN", "! --dst-type LOCAL -j KPN"),
    ("no-endpoints", "-j REJECT --reject-with icmp-port-unreachable", "-j DROP"),
    ("health-check-node-port", "-j ACCEPT", "-j DROP"),
    ("masquerade-all", "-j MARK --set-xmark 0x4000/0x4000", "-j RETURN"),
    ("localhost-nodeports-off", "! -d 127.0.0.0/8 ", ""),
]


@pytest.mark.parametrize(("topic", "old", "new"), CHANGES)
def test_a_changed_rule_is_noticed(topic: str, old: str, new: str) -> None:
    """What the comparison of the layouts is worth: it fails when a rule says something else."""
    view = gallery_view(topic, IpFamily.IPV4)
    text = text_of(COMPACT, view)
    assert old in text
    with pytest.raises(AssertionError):
        assert_same_behaviour(view, text_of(Layout(), view), text.replace(old, new), seed=1)
