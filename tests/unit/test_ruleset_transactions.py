"""What the commands of a transaction make of a rule set."""

from __future__ import annotations

import re

import pytest

from kproxy_nat.errors import InvalidInputError
from kproxy_nat.formats.iptables_parse import parse_restore, parse_save
from kproxy_nat.formats.iptables_render import render_restore, render_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, Ruleset
from kproxy_nat.ruleset.transactions import (
    DeclareChain,
    DeleteRuleAt,
    TableTransaction,
    Transaction,
    TransactionError,
    evaluate,
)

BASE = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
:EMPTY - [0:0]
-A INPUT -j A
-A INPUT -p tcp -j ACCEPT
-A A -s 10.0.0.1/32
-A A -s 10.0.0.2/32
-A A -s 10.0.0.1/32
-A B -p udp
COMMIT
"""


def after(*commands: str, base: str = BASE) -> list[str]:
    """Return the lines of the rule set after the commands, those of declared chains with their policy."""
    text = "\n".join(["*filter", *commands, "COMMIT", ""])
    ruleset = evaluate(parse_restore(text, IpFamily.IPV4), parse_save(base, IpFamily.IPV4))
    return render_save(ruleset).split("\n")[1:-2]


def without(*lines: str) -> list[str]:
    return [line for line in BASE.split("\n")[1:-2] if line not in lines]


def rules_of(chain: str, lines: list[str]) -> list[str]:
    return [line.removeprefix(f"-A {chain} ") for line in lines if line.startswith(f"-A {chain}")]


def refused(*commands: str) -> str:
    with pytest.raises(TransactionError) as caught:
        after(*commands)
    return caught.value.message


FIRST, SECOND = "-s 10.0.0.1/32", "-s 10.0.0.2/32"


RULES_OF_A = [
    ("-A A -p sctp", [FIRST, SECOND, FIRST, "-p sctp"]),
    ("-A A -s 1.1.1.1,2.2.2.2", [FIRST, SECOND, FIRST, "-s 1.1.1.1/32", "-s 2.2.2.2/32"]),
    ("-I A -p sctp", ["-p sctp", FIRST, SECOND, FIRST]),
    ("-I A 1 -p sctp", ["-p sctp", FIRST, SECOND, FIRST]),
    ("-I A 3 -p sctp", [FIRST, SECOND, "-p sctp", FIRST]),
    ("-I A 4 -p sctp", [FIRST, SECOND, FIRST, "-p sctp"]),
    ("-R A 2 -p sctp", [FIRST, "-p sctp", FIRST]),
    ("-D A 1", [SECOND, FIRST]),
    ("-D A 3", [FIRST, SECOND]),
    ("-D A -s 10.0.0.1", [SECOND, FIRST]),
    ("-D A -s 10.0.0.2/255.255.255.255", [FIRST, FIRST]),
    ("-F A", []),
    (":A - [0:0]", []),
    ("-Z A", [FIRST, SECOND, FIRST]),
]
"""A command, and the rules of chain A after it."""


@pytest.mark.parametrize(("command", "rules"), RULES_OF_A)
def test_a_command_on_rules(command: str, rules: list[str]) -> None:
    lines = after(command)
    assert rules_of("A", lines) == rules
    assert [line for line in lines if not line.startswith("-A A")] == without(
        f"-A A {FIRST}", f"-A A {SECOND}"
    )


def test_commands_follow_one_another() -> None:
    assert rules_of("A", after("-D A 1", "-I A -p udp", "-D A -p udp", "-A A -p tcp")) == [
        SECOND,
        FIRST,
        "-p tcp",
    ]


def test_a_new_chain_can_be_used_at_once() -> None:
    lines = after("-N NEW", "-A NEW -p tcp", "-A B -j NEW")
    assert ":NEW - [0:0]" in lines
    assert rules_of("NEW", lines) == ["-p tcp"]


def test_a_chain_is_deleted() -> None:
    assert after("-X EMPTY") == without(":EMPTY - [0:0]")
    assert after("-F B", "-X B") == without(":B - [0:0]", "-A B -p udp")


def test_all_chains_are_flushed_and_then_deleted() -> None:
    assert after("-F") == [line for line in without() if not line.startswith("-A")]
    assert after("-F", "-X") == [line for line in after("-F") if not line.startswith((":A", ":B", ":E"))]


def test_a_chain_that_nothing_leads_to_is_renamed() -> None:
    lines = after("-E B RENAMED")
    assert ":B - [0:0]" not in lines
    assert rules_of("RENAMED", lines) == ["-p udp"]


def test_a_policy_is_set() -> None:
    assert ":FORWARD DROP [0:0]" in after("-P FORWARD DROP")


REFUSED = [
    ("-A GONE -p tcp", "table filter has no chain GONE"),
    ("-I GONE -p tcp", "table filter has no chain GONE"),
    ("-I A 5 -p tcp", "chain A has 3 rules, none at 5"),
    ("-R A 4 -p tcp", "chain A has 3 rules, none at 4"),
    ("-R GONE 1 -p tcp", "table filter has no chain GONE"),
    ("-D A 4", "chain A has 3 rules, none at 4"),
    ("-D A -s 10.0.0.3", "chain A has no such rule to delete"),
    ("-D GONE 1", "table filter has no chain GONE"),
    ("-N A", "table filter has a chain A already"),
    ("-N INPUT", "table filter has a chain INPUT already"),
    ("-X A", "chain A is not empty"),
    ("-X OUTPUT", "chain OUTPUT is built in"),
    ("-X GONE", "table filter has no chain GONE"),
    ("-X", "chain A is not empty"),
    ("-F A\n-X A", "chain A cannot be deleted: INPUT leads to it"),
    ("-Z GONE", "table filter has no chain GONE"),
    ("-F GONE", "table filter has no chain GONE"),
    ("-E GONE NEW", "table filter has no chain GONE"),
    ("-E A B", "table filter has a chain B already"),
    ("-E OUTPUT NEW", "chain OUTPUT is built in, so it keeps its name"),
    ("-P A DROP", "chain A is not built in, so it has no policy"),
    ("-P GONE DROP", "table filter has no chain GONE"),
]
"""Commands that cannot be carried out, and why."""

MISWRITTEN = [
    ("-D A 0", "rule numbers begin at 1"),
    ("-I A 0 -p tcp", "rule numbers begin at 1"),
    ("-R A 0 -p tcp", "rule numbers begin at 1"),
    ("-R A 1 -s 1.1.1.1,2.2.2.2", "-R replaces by one rule, so a list of addresses cannot be"),
]
"""Commands that cannot be carried out whatever the rule set, and why."""


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_a_command_on_what_is_not_there_is_refused(command: str, message: str) -> None:
    assert refused(command) == message


@pytest.mark.parametrize(("command", "message"), MISWRITTEN)
def test_a_command_that_makes_no_sense_is_refused_by_the_parser(command: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        after(command)
    assert [problem.message for problem in caught.value.problems] == [message]


def test_an_error_names_the_line() -> None:
    transaction = parse_restore("*nat\nCOMMIT\n# more\n*filter\n-N A\n-D A 1\nCOMMIT\n", IpFamily.IPV4)
    with pytest.raises(TransactionError) as caught:
        evaluate(transaction)
    assert caught.value.line == 6


def test_an_error_without_lines_names_none() -> None:
    transaction = Transaction(IpFamily.IPV4, [TableTransaction("nat", [DeleteRuleAt("OUTPUT", 1)])])
    with pytest.raises(TransactionError) as caught:
        evaluate(transaction)
    assert caught.value.line == 0


def everything(text: str = BASE) -> Ruleset:
    return parse_save(text, IpFamily.IPV4)


@pytest.mark.parametrize(
    "commands",
    [
        "-A A -p tcp",
        "-F",
        "-F\n-X",
        "-P INPUT ACCEPT",
        "-E B C",
        "-D A 1",
        ":A - [0:0]",
        "-R A 1 -p tcp",
        "-N C",
    ],
)
def test_the_base_is_left_as_it_was(commands: str) -> None:
    base = everything()
    evaluate(parse_restore(f"*filter\n{commands}\nCOMMIT\n", IpFamily.IPV4), base)
    assert base == everything()


def test_the_base_is_left_as_it_was_also_by_a_failure() -> None:
    base = everything()
    with pytest.raises(TransactionError):
        evaluate(parse_restore("*filter\n-F\n-D A 1\nCOMMIT\n", IpFamily.IPV4), base)
    assert base == everything()


def test_tables_that_are_not_named_stay() -> None:
    base = everything("*nat\n-A OUTPUT -j RETURN\nCOMMIT\n" + BASE)
    ruleset = evaluate(parse_restore("*filter\n-F\nCOMMIT\n", IpFamily.IPV4), base)
    assert ruleset.tables["nat"] == base.tables["nat"]


@pytest.mark.parametrize("table", BUILTIN_CHAINS)
def test_a_table_begins_with_its_built_in_chains(table: str) -> None:
    ruleset = evaluate(parse_restore(f"*{table}\nCOMMIT\n", IpFamily.IPV4))
    assert list(ruleset.tables[table].chains) == list(BUILTIN_CHAINS[table])
    assert {chain.policy for chain in ruleset.tables[table].chains.values()} == {"ACCEPT"}


def test_a_table_opened_twice_goes_on() -> None:
    text = "*nat\n:A - [0:0]\n-A A -p tcp\nCOMMIT\n*nat\n-A A -p udp\nCOMMIT\n"
    assert rules_of("A", render_save(everything(text)).split("\n")) == ["-p tcp", "-p udp"]


def test_a_declared_user_chain_has_no_policy() -> None:
    (part,) = parse_restore("*nat\n:MINE DROP [1:2]\n:INPUT DROP [3:4]\nCOMMIT\n", IpFamily.IPV4).tables
    assert part.commands == [DeclareChain("MINE", None, (1, 2)), DeclareChain("INPUT", "DROP", (3, 4))]


def test_counters_stand_before_a_rule_or_in_it() -> None:
    for line in (
        "[3:400] -A INPUT -p tcp",
        "-A INPUT -p tcp -c 3 400",
        "-A INPUT --set-counters 3 400 -p tcp",
    ):
        ruleset = everything(f"*filter\n{line}\nCOMMIT\n")
        assert "\n[3:400] -A INPUT -p tcp\n" in render_save(ruleset, counters=True)


def test_rules_of_the_other_family_are_skipped() -> None:
    text = "*filter\n-A INPUT -4 -p tcp\n-A INPUT --ipv6 -p udp\nCOMMIT\n"
    kept = {family: render_save(parse_save(text, family)) for family in IpFamily}
    assert "-p tcp" in kept[IpFamily.IPV4]
    assert "-p udp" not in kept[IpFamily.IPV4]
    assert "-p udp" in kept[IpFamily.IPV6]


EVERY_COMMAND = """*filter
:A - [0:0]
:INPUT DROP [0:0]
-A A -p tcp -m comment --comment "two words"
-I A -p udp
-I A 2 -p sctp
-R A 1 -p icmp
-D A -p icmp
-D A 1
-N B
-E B C
-F A
-F
-X C
-X
-P INPUT ACCEPT
COMMIT
"""


def test_every_command_is_written_as_it_was_read() -> None:
    assert render_restore(parse_restore(EVERY_COMMAND, IpFamily.IPV4)) == EVERY_COMMAND


def test_long_names_of_commands_are_read() -> None:
    short = {"-A": "append", "-I": "insert", "-R": "replace", "-D": "delete", "-N": "new-chain"}
    short |= {"-X": "delete-chain", "-F": "flush", "-E": "rename-chain", "-P": "policy"}
    lines = [line.split(" ", 1) for line in EVERY_COMMAND.split("\n")]
    written = "\n".join(" ".join([f"--{short[w]}" if w in short else w, *rest]) for w, *rest in lines)
    assert "--delete-chain\n" in written
    assert render_restore(parse_restore(written, IpFamily.IPV4)) == EVERY_COMMAND


WHOLE_TABLE: dict[str, list[str]] = {
    # Only user chains are emptied by being declared again.
    ":INPUT ACCEPT [0:0]": [line.replace(":INPUT DROP", ":INPUT ACCEPT") for line in without()],
    # Jumps follow a chain to its new name.
    "-E A AAA": [
        re.sub(r"\bA\b", "AAA", line.replace("-A ", "\0")).replace("\0", "-A ") for line in without()
    ],
    # Each rule that a list stands for is put before the one that was put there last.
    "-F A\n-I A -s 1.1.1.1,2.2.2.2": [
        line.replace(FIRST, "-s 2.2.2.2/32").replace(SECOND, "-s 1.1.1.1/32")
        for position, line in enumerate(without())
        if position != 10
    ],
}
"""Commands, and all lines of the rule set after them."""


@pytest.mark.parametrize("commands", WHOLE_TABLE)
def test_commands_leave_the_table_as_iptables_does(commands: str) -> None:
    assert after(commands) == WHOLE_TABLE[commands]
