"""Laws of nft's text and JSON: what is parsed and rendered stays what it was, and nothing breaks a parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kproxy_nat.errors import InvalidInputError
from kproxy_nat.formats.nft_json_parse import parse_nft_json, rulesets_of
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.formats.nft_script_parse import parse_script, parse_tables
from kproxy_nat.formats.nft_words import NotWritableError
from kproxy_nat.formats.ruleset_json import parse_json, render_json
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddElement,
    AddRule,
    AddSet,
    AddTable,
    NftCommand,
    NftTableTransaction,
    evaluate_nft,
)
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Chain, Rule, Ruleset, Table
from kproxy_nat.ruleset.wellformed import faults
from tests.golden.gallery import GALLERY, nft_text
from tests.property import examples
from tests.property.strategies_nft import nft_rules, tables

FAMILIES = st.sampled_from(IpFamily)
FAMILY_AND_RULE = FAMILIES.flatmap(lambda family: st.tuples(st.just(family), nft_rules(family)))
FAMILY_AND_TABLE = FAMILIES.flatmap(lambda family: st.tuples(st.just(family), tables(family)))
LAW = settings(deadline=None, max_examples=examples(60))
MANY = settings(LAW, max_examples=examples(15), suppress_health_check=[HealthCheck.too_slow])
CORPUS = Path(__file__).parents[1] / "corpus/nft"


def canonical(table: Table, family: IpFamily) -> Table:
    chains = {
        name: Chain(
            name, [canonical_nft_rule(r, family) for r in c.rules], c.policy, hook=c.hook, comment=c.comment
        )
        for name, c in table.chains.items()
    }
    sets = {name: canonical_set(named) for name, named in table.sets.items()}
    return Table(table.name, chains, table.family, table.comment, sets)


def commands_of(table: Table) -> NftTableTransaction:
    """Return a transaction that makes the table, with elements and rules one by one."""
    commands: list[NftCommand] = [AddTable(table.comment)]
    for named in table.sets.values():
        commands.append(AddSet(msgspec.structs.replace(named, elements={})))
    for chain in table.chains.values():
        commands.append(AddChain(chain.name, chain.hook, chain.comment, chain.policy))
    for named in table.sets.values():
        commands.extend(AddElement(named.name, element) for element in named.elements.values())
    for chain in table.chains.values():
        commands.extend(AddRule(chain.name, rule) for rule in chain.rules)
    return NftTableTransaction(table.family, table.name, commands)


@LAW
@given(FAMILY_AND_RULE)
def test_canonical_form_is_canonical(drawn: tuple[IpFamily, Rule]) -> None:
    family, rule = drawn
    once = canonical_nft_rule(rule, family)
    assert canonical_nft_rule(once, family) == once


@MANY
@given(FAMILY_AND_TABLE)
def test_parsing_a_listing_gives_the_canonical_form(drawn: tuple[IpFamily, Table]) -> None:
    family, table = drawn
    text = render_listing([table])
    (read,) = parse_tables(text)
    assert canonical(read, family) == canonical(table, family)
    assert render_listing([read]) == text


@MANY
@given(FAMILY_AND_TABLE)
def test_parsing_a_script_gives_its_commands(drawn: tuple[IpFamily, Table]) -> None:
    _, table = drawn
    part = commands_of(table)
    (read,) = parse_script(render_script([part]))
    assert read.commands == part.commands
    assert read.lines == list(range(1, len(part.commands) + 1))
    assert evaluate_nft([read]) == [table]


@MANY
@given(FAMILY_AND_TABLE)
def test_our_json_gives_back_the_canonical_form(drawn: tuple[IpFamily, Table]) -> None:
    family, table = drawn
    text = render_json([Ruleset(family, {table.key: table})])
    (ruleset,) = parse_json(text)
    assert ruleset.tables == {table.name: canonical(table, family)}
    assert render_json([ruleset]) == text


@MANY
@given(FAMILY_AND_TABLE)
def test_a_sound_table_has_no_faults(drawn: tuple[IpFamily, Table]) -> None:
    family, table = drawn
    assert list(faults(Ruleset(family, {table.name: table}))) == []


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 1 << 33)
    | st.text(max_size=4)
    | st.sampled_from(("@x", "10.0.0.1/99", "::")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
LISTINGS = [json.loads((CORPUS / name).read_text()) for name in ("foreign.json", "identity.json")]


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every part of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in items for place in places(item, (*way, key)))]


PLACES = [places(listing) for listing in LISTINGS]


@st.composite
def damaged_json(draw: st.DrawFn) -> str:
    """Return a listing in JSON of which parts were lost, replaced or moved."""
    which = draw(st.sampled_from(range(len(LISTINGS))))
    listing = json.loads(json.dumps(LISTINGS[which]))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES[which][1:]))
        place: Any = listing
        try:
            for key in way:
                place = place[key]
            if draw(st.booleans()):
                place[last] = draw(JSON_VALUES)
            else:
                del place[last]
        except (KeyError, IndexError, TypeError):
            continue
    return json.dumps(listing)


def rendered(read: list[Table]) -> None:
    """Render what was read in all forms; what has no form in text may be refused, cleanly."""
    assert parse_json(render_json(rulesets_of(read)))
    try:
        render_listing(read)
    except NotWritableError as error:
        assert str(error)  # noqa: PT017  # either outcome is right, a crash is not


@settings(max_examples=examples(300), deadline=None)
@given(damaged_json())
def test_damaged_json_is_read_or_refused(text: str) -> None:
    try:
        read = parse_nft_json(text)
    except InvalidInputError as error:
        assert error.problems  # noqa: PT017
        return
    rendered(read)


TEXTS = [nft_text("external-policy-local"), (GALLERY / "identity.nft").read_text()]
TEXTS.append(render_script(parse_script(TEXTS[1])))
INSERTS = st.text(st.sampled_from(' \n\t"{};,:.@!=/-0129aé\0'), min_size=1, max_size=4)


@st.composite
def damaged_text(draw: st.DrawFn) -> str:
    """Return a listing or script to which some harm was done."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(INSERTS | st.just("") | st.just(text[start:end] * 2)) + text[end:]
    return text


@settings(max_examples=examples(200), deadline=None)
@given(damaged_text())
def test_damaged_text_is_read_or_refused(text: str) -> None:
    try:
        read = parse_tables(text)
    except InvalidInputError as error:
        assert error.problems  # noqa: PT017
        return
    rendered(read)


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=60) | damaged_json().map(lambda text: text[:-7].encode()))
def test_what_is_no_json_is_refused(data: bytes) -> None:
    try:
        parse_nft_json(data)
    except InvalidInputError as error:
        assert error.problems  # noqa: PT017


def test_families_have_tables_of_their_own() -> None:
    read = parse_nft_json((CORPUS / "foreign.json").read_text())
    assert {r.family: list(r.tables) for r in rulesets_of(read)} == {
        IpFamily.IPV4: ["inet firewall", "nat"],
        IpFamily.IPV6: ["inet firewall"],
    }
    assert set(NFT_FAMILIES.values()) == {"ip", "ip6"}
