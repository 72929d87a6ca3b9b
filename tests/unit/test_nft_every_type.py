"""No kind of match or action of nftables is forgotten: each is written, read, generated and listed."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path

import pytest

from kproxy_nat.formats.nft_json_parse import parse_nft_json, rulesets_of
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.formats.nft_script_parse import parse_script, parse_tables
from kproxy_nat.formats.nft_words import listing_words, script_words
from kproxy_nat.formats.ruleset_json import parse_json, render_json
from kproxy_nat.ruleset.actions import NftAction
from kproxy_nat.ruleset.matches import NftMatch, OpaqueStatement
from kproxy_nat.ruleset.rules import Table
from tests.golden.gallery import GALLERY
from tests.kernel.nft_versions import as_listed_later
from tests.property.strategies_nft import ENDS, MATCHES, STATEMENTS

IDENTITY = GALLERY / "identity.nft"
CORPUS = Path(__file__).parents[1] / "corpus/nft"
NFT_KINDS = {*typing.get_args(NftMatch), *typing.get_args(NftAction)} - {OpaqueStatement}
GENERATED = {*MATCHES, *STATEMENTS, *ENDS}


def kinds_in(tables: list[Table]) -> set[type]:
    rules = [rule for table in tables for chain in table.chains.values() for rule in chain.rules]
    return {type(item) for rule in rules for item in (*rule.matches, *rule.actions)}


def test_every_kind_is_written_generated_and_in_the_identity_file() -> None:
    written = set(script_words("ip").writers)
    assert written == set(listing_words("ip").writers)
    assert written >= NFT_KINDS
    assert written <= GENERATED
    assert written <= kinds_in(parse_tables(IDENTITY.read_text()))


def test_the_identity_file_stays_as_it_is() -> None:
    text = IDENTITY.read_text()
    assert render_listing(parse_tables(text)) == text
    script = render_script(parse_script(text))
    assert render_listing(parse_tables(script)) == text


def test_json_of_nft_says_the_same() -> None:
    """But for what nft 1.0.6 leaves out, the comments of tables and chains."""
    read = parse_nft_json((CORPUS / "identity.json").read_text())
    left_out = re.compile(r'(?m)^(\tchain .*|table .*)\n\t+comment ".*"\n')
    assert render_listing(read) == left_out.sub(r"\1\n", IDENTITY.read_text())
    assert kinds_in(read) == kinds_in(parse_tables(IDENTITY.read_text()))


def test_json_of_a_later_nft_says_all() -> None:
    """nft 1.1.3 tells comments, and the expressions that declare sets instead of their types."""
    text = (CORPUS / "identity-1.1.3.json").read_text()
    assert '"typeof"' in text
    assert render_listing(parse_nft_json(text)) == IDENTITY.read_text()


def test_text_of_a_later_nft_says_the_same() -> None:
    later = (CORPUS / "identity-1.1.3.txt").read_text()
    assert render_listing(parse_tables(later)) == IDENTITY.read_text()
    assert as_listed_later(IDENTITY.read_text()) == later


@pytest.mark.parametrize(
    "expression",
    [
        {"payload": {"protocol": "tcp", "field": "flags"}},
        {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"ct": {"key": "zone"}}]},
        "meta mark",
        None,
    ],
)
def test_expressions_that_are_not_known_are_kept_as_json(expression: object) -> None:
    declared = {"family": "ip", "table": "t", "name": "s", "type": {"typeof": expression}}
    listing = {"nftables": [{"table": {"family": "ip", "name": "t"}}, {"set": declared}]}
    (table,) = parse_nft_json(json.dumps(listing))
    assert json.loads(table.sets["s"].other) == {"type": {"typeof": expression}}


def test_foreign_statements_survive_our_json() -> None:
    read = parse_nft_json((CORPUS / "foreign.json").read_text())
    rulesets = rulesets_of(read)
    again = parse_json(render_json(rulesets))
    assert [list(ruleset.tables) for ruleset in again] == [["inet firewall", "nat"], ["inet firewall"]]
    for before, after in zip(rulesets, again, strict=True):
        assert [rule for *_, rule in after.rules()] == [rule for *_, rule in before.rules()]
        for key, table in before.tables.items():
            assert after.tables[key].sets == table.sets


def test_foreign_statements_are_kept_as_json() -> None:
    read = parse_nft_json((CORPUS / "foreign.json").read_text())
    (firewall,) = (table for table in read if table.name == "firewall")
    kept = [
        match.json
        for rule in firewall.chains["input"].rules
        for match in rule.matches
        if isinstance(match, OpaqueStatement)
    ]
    assert '{"limit":{"rate":3,"burst":5,"per":"second"}}' in kept
    assert '{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}' in kept  # before a counter
    assert firewall.sets["blocked"].other == '{"policy":"memory","gc-interval":3600}'
