"""Laws of iptables text: what is parsed and rendered stays what it was, and nothing breaks the parser."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kproxy_nat.errors import InvalidInputError
from kproxy_nat.formats.iptables_parse import parse_restore, parse_save
from kproxy_nat.formats.iptables_quoting import restore_word, save_word, split_words
from kproxy_nat.formats.iptables_render import render_restore, render_rule, render_save
from kproxy_nat.formats.ruleset_json import parse_json, render_json
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset, Table
from kproxy_nat.ruleset.transactions import AppendRules, TableTransaction, Transaction
from kproxy_nat.ruleset.wellformed import faults
from tests.corpus import dumps, family_of_dump, read
from tests.property import examples
from tests.property.strategies_rules import rules, rulesets, texts

FAMILIES = st.sampled_from(IpFamily)
FAMILY_AND_RULE = FAMILIES.flatmap(lambda family: st.tuples(st.just(family), rules(family)))
LAW = settings(deadline=None, max_examples=examples(60))
MANY = settings(LAW, max_examples=examples(12), suppress_health_check=[HealthCheck.too_slow])
RULESETS = FAMILIES.flatmap(rulesets)


def canonical(ruleset: Ruleset) -> Ruleset:
    """Return the rule set with each rule in canonical form."""
    tables = {
        table.name: Table(
            table.name,
            {
                c.name: Chain(c.name, [canonical_rule(r) for r in c.rules], c.policy)
                for c in table.chains.values()
            },
        )
        for table in ruleset.tables.values()
    }
    return Ruleset(ruleset.family, tables)


def only_rule(text: str, family: IpFamily) -> Rule:
    """Return the rule of the only command of ``text``."""
    (part,) = parse_restore(text, family).tables
    (command,) = part.commands
    assert isinstance(command, AppendRules)
    (rule,) = command.rules
    return rule


@LAW
@given(FAMILY_AND_RULE)
def test_parsing_a_rendered_rule_gives_its_canonical_form(drawn: tuple[IpFamily, Rule]) -> None:
    family, rule = drawn
    text = f"*filter\n-A INPUT {render_rule(rule, family)}\nCOMMIT\n"
    assert only_rule(text, family) == canonical_rule(rule)


@LAW
@given(FAMILY_AND_RULE)
def test_canonical_form_is_canonical(drawn: tuple[IpFamily, Rule]) -> None:
    family, rule = drawn
    once = canonical_rule(rule)
    assert canonical_rule(once) == once
    assert render_rule(once, family) == render_rule(rule, family)


@LAW
@given(FAMILY_AND_RULE)
def test_a_rule_in_restore_style_means_the_same(drawn: tuple[IpFamily, Rule]) -> None:
    family, rule = drawn
    transaction = Transaction(family, [TableTransaction("filter", [AppendRules("INPUT", [rule])])])
    read_back = only_rule(render_restore(transaction), family)
    assert canonical_rule(read_back) == canonical_rule(rule)


@MANY
@given(RULESETS)
def test_parsing_a_rendered_rule_set_gives_its_canonical_form(ruleset: Ruleset) -> None:
    text = render_save(ruleset)
    assert parse_save(text, ruleset.family) == canonical(ruleset)
    assert render_save(parse_save(text, ruleset.family)) == text


@MANY
@given(RULESETS)
def test_a_dump_written_again_in_restore_style_is_the_same_rule_set(ruleset: Ruleset) -> None:
    text = render_save(ruleset)
    again = render_restore(parse_restore(text, ruleset.family))
    assert render_save(parse_save(again, ruleset.family)) == text


@MANY
@given(st.lists(RULESETS, max_size=2))
def test_json_gives_back_the_canonical_rule_sets(sets: list[Ruleset]) -> None:
    text = render_json(sets)
    assert parse_json(text) == [canonical(ruleset) for ruleset in sets]
    assert render_json(parse_json(text)) == text


@MANY
@given(RULESETS)
def test_a_sound_rule_set_has_no_faults(ruleset: Ruleset) -> None:
    assert list(faults(ruleset)) == []


@LAW
@given(st.lists(texts()))
def test_words_survive_both_ways_of_quoting(words: list[str]) -> None:
    for quoted in (save_word, restore_word):
        assert [word.value for word in split_words(" ".join(map(quoted, words)))] == words


@LAW
@given(st.text(st.sampled_from("ab \t\"\\'-"), max_size=20))
def test_splitting_keeps_to_the_order_of_the_line(line: str) -> None:
    try:
        words = split_words(line)
    except ValueError:
        assert '"' in line  # only a quote may be refused
        return
    ends = [0, *(word.end for word in words)]
    assert all(end <= word.start < word.end for end, word in zip(ends, words, strict=False))
    between = [line[end : word.start] for end, word in zip(ends, words, strict=False)]
    assert "".join(between).strip(" \t") == ""
    assert line[ends[-1] :].strip(" \t") == ""


DUMPS = [(family_of_dump(path), read(path)) for path in dumps()]
INSERTS = st.text(st.sampled_from('\t !"#$*,-./0123456789:AIXj[\\]\r\x00\x0bé\u2028'), min_size=1, max_size=6)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[IpFamily, str]:
    """Return a dump to which some harm was done: characters and lines were lost, added or doubled."""
    family, text = draw(st.sampled_from(DUMPS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(1, 12)))
        harm = draw(st.sampled_from(("delete", "insert", "double", "line lost", "line doubled", "cut")))
        if harm == "insert":
            text = text[:start] + draw(INSERTS) + text[start:]
        elif harm == "cut":
            text = text[:start] if start else text
        elif harm.startswith("line"):
            lines = text.split("\n")
            at = text.count("\n", 0, start)
            lines[at : at + 1] = [lines[at]] * (2 if harm == "line doubled" else 0)
            text = "\n".join(lines)
        else:
            text = text[:start] + (text[start:end] * 2 if harm == "double" else "") + text[end:]
    return family, text


@settings(max_examples=examples(200), deadline=2000)
@given(mutated())
def test_a_damaged_dump_is_read_or_refused(damaged: tuple[IpFamily, str]) -> None:
    family, text = damaged
    try:
        ruleset = parse_save(text, family)
    except InvalidInputError as error:
        assert error.problems  # noqa: PT017  # either outcome is right, a crash is not
        return
    assert render_save(parse_save(render_save(ruleset), family)) == render_save(ruleset)
