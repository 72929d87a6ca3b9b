"""What the parser refuses, and where; and what it leaves to the kernel, by name."""

from __future__ import annotations

import pytest

from kproxy_nat.errors import Code, InvalidInputError, Problem
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.net.addresses import IpFamily
from tests.corpus import Fault, invalid

LEFT_TO_THE_KERNEL = {
    "of chains": """
        chain name is a verdict
        jump to a chain not declared
        goto to a chain not declared
        jump to a built-in chain
        loop of two chains""",
    "of a header that can never match": """
        negated address list
        unknown protocol name
        protocol number 256
        -i in OUTPUT
        -o in INPUT
        control character in an address""",
    "of matches that are kept word for word": """
        -m tcp without -p tcp
        -m tcp with -p udp
        port above 65535
        unknown service name
        port range backwards
        negative port
        port list without multiport
        --dport twice
        --dport without a value
        sixteen ports in multiport
        multiport without a protocol
        multiport without ports
        --tcp-flags with one argument
        unknown tcp flag
        unknown icmp type
        icmp type 256
        unknown match
        -m mark without --mark
        mark is no number
        mark above 32 bits
        --ctstate without states
        unknown conntrack state
        conntrack without options
        probability above 1
        nth without --packet
        --packet not below --every
        unknown statistic mode
        two recent modes
        recent without a mode
        --seconds with --set
        limit of zero
        unknown limit unit
        unknown address type
        addrtype without options
        comment match without --comment
        ipset that does not exist
        nfacct object that does not exist
        truncated in the middle of a match name
        truncated in the middle of an option""",
    "of targets and their options": """
        unknown reject type
        IPv6 reject type in iptables
        tcp-reset without -p tcp
        unknown log level
        option of another target
        DNAT in the filter table
        MASQUERADE in the filter table
        DNAT without a destination
        DNAT with a port but no protocol
        DNAT port above 65535
        DNAT to a bad address
        DNAT port range backwards
        DNAT in POSTROUTING
        MASQUERADE in PREROUTING
        MASQUERADE with ports but no protocol
        control character in the target name""",
    "of sizes": """
        parameter longer than 1024 bytes
        more than 255 arguments""",
}
LEFT = {name.strip() for names in LEFT_TO_THE_KERNEL.values() for name in names.strip().split("\n")}

FOUND_AT_THE_END = {"file truncated in the middle of a rule": 6}
"""Faults that show only in the missing COMMIT: the rule cut short could be one of a match unknown to us."""


def problems(text: str, family: IpFamily = IpFamily.IPV4) -> list[Problem]:
    with pytest.raises(InvalidInputError) as caught:
        parse_save(text, family)
    return list(caught.value.problems)


def lines(found: list[Problem]) -> list[int]:
    return [problem.location.line for problem in found if problem.location]


@pytest.mark.parametrize("fault", [f for f in invalid() if f.name not in LEFT], ids=lambda f: f.name)
def test_a_fault_is_refused_at_its_line(fault: Fault) -> None:
    """What follows from a fault (a table that is not open) may be told too, after it."""
    found = problems(fault.text)
    assert lines(found)[0] == FOUND_AT_THE_END.get(fault.name, fault.line)
    assert lines(found) == sorted(lines(found))
    assert all(problem.message for problem in found)


@pytest.mark.parametrize("fault", [f for f in invalid() if f.name in LEFT], ids=lambda f: f.name)
def test_a_fault_left_to_the_kernel_is_read(fault: Fault) -> None:
    parse_save(fault.text, IpFamily.IPV4)


def test_every_fault_left_to_the_kernel_is_in_the_corpus() -> None:
    assert {fault.name for fault in invalid()} >= LEFT | FOUND_AT_THE_END.keys()


def test_all_problems_of_a_text_are_told_at_once() -> None:
    text = "*filter\n:INPUT MAYBE [0:0]\n-A INPUT -s 10.0.0.300 -j DROP\n-A INPUT -j ACCEPT\n-A INPUT -j\n"
    found = problems(text)
    assert lines(found) == [2, 3, 5, 6]
    assert [problem.code for problem in found] == [Code.RULES_SYNTAX] * 3 + [Code.RULES_UNFINISHED]


def test_a_problem_shows_the_line_and_the_column_of_the_word() -> None:
    (problem,) = problems("*nat\n-A OUTPUT  -d 10.0.0.300 -j RETURN\nCOMMIT\n")
    assert problem.location
    assert problem.location.text == "-A OUTPUT  -d 10.0.0.300 -j RETURN"
    assert problem.location.text[problem.location.column - 1 :].startswith("10.0.0.300")


def test_columns_are_those_of_the_line_also_after_counters() -> None:
    (problem,) = problems("*nat\n[1:2] -A OUTPUT -o interface-of-too-long-a-name\nCOMMIT\n")
    assert problem.location
    assert problem.location.column == len("[1:2] -A OUTPUT -o ") + 1


def test_the_source_is_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_save("*nat\n", IpFamily.IPV4, "some.rules")
    assert str(caught.value.problems[0].location) == "some.rules:2"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("-A NOT-THERE -j DROP", Code.RULES_UNKNOWN_CHAIN),
        ("-D INPUT 1", Code.RULES_UNKNOWN_CHAIN),
        ("-Y", Code.RULES_SYNTAX),
    ],
)
def test_a_command_on_what_is_not_there_has_a_code_of_its_own(line: str, code: Code) -> None:
    (problem,) = problems(f"*filter\n# a comment\n{line}\nCOMMIT\n")
    assert problem.code == code
    assert problem.location
    assert (problem.location.line, problem.location.text) == (3, line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("-D INPUT \u00b2", id="a digit that int refuses"),
        pytest.param("-I INPUT \u00b2 -j DROP", id="the same as a position"),
        pytest.param("-A INPUT -c 1 \u00b2", id="the same as a counter"),
        pytest.param(f"-D INPUT {'1' * 5000}", id="a number beyond the digits that int reads"),
        pytest.param(f"[{'1' * 5000}:1] -A INPUT", id="the same as a counter before the rule"),
        pytest.param(f":INPUT ACCEPT [{'1' * 5000}:1]", id="the same as a counter of a chain"),
        pytest.param(":\udcff - [0:0]", id="a chain name that is not UTF-8"),
        pytest.param("-A INPUT -j \udcff", id="a target that is not UTF-8"),
    ],
)
def test_no_text_makes_the_parser_fail(line: str) -> None:
    try:
        parse_save(f"*filter\n{line}\nCOMMIT\n", IpFamily.IPV4)
    except InvalidInputError as error:
        assert lines(list(error.problems)) == [2]  # noqa: PT017  # either outcome is right, a crash is not


@pytest.mark.parametrize(
    "line",
    [
        "-A INPUT -j MARK ! --set-mark 1",
        "-A INPUT -j REJECT ! --reject-with icmp-host-unreachable",
        "-A INPUT -p tcp -j DNAT ! --to-destination 10.0.0.1:80",
        "-A INPUT -j MASQUERADE ! --random-fully",
        "-A INPUT -j MASQUERADE --random-fully surplus",
        "-A INPUT -m statistic ! --mode random --probability 0.5",
        "-A INPUT -m recent --set ! --name x",
        "-A INPUT -m recent --set --rsource surplus",
        "-A INPUT ! -p all",
    ],
)
def test_nothing_written_is_dropped(line: str) -> None:
    """A rule that the kernel refuses may be refused or kept as it is, but not read as another one."""
    try:
        ruleset = parse_save(f"*filter\n{line}\nCOMMIT\n", IpFamily.IPV4)
    except InvalidInputError:
        return
    without = line.replace("! ", "").replace(" surplus", "")
    assert ruleset != parse_save(f"*filter\n{without}\nCOMMIT\n", IpFamily.IPV4)


@pytest.mark.parametrize("line", ["-N NEW surplus", "-F INPUT surplus", "-X MINE surplus"])
def test_a_surplus_word_after_a_command_is_refused(line: str) -> None:
    assert lines(problems(f"*filter\n:MINE - [0:0]\n{line}\nCOMMIT\n")) == [3]


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("-p tcp --dport 0100", "-p tcp -m tcp --dport 64"),
        ("-p 06", "-p tcp"),
        ("-s 1.2", "-s 1.2.0.0/32"),
        ("-p tcp --dport 0:65535", "-p tcp -m tcp"),
    ],
)
def test_numbers_are_read_as_iptables_reads_them(written: str, listed: str) -> None:
    ruleset = parse_save(f"*filter\n-A INPUT {written}\nCOMMIT\n", IpFamily.IPV4)
    assert f"-A INPUT {listed}\n" in render_save(ruleset)


@pytest.mark.parametrize("arguments", ["-m mark --mark -1", "-m mark --mark 1_0", "-p 1_0"])
def test_what_is_no_number_in_c_is_none_here(arguments: str) -> None:
    """The kernel's tool refuses these; kept as they are, they are at least not read as numbers."""
    ruleset = parse_save(f"*filter\n-A INPUT {arguments}\nCOMMIT\n", IpFamily.IPV4)
    assert f"-A INPUT {arguments}\n" in render_save(ruleset)
