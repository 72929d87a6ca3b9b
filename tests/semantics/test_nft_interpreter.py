"""The tests' interpreter of nftables, by rules whose outcomes are known; and that it tells layouts apart."""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction

import pytest

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from tests.semantics.interpreter import Outcome, Packet
from tests.semantics.nft_interpreter import NftRules
from tests.semantics.test_layouts_agree import gallery_view
from tests.semantics.test_nft_layouts_agree import COMPACT, KUBE_PROXY, assert_same_behaviour, text_of

NODE = int(ipaddress.ip_address("192.168.0.2"))
CLIENT = int(ipaddress.ip_address("192.0.2.9"))
VIP = int(ipaddress.ip_address("10.96.0.1"))
PACKET = Packet(CLIENT, VIP, "tcp", 80, "eth0")


def outcomes(rules: str, chains: str = "", packet: Packet = PACKET) -> dict[Outcome, Fraction]:
    """Return the outcomes of these rules in prerouting, type nat; ``chains`` are more chains and sets."""
    hook = "\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
    body = "".join(f"\t\t{line}\n" for line in rules.splitlines())
    text = f"table ip t {{\n{chains}\tchain nat {{\n{hook}{body}\t}}\n}}\n"
    return NftRules(text, frozenset((NODE,)), 4).outcomes(packet)


def chain(name: str, *rules: str) -> str:
    return f"\tchain {name} {{\n" + "".join(f"\t\t{rule}\n" for rule in rules) + "\t}\n\n"


def destinations(found: dict[Outcome, Fraction]) -> dict[str, Fraction]:
    return {f"{ipaddress.ip_address(o.destination)}:{o.port}": share for o, share in found.items()}


def test_a_draw_through_a_map() -> None:
    third = Fraction(1, 3)
    slots = "{ 0 : 10.0.0.1 . 81, 1 : 10.0.0.2 . 82, 2 : 10.0.0.1 . 81 }"
    found = outcomes(f"meta l4proto tcp dnat ip to numgen random mod 3 map {slots}")
    assert destinations(found) == {"10.0.0.1:81": 2 * third, "10.0.0.2:82": third}


def test_a_slot_that_is_missing_translates_nothing() -> None:
    found = outcomes("meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 81 }\ndrop")
    assert {o.verdict: share for o, share in found.items()} == {
        "POLICY": Fraction(1, 2),
        "DROP": Fraction(1, 2),
    }


def test_one_of_those_that_are_left_has_an_equal_share() -> None:
    rules = [f"numgen random mod {n} 0 dnat to 10.0.0.{n}:80" for n in (4, 3, 2)]
    found = outcomes("\n".join([*rules, "dnat to 10.0.0.1:80"]))
    assert set(found.values()) == {Fraction(1, 4)}
    assert len(found) == 4


def test_a_port_of_another_protocol_is_in_no_map() -> None:
    rule = "dnat ip to ip daddr . udp dport . numgen random mod 1 map @m"
    m = "\tmap m {\n\t\ttypeof x\n\t\telements = { 10.96.0.1 . 80 . 0 : 10.0.0.1 . 81 }\n\t}\n\n"
    assert destinations(outcomes(rule, m)) == {"10.96.0.1:80": 1}
    assert destinations(outcomes(rule.replace("udp", "tcp"), m)) == {"10.0.0.1:81": 1}


def test_goto_does_not_come_back_but_jump_does() -> None:
    chains = chain("a", "%s b", "masquerade") + chain("b", "ip saddr 1.1.1.1 accept")
    assert [o.masqueraded for o in outcomes("jump a", chains % "jump")] == [True]
    assert [o.masqueraded for o in outcomes("jump a", chains % "goto")] == [False]


def test_what_stands_before_a_condition_that_fails_is_done() -> None:
    found = outcomes(
        "meta mark set meta mark | 0x00000010 ip saddr 1.1.1.1 drop\nip saddr 192.0.2.0/24 accept"
    )
    assert [(o.mark, o.verdict) for o in found] == [(16, "POLICY")]


def test_a_client_is_noted_and_found_again() -> None:
    sets = "\tset s {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t}\n\n"
    (outcome,) = outcomes("update @s { ip saddr } accept", sets)
    assert outcome.seen == {("s", CLIENT)}


CHANGES = [
    ("external-policy-local", "fib saddr type local", "fib daddr type local"),
    ("external-policy-local", ": drop", ": accept"),
    ("loadbalancer-source-ranges", " drop\n", " accept\n"),
    ("loadbalancer-source-ranges", r"ip saddr != \{ 198", "ip saddr { 198"),
    ("clusterip", r"(\. 80 \. 0 : 10\.180\.\d+\.\d+) \. 8080", r"\1 . 8081"),
    ("clusterip", r"(dnat ip to ip daddr \. tcp dport \. numgen random mod) \d+", r"\1 1"),
    ("clusterip", "tcp dport", "udp dport"),
    ("clusterip", "ip saddr != 10.180.0.0/16", "ip saddr 10.180.0.0/16"),
    ("session-affinity", r"numgen random mod \d+ 0", "numgen random mod 5 0"),
    ("session-affinity", r"update @\S+ \{ ip saddr \} ", ""),
    ("nodeport", r"goto external-nodeport-\S+", "drop"),
    ("nodeport", r"meta mark set meta mark \| 0x00004000 goto", "goto"),
    ("no-endpoints", "goto reject-chain", "drop"),
    ("external-ips", "goto external-tcp", "goto balance-tcp"),
]


@pytest.mark.parametrize(("topic", "old", "new"), CHANGES)
def test_a_changed_rule_is_noticed(topic: str, old: str, new: str) -> None:
    """What the comparison of the layouts is worth: it fails when a rule says something else."""
    view = gallery_view(topic, IpFamily.IPV4, ProxyMode.NFTABLES)
    text = text_of(COMPACT, view)
    changed = re.sub(old, new, text)
    assert changed != text
    with pytest.raises(AssertionError):
        assert_same_behaviour(view, text_of(KUBE_PROXY, view), changed, seed=1)
