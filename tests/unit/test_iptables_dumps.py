"""Dumps of the real tools come out of parsing and rendering line for line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from tests.corpus import dumps, family_of_dump, read, without_comments


def tables(text: str) -> list[str]:
    return text.split("COMMIT\n")


@pytest.mark.parametrize("path", dumps(), ids=lambda p: p.name)
def test_a_dump_is_rendered_as_it_was(path: Path) -> None:
    dump = without_comments(read(path))
    rendered = render_save(parse_save(dump, family_of_dump(path)), counters=True)
    if path.name.endswith(".legacy.rules"):  # lists tables in the order of their use
        assert sorted(tables(rendered)) == sorted(tables(dump))
    else:
        assert rendered == dump


def test_comments_of_a_dump_do_not_matter() -> None:
    for path in dumps():
        family = family_of_dump(path)
        text = read(path)
        assert render_save(parse_save(text, family)) == render_save(
            parse_save(without_comments(text), family)
        )


def test_without_counters_every_counter_is_zero_or_gone() -> None:
    (path,) = [path for path in dumps() if path.name == "counters.rules"]
    rendered = render_save(parse_save(read(path), family_of_dump(path)))
    assert ":INPUT DROP [0:0]\n" in rendered
    assert "\n-A INPUT -i lo -j ACCEPT\n" in rendered
