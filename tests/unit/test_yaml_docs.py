"""docs/yaml.md promises what each spelling means; its table is this test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kproxy_nat.manifests.yaml_fast import load_fast
from kproxy_nat.manifests.yaml_nodes import (
    MAX_DEPTH,
    MAX_EXPANDED_NODES,
    YamlError,
    construct,
    parse_documents,
)

PAGE = Path(__file__).parents[2] / "docs" / "yaml.md"
ROW = re.compile(r"^\| `([^`]+)` \| .* \| .* \| .* \| (`.+`|\*refused\*) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    return [
        (written, meaning.strip("`")) for written, meaning in ROW.findall(PAGE.read_text(encoding="utf-8"))
    ]


def same(left: object, right: object) -> bool:
    """Equality that tells ``1`` from ``1.0`` and ``True``."""
    return repr(left) == repr(right)


def test_no_row_of_the_table_is_overlooked() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Where the standards")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows()) == len(lines) - 2 > 30


@pytest.mark.parametrize("written, meaning", rows())
def test_the_exact_reader_keeps_the_promise(written: str, meaning: str) -> None:
    node = next(parse_documents(f"key: {written}\n"))
    assert node is not None
    if meaning == "*refused*":
        with pytest.raises(YamlError):
            construct(node)
    else:
        assert same(construct(node), {"key": json.loads(meaning)})


@pytest.mark.parametrize("written, meaning", rows())
def test_the_fast_reader_keeps_the_promise_or_leaves_it_to_the_other(written: str, meaning: str) -> None:
    fast, data = load_fast(f"key: {written}\n")
    if fast:
        assert meaning != "*refused*"
        assert same(data, {"key": json.loads(meaning)})


def test_the_limits_are_as_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"| {MAX_DEPTH} levels |" in text
    assert f"| {MAX_EXPANDED_NODES:,} |" in text
