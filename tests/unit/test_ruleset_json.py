"""Rule sets as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.ruleset_json import FORMAT, VERSION, json_schema, parse_json, render_json
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import Accept
from kproxy_nat.ruleset.rules import Rule, RuleOrigin, Ruleset, empty_table
from tests.corpus import dumps, family_of_dump, read

TEXT = "*filter\n:WEB - [0:0]\n-A INPUT -p tcp -s 10.0.0.1 ! -i lo -j WEB\n-A WEB -j REJECT\nCOMMIT\n"


def test_a_rule_is_told_in_values_and_in_text() -> None:
    document = json.loads(render_json([parse_save(TEXT, IpFamily.IPV4)]))
    assert (document["format"], document["version"]) == (FORMAT, VERSION)
    (ruleset,) = document["rulesets"]
    (table,) = ruleset["tables"]
    assert (ruleset["family"], table["name"]) == ("IPv4", "filter")
    assert [chain["name"] for chain in table["chains"]] == ["INPUT", "FORWARD", "OUTPUT", "WEB"]
    assert [chain.get("policy") for chain in table["chains"]] == ["ACCEPT", "ACCEPT", "ACCEPT", None]
    assert table["chains"][0]["rules"] == [
        {
            "matches": [
                {"match": "source", "network": "10.0.0.1/32"},
                {"match": "in-interface", "name": "lo", "negated": True},
                {"match": "protocol", "name": "tcp"},
            ],
            "actions": [{"action": "jump", "chain": "WEB"}],
            "text": "-s 10.0.0.1/32 ! -i lo -p tcp -j WEB",
        }
    ]


@pytest.mark.parametrize("path", dumps(), ids=lambda p: p.name)
def test_a_dump_goes_through_json(path: Path) -> None:
    family = family_of_dump(path)
    ruleset = parse_save(read(path), family)
    (read_back,) = parse_json(render_json([ruleset]))
    assert render_save(read_back) == render_save(ruleset)


def test_the_origin_of_a_rule_is_kept() -> None:
    origin = RuleOrigin("Service web/front", "manifests.yaml", 12)
    table = empty_table("filter")
    table.chains["INPUT"].rules.append(Rule((), (Accept(),), origin))
    (ruleset,) = parse_json(render_json([Ruleset(IpFamily.IPV4, {"filter": table})]))
    assert ruleset.tables["filter"].chains["INPUT"].rules[0].origin == origin


def test_text_ends_with_one_line_feed() -> None:
    text = render_json([])
    assert text.endswith("}\n")
    assert parse_json(text) == []
    assert parse_json(text.encode()) == []


@pytest.mark.parametrize("change", [{"version": VERSION + 1}, {"format": "another"}, {"rulesets": None}])
def test_another_form_is_refused(change: dict[str, object]) -> None:
    document = {"format": FORMAT, "version": VERSION, "rulesets": []} | change
    with pytest.raises(msgspec.ValidationError):
        parse_json(json.dumps(document))


def test_an_unknown_kind_of_match_is_refused() -> None:
    text = render_json([parse_save(TEXT, IpFamily.IPV4)])
    with pytest.raises(msgspec.ValidationError, match="in-interfaces"):
        parse_json(text.replace('"in-interface"', '"in-interfaces"'))


def test_the_schema_names_every_kind() -> None:
    schema = json.dumps(json_schema())
    for name in ("opaque-header", "ct-state", "set-mark", "opaque-action"):
        assert f'"{name}"' in schema
