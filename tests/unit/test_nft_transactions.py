"""What the commands of a script make of tables, and which cannot be carried out."""

from __future__ import annotations

import pytest

from kproxy_nat.errors import Code, InvalidInputError
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.formats.nft_script_parse import parse_script, parse_tables
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_transactions import evaluate_nft
from kproxy_nat.ruleset.rules import Ruleset
from kproxy_nat.ruleset.wellformed import faults

BASE = """\
add table ip t
add chain ip t c
add chain ip t base { type filter hook input priority 0 ; }
add set ip t s { type ipv4_addr ; }
add map ip t m { type ipv4_addr : verdict ; }
add element ip t s { 10.0.0.1 }
add element ip t m { 10.0.0.1 : goto c }
add rule ip t c drop
"""


def after(script: str) -> str:
    return render_listing(parse_tables(BASE + script))


@pytest.mark.parametrize(
    ("script", "gone"),
    [
        ("flush chain ip t c\n", "\t\tdrop\n"),
        ("flush set ip t s\n", "elements = { 10.0.0.1 }"),
        ("delete set ip t s\n", "set s {"),
        ("delete chain ip t base\n", "chain base {"),
        ("delete element ip t s { 10.0.0.1 }\n", "elements = { 10.0.0.1 }"),
        ("delete element ip t m { 10.0.0.1 }\n", "goto c"),
    ],
)
def test_what_is_flushed_or_deleted_is_gone(script: str, gone: str) -> None:
    assert gone in after("")
    assert gone not in after(script)


def test_what_is_there_is_added_to() -> None:
    assert after(BASE.replace("add rule ip t c drop\n", "")) == after("")
    assert "10.0.0.1, 10.0.0.2" in after("add element ip t s { 10.0.0.2 }\n")
    base = "add chain ip t base { type filter hook input priority 0 ; policy drop ; }\n"
    assert "policy drop" in after(base)


def test_a_table_that_has_an_owner_is_read_like_others() -> None:
    text = "table ip t { # progname nft\n\tflags owner,persist\n\n\tchain c {\n\t\tdrop\n\t}\n}\n"
    plain = "table ip t {\n\tchain c {\n\t\tdrop\n\t}\n}\n"
    assert parse_tables(text) == parse_tables(plain)


def test_the_base_is_left_as_it_is() -> None:
    base = parse_tables(BASE)
    before = render_listing(base)
    script = "flush set ip t s\nflush chain ip t c\nadd element ip t m { 10.0.0.9 : drop }\n"
    assert render_listing(evaluate_nft(parse_script(script), base)) != before
    assert render_listing(base) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add chain ip u c", "no table ip u"),
        ("add chain ip6 t c", "no table ip6 t"),
        ("add rule ip t x drop", "table t has no chain x"),
        ("add rule ip t c update @x { ip saddr }", "table t has no set or map x"),
        ("flush chain ip t x", "table t has no chain x"),
        ("delete chain ip t x", "table t has no chain x"),
        ("add element ip t x { 10.0.0.1 }", "table t has no set or map x"),
        ("flush set ip t x", "table t has no set or map x"),
        ("delete set ip t x", "table t has no set or map x"),
        ("delete element ip t s { 10.0.0.9 }", "set s has no such element to delete"),
        ("add element ip t m { 10.0.0.1 : drop }", "map m has another value for this key already"),
        ("add set ip t s { type ipv6_addr ; }", "set s is there already, with other types"),
        (
            "add chain ip t base { type filter hook input priority 1 ; }",
            "chain base is there already, with another hook or without",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_told_with_its_line(line: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_tables(f"{BASE}{line}\n", "rules.nft")
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == (Code.RULES_UNKNOWN_CHAIN, message)
    assert str(problem.location) == f"rules.nft:{BASE.count(chr(10)) + 1}"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("add rule ip t c log", "1:17", "no statement that we write begins with 'log'"),
        ("list ruleset", "1:1", "expected add or flush or delete, found 'list'"),
        ("flush table ip t", "1:1", "flush table is no command that we write"),
        ("add rule ip t c ip saddr x", "1:26", "'x' is not an address"),
        ("add rule ip t c dnat to 10.0.0.1", "1:25", "'10.0.0.1' is not an address with a port"),
        ("add rule ip t c drop ip saddr 10.0.0.1\n", "1:22", "a condition stands after an action"),
        ('add table ip t { comment "x\n', "1:26", "a quote is not closed"),
        ("add table ip t \f", "1:16", "the character cannot be read here"),
        ("table ip t {\n\tflags dormant\n}", "2:8", "expected owner or persist, found 'dormant'"),
        ("add set ip t s { timeout 5x ; }", "1:26", "'5x' is not a time such as 1h30m"),
        ("add set ip t s { size many ; }", "1:23", "expected a number, found 'many'"),
        (
            "table ip t {\n\tchain c {\n\t\tdrop }\n\t}\n}",
            "5:1",
            "expected add or flush or delete, found '}'",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, place: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_tables(text, "rules.nft")
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == (Code.RULES_SYNTAX, message)
    assert str(problem.location) == f"rules.nft:{place}"


@pytest.mark.parametrize(
    "text",
    [
        "table ip t {",
        "table ip t {\n\tchain c {\n\t\tdrop\n",
        "add table ip",
        'add table ip t { comment "x',
    ],
)
def test_a_text_that_is_cut_off_is_told(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_tables(text)
    (problem,) = caught.value.problems
    assert problem.code is Code.RULES_UNFINISHED


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("add rule ip t c jump x\n", "t: c jumps to x, which is not there"),
        ("add rule ip t c jump base\n", "t: c jumps to base, which is built in"),
        ("add rule ip t c numgen random mod 1 vmap { 0 : goto x }\n", "t: c jumps to x, which is not there"),
        ("add rule ip t c ip saddr @x drop\n", "t: c uses the set x, which is not there"),
        ("add rule ip t base ip saddr vmap @x\n", "t: base uses the set x, which is not there"),
        ("add rule ip t c ip saddr vmap @m\n", "t: the jumps from c go in a circle at c"),
    ],
)
def test_faults_of_structure_are_found(script: str, fault: str) -> None:
    (table,) = parse_tables(BASE + script)
    assert list(faults(Ruleset(IpFamily.IPV4, {"t": table}))) == [fault]
    (sound,) = parse_tables(BASE)
    assert list(faults(Ruleset(IpFamily.IPV4, {"t": sound}))) == []


def test_a_table_that_is_deleted_takes_everything_along() -> None:
    assert "chain other" in (listing := after("delete table ip t\nadd table ip t\nadd chain ip t other\n"))
    assert "set s" not in listing
    with pytest.raises(InvalidInputError):
        after("delete table ip t\nadd chain ip t other\n")
