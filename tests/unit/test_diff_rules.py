"""Edits of one chain: kinds, causes, and whether a move can matter."""

from __future__ import annotations

import pytest

from kproxy_nat.diff.edits import Cause, EditKind, RuleEdit
from kproxy_nat.diff.overlap import may_overlap
from kproxy_nat.diff.rules import diff_rules
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.rules import Rule


def rules(*lines: str) -> list[Rule]:
    """Return rules of a chain, given without ``-A CHAIN``; ``-j`` may lead anywhere."""
    text = "*nat\n:X - [0:0]\n" + "".join(f"-A X {line}\n" for line in lines) + "COMMIT\n"
    parsed = parse_save(text, IpFamily.IPV4)
    return [canonical_rule(rule) for rule in parsed.tables["nat"].chains["X"].rules]


def balancing(*probabilities: str) -> list[Rule]:
    """Return a chain that chooses among endpoints; an empty probability is certainty."""
    lines = [
        f"{f'-m statistic --mode random --probability {p}' if p else ''} -j SEP-{number}"
        for number, p in enumerate(probabilities)
    ]
    return rules(*lines)


def told(edits: list[RuleEdit]) -> list[tuple[str, int | None, int | None]]:
    return [(edit.kind.value, edit.old_place, edit.new_place) for edit in edits]


class TestKinds:
    OLD = ("-d 10.0.0.1 -j A", "-d 10.0.0.2 -j B", "-d 10.0.0.3 -j C")

    def test_the_same(self) -> None:
        assert diff_rules(rules(*self.OLD), rules(*self.OLD)) == []

    def test_a_rule_more_and_a_rule_less(self) -> None:
        shorter = (self.OLD[0], self.OLD[2])
        assert told(diff_rules(rules(*shorter), rules(*self.OLD))) == [("insert", None, 1)]
        assert told(diff_rules(rules(*self.OLD), rules(*shorter))) == [("remove", 1, None)]

    def test_of_equal_rules_the_right_number_goes(self) -> None:
        line = "-j A"
        assert told(diff_rules(rules(line, line, line), rules(line))) == [
            ("remove", 1, None),
            ("remove", 2, None),
        ]

    def test_another_target_is_an_update(self) -> None:
        new = (self.OLD[0], "-d 10.0.0.2 -j D", self.OLD[2])
        (edit,) = diff_rules(rules(*self.OLD), rules(*new))
        assert (edit.kind, edit.cause) == (EditKind.UPDATE, Cause.ACTION)

    def test_another_condition_is_an_update(self) -> None:
        new = (self.OLD[0], "-d 10.0.0.9 -j B", self.OLD[2])
        (edit,) = diff_rules(rules(*self.OLD), rules(*new))
        assert (edit.kind, edit.cause) == (EditKind.UPDATE, Cause.CONDITIONS)

    def test_another_comment_is_an_update(self) -> None:
        (edit,) = diff_rules(rules("-m comment --comment a -j A"), rules("-m comment --comment b -j A"))
        assert (edit.kind, edit.cause) == (EditKind.UPDATE, Cause.COMMENT)

    def test_what_has_nothing_in_common_is_no_update(self) -> None:
        edits = diff_rules(rules("-d 10.0.0.1 -j A"), rules("-i eth0 -j B"))
        assert [edit.kind for edit in edits] == [EditKind.REMOVE, EditKind.INSERT]


class TestProbabilities:
    def test_shares_that_follow_from_the_number_of_endpoints(self) -> None:
        edits = diff_rules(balancing("0.5", ""), balancing("0.3333333333", "0.5", ""))
        causes = [edit.cause for edit in edits if edit.kind is EditKind.UPDATE]
        assert causes == [Cause.ENDPOINT_COUNT, Cause.ENDPOINT_COUNT]

    def test_a_share_that_was_changed_by_hand(self) -> None:
        (edit,) = diff_rules(balancing("0.3333333333", "0.5", ""), balancing("0.8", "0.5", ""))
        assert edit.cause is Cause.PROBABILITY

    def test_a_rounding_of_the_kernel_is_no_difference(self) -> None:
        assert (
            diff_rules(balancing("0.3333333333", "0.5", ""), balancing("0.33333333349", "0.50000000000", ""))
            == []
        )


MOVES = [
    # first, second, may both match one packet?
    ("-d 10.0.0.1 -j A", "-d 10.0.0.2 -j B", False),
    ("-d 10.0.0.0/8 -j A", "-d 10.0.0.2 -j B", True),
    ("-d 10.0.0.1 ! -s 10.1.0.0/16 -j A", "-d 10.0.0.1 -s 10.1.2.3 -j B", False),
    ("! -d 10.0.0.1 -j A", "! -d 10.0.0.2 -j B", True),
    ("-p tcp -j A", "-p udp -j B", False),
    ("-p tcp -j A", "! -p tcp -j B", False),
    ("-p tcp -m tcp --dport 80 -j A", "-p tcp -m tcp --dport 81 -j B", False),
    ("-p tcp -m tcp --dport 80:90 -j A", "-p tcp -m tcp --dport 85 -j B", True),
    ("-p tcp -m tcp --dport 80 -j A", "-p tcp -m tcp ! --dport 80 -j B", False),
    ("-p tcp -m multiport --dports 80 -j A", "-p tcp -m multiport --dports 81:90 -j B", False),
    ("-p tcp -m multiport --dports 80 -j A", "-p tcp -m multiport --dports 70:80 -j B", True),
    ("-p tcp -m multiport --dports 80 -j A", "-p tcp -m multiport ! --dports 80 -j B", False),
    ("-p tcp -m multiport --dports 80,81 -j A", "-p tcp -m multiport --dports 82 -j B", True),
    ("-p tcp -m multiport --sports 80 -j A", "-p tcp -m multiport --dports 81 -j B", True),
    ("-i eth0 -j A", "-i eth1 -j B", False),
    ("-i eth+ -j A", "-i eth1 -j B", True),
    ("-m conntrack --ctstate NEW -j A", "-m conntrack --ctstate ESTABLISHED -j B", False),
    ("-m conntrack --ctstate NEW -j A", "-m conntrack --ctstate DNAT -j B", True),
    ("-m mark --mark 0x4000/0x4000 -j A", "-m mark ! --mark 0x4000/0x4000 -j B", False),
    ("-m mark --mark 0x4000/0x4000 -j A", "-m mark --mark 0x8000/0x8000 -j B", True),
    ("-m set --match-set x src -j A", "-m set --match-set y src -j B", True),
    ("-j A", "-j B", True),
]


@pytest.mark.parametrize(("first", "second", "overlap"), MOVES)
def test_whether_the_order_of_two_rules_matters(first: str, second: str, overlap: bool) -> None:
    one, two = rules(first, second)
    assert may_overlap(one, two) is may_overlap(two, one) is overlap
    (edit,) = diff_rules([one, two], [two, one])
    assert edit.kind is EditKind.MOVE
    assert edit.harmless is not overlap


def test_the_same_verdict_in_either_order_is_harmless() -> None:
    one, two = rules("-s 10.0.0.0/8 -j ACCEPT", "-p tcp -j ACCEPT")
    (edit,) = diff_rules([one, two], [two, one])
    assert edit.harmless


def test_a_rule_that_only_counts_may_move() -> None:
    one, two = rules("-p tcp", "-p tcp -j DROP")
    (edit,) = diff_rules([one, two], [two, one])
    assert edit.harmless
