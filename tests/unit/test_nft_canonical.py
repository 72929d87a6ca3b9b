"""The canonical form of nftables rules, sets and priorities, as seen with nft 1.0.6."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.nft_priorities import priority_text
from kproxy_nat.formats.nft_render import duration_text
from kproxy_nat.formats.nft_words import NotWritableError, identifier, listing_words, quoted, script_words
from kproxy_nat.net.addresses import Address, Cidr, IpFamily
from kproxy_nat.ruleset.actions import Dnat, OpaqueAction, Reject, SetMark
from kproxy_nat.ruleset.keys import Field
from kproxy_nat.ruleset.matches import Comment, Destination, InInterface, OneOf, OpaqueStatement, Source
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule
from kproxy_nat.ruleset.nft_values import in_listed_order
from kproxy_nat.ruleset.rules import Hook, Rule

V4, V6 = IpFamily.IPV4, IpFamily.IPV6


def listed(rule: Rule, family: IpFamily = V4) -> str:
    return listing_words("ip" if family is V4 else "ip6").rule(canonical_nft_rule(rule, family))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("10.0.0.0/8 10.1.0.0/16 1.2.3.4 11.0.0.0/8 1.2.3.5 0.0.0.1", "{ 0.0.0.1, 1.2.3.4/31, 10.0.0.0/7 }"),
        ("1.2.3.6 1.2.3.4 1.2.3.5", "{ 1.2.3.4, 1.2.3.5, 1.2.3.6 }"),
        ("10.0.0.4/32", "10.0.0.4"),
        ("10.0.0.4/32 10.0.0.5/32", "10.0.0.4/31"),
        ("10.0.0.4 10.0.0.4", "10.0.0.4"),
        ("10.0.0.0/24 10.0.0.7", "10.0.0.0/24"),
        ("10.0.0.0/24 10.0.1.0/24", "10.0.0.0/23"),
        ("10.0.0.0/24 10.0.2.0/24", "{ 10.0.0.0/24, 10.0.2.0/24 }"),
        ("0.0.0.0/1 128.0.0.0/2 10.0.0.4", "0.0.0.0-191.255.255.255"),
        ("240.0.0.0/4 255.255.255.255", "240.0.0.0/4"),
        ("0.0.0.0-0.0.0.1", "0.0.0.0-0.0.0.1"),
        ("::1:2:3 ::1.2.3.4 fd00::1 fd00::2 fd00::3 ::/128", "{ ::, ::1.2.3.4, ::1:2:3, fd00::1-fd00::3 }"),
        ("fd00::1/128 fd00::2/127", "fd00::1-fd00::3"),
    ],
)
def test_networks_are_merged(values: str, expected: str) -> None:
    rule = Rule((OneOf((Field.SOURCE,), tuple((v,) for v in values.split()), negated=True),), ())
    family = V6 if ":" in values else V4
    assert listed(rule, family) == f"{'ip6' if family is V6 else 'ip'} saddr != {expected}"


def test_a_comment_stands_last_and_networks_are_short() -> None:
    rule = Rule((Comment("x y"), Source(Cidr("10.0.0.1/32")), Destination(Cidr("::/96"))), (Reject(),))
    assert listed(rule) == 'ip saddr 10.0.0.1 ip6 daddr ::/96 reject comment "x y"'
    assert listed(Rule((), (Dnat(Address("::102:304"), 80),)), V6) == "dnat to [::1.2.3.4]:80"


def test_a_concatenation_is_listed_by_its_last_part_first() -> None:
    types = ("ipv4_addr", "inet_proto", "inet_service")
    first, *others = [("10.0.0.1", "udp", 256), ("10.0.0.1", "tcp", 1), ("10.0.0.2", "tcp", 1)]
    order = [first, *others, ("9.0.0.1", "sctp", 257)]
    assert in_listed_order(sorted(order, key=str), types) == order
    assert in_listed_order(reversed(order), types) == order


def test_values_of_unknown_types_stay_in_order() -> None:
    values = [("b",), ("a",)]
    assert in_listed_order(values, ("ifname",)) == values
    assert in_listed_order([("x",), (1,)], ("inet_service",)) == [("x",), (1,)]


@pytest.mark.parametrize(
    ("name", "priority", "expected"),
    [
        ("prerouting", -110, "dstnat - 10"),
        ("prerouting", -111, "-111"),
        ("prerouting", -100, "dstnat"),
        ("output", -100, "-100"),
        ("output", -110, "-110"),
        ("postrouting", 100, "srcnat"),
        ("prerouting", 100, "100"),
        ("input", 0, "filter"),
        ("input", 10, "filter + 10"),
        ("input", 11, "11"),
        ("forward", 50, "security"),
        ("prerouting", -300, "raw"),
        ("output", -155, "mangle - 5"),
    ],
)
def test_priorities_have_names(name: str, priority: int, expected: str) -> None:
    assert priority_text(Hook("filter", name, priority)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (1, "1s"), (60, "1m"), (61, "1m1s"), (10800, "3h"), (86399, "23h59m59s"), (86400, "1d")],
)
def test_times(seconds: int, expected: str) -> None:
    assert duration_text(seconds) == expected


@pytest.mark.parametrize("text", ['a"b', "a\nb", "a\0b", "a\rb"])
def test_no_text_breaks_out_of_its_quotes(text: str) -> None:
    with pytest.raises(NotWritableError):
        quoted(text)
    with pytest.raises(NotWritableError):
        script_words("ip").rule(Rule((Comment(text),), ()))
    with pytest.raises(NotWritableError):
        script_words("ip").rule(Rule((InInterface(text),), ()))


@pytest.mark.parametrize("name", ["", "a b", "a;b", "1a", "a{", "a\n", 'a"', "-a", "ä"])
def test_no_name_is_more_than_a_word(name: str) -> None:
    with pytest.raises(NotWritableError):
        identifier(name)


@pytest.mark.parametrize(
    "rule",
    [
        Rule((OpaqueStatement('{"log": null}'),), ()),
        Rule((), (OpaqueAction("-j LOG"),)),
        Rule((), (Reject("tcp-reset"),)),
        Rule((), (SetMark(1, 3),)),
    ],
)
def test_what_has_no_form_in_text_is_refused(rule: Rule) -> None:
    with pytest.raises(NotWritableError):
        listed(rule)


@pytest.mark.parametrize(
    ("name", "script", "listing"),
    [
        ("cni0", "cni0", '"cni0"'),
        ("veth+", "veth*", '"veth*"'),
        ("bridge", '"bridge"', '"bridge"'),
        ("br:1", '"br:1"', '"br:1"'),
        ("1+", '"1*"', '"1*"'),
    ],
)
def test_interfaces_are_quoted_where_they_must_be(name: str, script: str, listing: str) -> None:
    rule = Rule((InInterface(name),), ())
    assert script_words("ip").rule(rule) == f"iifname {script}"
    assert listed(rule) == f"iifname {listing}"
