"""Documentation that would otherwise drift from the code."""

from __future__ import annotations

import json
from pathlib import Path

import kproxy_nat
from kproxy_nat.formats.ruleset_json import json_schema
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.matches import wire_name

ROOT = Path(kproxy_nat.__file__).resolve().parent.parent


def test_the_json_schema_is_current() -> None:
    assert json.loads((ROOT / "docs" / "ruleset.schema.json").read_text()) == json_schema()


def test_the_json_schema_names_every_type() -> None:
    schema = (ROOT / "docs" / "ruleset.schema.json").read_text()
    for kind in (*matches.AnyMatch.__args__, *actions.AnyAction.__args__):
        assert f'"{wire_name(kind.__name__)}"' in schema


def test_every_page_of_the_docs_can_be_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name
