"""The fast YAML reader means what the exact one means: whenever it accepts a text, the data are the same.

A text that only one of them accepts is no disagreement.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kproxy_nat.manifests.yaml_fast import load_fast
from kproxy_nat.manifests.yaml_nodes import YamlError, construct, parse_documents
from tests.property import examples

MANIFESTS = sorted((Path(__file__).parents[2] / "rules").glob("*/manifests.yaml"))
DOCUMENT = re.compile(r"^(?=(?:---|\.\.\.)(?:\s|\Z))", re.MULTILINE)


def documents_of(text: str) -> list[str]:
    """Split as ``manifests.documents`` does: a reader gets one document at a time."""
    return [part.removeprefix("...") for part in DOCUMENT.split(text) if part]


def assert_agreement(text: str) -> None:
    """Check one text, ``repr`` telling 1 from 1.0 and True, and NaN equal to itself.

    As from ``manifests.documents``, a line feed comes after it.
    """
    text += "\n"
    fast, data = load_fast(text)
    if not fast:
        return
    try:
        nodes = list(parse_documents(text))
    except YamlError:
        return
    try:
        exact = [None if node is None else construct(node) for node in nodes] or [None]
    except YamlError:
        return
    assert repr([data]) == repr(exact), text


# --- structures, as PyYAML writes them

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["yes", "010", "1_0", "0x1f", "1e3", "~", "null", "::1", "2001-12-14", "- a", "a: b", "#", "|"]
    )
)
KEYS = st.text(max_size=8) | st.sampled_from(["yes", "010", "a b", "<<", "?", "-", "kind", "true"])
STRUCTURES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(
    STRUCTURES,
    st.booleans() | st.none(),
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.booleans(),
    st.sampled_from([2, 4, 7]),
)
@settings(max_examples=examples(200), deadline=None)
def test_on_structures_in_every_style(
    data: Any, flow: bool | None, style: str | None, escapes: bool, indent: int
) -> None:
    text = yaml.dump(
        data, default_flow_style=flow, default_style=style, allow_unicode=escapes, indent=indent, width=20
    )
    assert_agreement(text)


# --- scalars with a trap, in every position

NASTY = """
yes no on off y n Y N true True TRUE tRue null Null NULL ~ nUll 010 0o10 0O10 0x1F 0X1f 0b11 0B11
-0b1 +0x1 1_000 __ _ 1__0 1_ 0_7 08 09 0_8 -010 +010 1e3 1E3 1e+3 1.5e3 .5 5. . .. .e5 1.2.3 1.2.3.4
12:30 190:20:30 2001-12-14 2001-12-14T21:59:43Z .inf .Inf -.inf +.inf .nan .NaN inf nan 0 -0 +0 00
0x 0b 0o -0x1 1e400 1e-400 0.0 -0.0 +1 +1.5 +.5 -. + - 9223372036854775807 9223372036854775808
18446744073709551616 0xFFFFFFFFFFFFFFFFFF = << <<a a<< @a `a a:b a#b a: 1,2 1,000 ١٢ 0٣ null_ +true
0x_1 0x1_ 0b_1 0o_7 1e1_0 1_e3 0e0 0xg 1f 0x1p3 1e 1e+ 00.5 01.5 -01.5 1.50 0777 0888 1:2 4e-324 ::1
fd00::1 fd00:: fd00::/64 10.0.0.1 10.0.0.0/8 'x' "\\x41" '' "" "\\u2028" &a *a !a !!str %a |- > []
{} [a] {a} {a:b} [yes] {yes:no} [010] [~] [,] [a,] ? ?: :a
""".split()
NASTY += [
    "a b",
    "a - b",
    "- a",
    "a # b",
    "a: b",
    "? a",
    "'it''s'",
    '"\\/"',
    "\u00a05",
    "é",
    "\U0001f600",
    "a\u200bb",
]

POSITIONS = {
    "root": "§",
    "value": "a: §",
    "value before another": "a:   §\nb: c",
    "item": "- §",
    "item of an item": "- - §",
    "item below a key": "a:\n- §\n- y\n",
    "flow item": "a: [§]",
    "flow item among others": "a: [x, § , y]",
    "flow item without spaces": "a: [x,§,y]",
    "flow item on its own line": "a: [x,\n  §,\n y]",
    "flow value": "a: {b: §}",
    "flow value among others": "a: {b: §, c: d}",
    "flow value on its own line": "a: {b:\n  §}",
    "on the next line": "a:\n  §",
    "on a later line": "a:\n\n   §\nb: 1",
    "second line of a text": "a: x\n  §",
    "first line of a text": "a: §\n  x",
    "middle line of a text": "a: x\n  §\n  y\nb: 1",
    "before a comment": "a: § # c",
    "before blanks": "a: §   \n",
    "before CR LF": "a: §\r\nb: 1\r\n",
    "in a block scalar": "a: |\n  §\n",
    "in a folded scalar": "a: >-\n  §\n  x\n",
    "after the marker": "--- §",
    "below the marker": "---\n§\n",
    "value of a quoted key": '"a": §',
    "value in an item": "- a: §\n  b: §",
    "key": "§: 1",
    "later key": "a: 1\n§: 2",
    "key of an item": "- §: 1",
    "key below a key": "a:\n  §: 1",
    "flow key": "a: {b: 1, §: 1}",
}


@pytest.mark.parametrize("position", POSITIONS)
def test_on_nasty_scalars(position: str) -> None:
    for scalar in NASTY:
        text = POSITIONS[position].replace("§", scalar)
        assert_agreement(text)


# --- manifests with mistakes

TOKENS = [
    *"""null -1 70000 "" "x" [] {} ' " | > &a *a !!str --- # % @ 0x10 1e9 .inf 10.0.0.1 ::1 fd00::/64 None
    true ~ [ ] { } , é kind: items: - 10.0.0.0/33 Local y no 010 9""".split(),
    *("\n", "  ", ": ", "- ", "\t", "<<: ", "...\n", " #"),
]


def mutate(rng: random.Random, text: str) -> str:
    """Return ``text`` with one to four small accidents."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(4):
            case 0:
                text = text[:at] + rng.choice(TOKENS) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.randint(1, 12) :]
            case 2:
                lines = text.splitlines(keepends=True) or ["\n"]
                line = rng.randrange(len(lines))
                lines[line] = rng.choice(
                    ["", rng.choice(lines), " " * rng.randint(0, 4) + lines[line].lstrip(" ")]
                )
                text = "".join(lines)
            case _:
                values = list(re.finditer(r": (\S.*)$", text, re.MULTILINE))
                if values:
                    value = rng.choice(values)
                    text = text[: value.start(1)] + rng.choice(TOKENS) + text[value.end(1) :]
    return text


@pytest.mark.parametrize("seed", range(8))
def test_on_manifests_with_mistakes(seed: int) -> None:
    rng = random.Random(seed)
    texts = [part for path in MANIFESTS for part in documents_of(path.read_text(encoding="utf-8"))]
    for _ in range(examples(500)):
        for text in documents_of(mutate(rng, rng.choice(texts))):
            assert_agreement(text)


@given(st.text(st.sampled_from("ab01yno-:?,[]{}#'\"|>~._ \n"), max_size=30))
@settings(max_examples=examples(800), deadline=None)
@example("a: [b: c, d]")
def test_on_any_text(text: str) -> None:
    for part in documents_of(text):
        assert_agreement(part)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_on_the_gallery_the_fast_reader_is_taken(path: Path) -> None:
    for text in documents_of(path.read_text(encoding="utf-8")):
        assert_agreement(text)
        if not re.search(r"[&*!]\w|<<", text):
            assert load_fast(text)[0], text


# --- texts on which the readers once disagreed

ONCE = {
    "key that is a boolean": "true: 1",
    "key that is null": "a: {~: 1}",
    "key that is an integer": "80: 1",
    "key that is a float": "- 1.5: 1",
    "key in a flow sequence": "[80: 1]",
    "infinity in odd letters": "a: .iNF",
    "digits beyond any float": "a: 1" + "0" * 400 + ".5",
    "line separator": "a:\n  b\u2028c: 1\n",
    "line separator in quotes": 'a: "x \u2029 y"\n',
    "next line": "- x\x85  y\n",
    "lone carriage return": "a: 1\r---\rb: 2\r",
    "question mark in a flow sequence": "[?a]",
    "block scalar at the end of the text": "a: |\n  x",
    "key without a colon": "{1, a: b}",
    "key that is a number with a sign": "+.5: 1",
    "key that is null, as a question mark": "a:\n  ?\nb: 1",
    "question mark before a colon": "a: [x, ?: , y]",
    "block scalar without lines": "- |",
    "block scalar of a comment": ">\n#",
}


@pytest.mark.parametrize("text", ONCE.values(), ids=ONCE)
def test_on_what_they_once_read_differently(text: str) -> None:
    assert_agreement(text)
