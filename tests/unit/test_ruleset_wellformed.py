"""Faults of structure that a kernel would refuse."""

from __future__ import annotations

import itertools

import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import Chain, Ruleset, Table
from kproxy_nat.ruleset.wellformed import faults
from tests.corpus import dumps, family_of_dump, read

CHAINS = ":A - [0:0]\n:B - [0:0]\n:C - [0:0]\n"


def found(rules: str) -> list[str]:
    return list(faults(parse_save(f"*filter\n{CHAINS}{rules}\nCOMMIT\n", IpFamily.IPV4)))


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("-A INPUT -j GONE", "filter: INPUT jumps to GONE, which is not there"),
        ("-A A -g GONE", "filter: A jumps to GONE, which is not there"),
        ("-A INPUT -j OUTPUT", "filter: INPUT jumps to OUTPUT, which is built in"),
    ],
)
def test_a_jump_that_leads_nowhere_is_told(rules: str, fault: str) -> None:
    assert found(rules) == [fault]


@pytest.mark.parametrize(
    "rules",
    [
        "-A A -j A",
        "-A A -g A",
        "-A A -j B\n-A B -j A",
        "-A INPUT -j A\n-A A -j B\n-A B -j C\n-A C -j A",
        "-A A -j B\n-A A -j C\n-A C -j B\n-A B -p tcp\n-A B -j C",
    ],
)
def test_a_circle_is_told(rules: str) -> None:
    assert found(rules)
    assert all("in a circle" in fault for fault in found(rules))


@pytest.mark.parametrize(
    "rules",
    ["", "-A INPUT -j A\n-A INPUT -j A", "-A A -j B\n-A A -j C\n-A B -j C\n-A INPUT -j A\n-A OUTPUT -g C"],
)
def test_chains_that_meet_again_are_no_circle(rules: str) -> None:
    assert found(rules) == []


def test_a_long_way_of_jumps_is_no_trouble() -> None:
    names = [f"C{number:05}" for number in range(5000)]
    declared = "".join(f":{name} - [0:0]\n" for name in names)
    jumps = "".join(f"-A {a} -j {b}\n" for a, b in itertools.pairwise(names))
    assert list(faults(parse_save(f"*nat\n{declared}{jumps}COMMIT\n", IpFamily.IPV4))) == []


def test_a_name_of_29_characters_is_too_long() -> None:
    chains = {name: Chain(name, []) for name in ("x" * 28, "y" * 29)}
    ruleset = Ruleset(IpFamily.IPV6, {"nat": Table("nat", chains)})
    assert list(faults(ruleset)) == [f"nat: chain name {'y' * 29} is longer than 28 characters"]


def test_chains_of_another_table_do_not_count() -> None:
    text = "*nat\n:A - [0:0]\nCOMMIT\n*filter\n-A INPUT -j A\nCOMMIT\n"
    assert len(list(faults(parse_save(text, IpFamily.IPV4)))) == 1


def test_dumps_have_no_faults() -> None:
    for path in dumps():
        assert list(faults(parse_save(read(path), family_of_dump(path)))) == []
