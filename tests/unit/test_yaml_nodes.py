"""The exact YAML reader: what each construct means, what is refused, and where things stand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kproxy_nat.manifests.yaml_nodes import (
    MAX_DEPTH,
    Node,
    YamlError,
    construct,
    find_node,
    parse_documents,
    resolve_plain,
)


def root(text: str) -> Node:
    node = next(parse_documents(text))
    assert node is not None
    return node


def read(text: str) -> Any:
    return construct(root(text))


def refusal(text: str) -> YamlError:
    with pytest.raises(YamlError) as refused:
        read(text)
    return refused.value


def place(text: str, *path: str | int) -> tuple[int, int]:
    node = find_node(root(text), path)
    return node.line, node.column


@pytest.mark.parametrize(
    "plain, value",
    [
        ("", None),
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("00", 0),
        ("0777", 511),
        ("0o777", 511),
        ("0O17", 15),
        ("-0x10", -16),
        ("+0b11", 3),
        ("1_000_000", 1_000_000),
        ("0x_ff", 255),
        ("08", 8.0),
        ("-08.5", -8.5),
        ("5.", 5.0),
        ("1E3", 1000.0),
        ("1e-3", 0.001),
        ("9223372036854775808", 9223372036854775808),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+.Inf", math.inf),
        (".iNF", ".iNF"),
        ("inf", "inf"),
        ("nan", "nan"),
        (".", "."),
        ("-", "-"),
        ("+", "+"),
        ("_", "_"),
        ("1e", "1e"),
        ("0x", "0x"),
        ("0xg", "0xg"),
        ("0b2", "0b2"),
        ("1.2.3.4", "1.2.3.4"),
        ("10.96.0.1", "10.96.0.1"),
        ("1,000", "1,000"),
        ("12:30:45", "12:30:45"),
        ("2001-12-14 21:59:43", "2001-12-14 21:59:43"),
        ("y", "y"),
        ("Y", "Y"),
        ("n", "n"),
        ("N", "N"),
        ("oN", "oN"),
        ("٣", "٣"),
        ("=", "="),
    ],
)
def test_an_unquoted_scalar_is_resolved_as_kubectl_does(plain: str, value: object) -> None:
    assert repr(resolve_plain(plain)) == repr(value)


@pytest.mark.parametrize("plain", ["_80", "__1", "_.5"])
def test_an_underscore_does_not_begin_a_number(plain: str) -> None:
    assert resolve_plain(plain) == plain


def test_not_a_number() -> None:
    assert math.isnan(resolve_plain(".NaN"))


@pytest.mark.parametrize(
    "text, data",
    [
        ("'yes'", "yes"),
        ('"010"', "010"),
        ("a: |\n  yes\n", {"a": "yes\n"}),
        ("a: >-\n  8\n  0\n", {"a": "8 0"}),
        ("a: 8\n 0", {"a": "8 0"}),
        ("a:", {"a": None}),
        ("{}", {}),
        ("[a, b,]", ["a", "b"]),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ("on: 1", {"true": 1}),
        ("no: 1", {"false": 1}),
        ("~: 1", {"null": 1}),
        ("80: 1", {"80": 1}),
        ("'on': 1", {"on": 1}),
        ("? a\n: 1", {"a": 1}),
        ("!!bool yes", True),
        ("!!null ''", None),
        ("!!float '1.5'", 1.5),
        ("!!timestamp 2001-12-14", "2001-12-14"),
        ("!!str on", "on"),
    ],
)
def test_constructs(text: str, data: object) -> None:
    assert repr(read(text)) == repr(data)


@pytest.mark.parametrize(
    "text, data",
    [
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}", {"x": 1, "y": 2}),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}", {"x": 2}),
        ("a: &a {x: 1}\nb: {x: 2, <<: *a}", {"x": 2}),
        ("a: &a {x: 1}\nc: &c {x: 3, y: 4}\nb: {<<: [*a, *c]}", {"x": 1, "y": 4}),
        ("a: &a {<<: {x: 1}, y: 2}\nb: {<<: *a}", {"x": 1, "y": 2}),
        ("a: 1\nb: {'<<': {x: 1}}", {"<<": {"x": 1}}),
    ],
)
def test_merge_keys(text: str, data: object) -> None:
    assert read(text)["b"] == data


@pytest.mark.parametrize(
    "text, line, column, message",
    [
        ("a: [}", 1, 5, "did not find expected node content"),
        ("a: b: c", 1, 5, "mapping values are not allowed"),
        ("a: 1\n b: 2", 2, 3, "mapping values are not allowed"),
        ("a:\n\t- b", 2, 1, "tab"),
        ("a: 'x", 1, 6, "unexpected end of stream"),
        ("a: @x", 1, 4, "cannot start any token"),
        ("a: %x", 1, 4, "cannot start any token"),
        ("a: *nowhere", 1, 4, "no anchor &nowhere before this alias"),
        ("a: &a [*a]", 1, 8, "alias *a stands within its own anchor"),
        ("a: &a {b: *a}", 1, 11, "alias *a stands within its own anchor"),
        ("a: {<<: 5}", 1, 9, "<< merges mappings only"),
        ("a: {<<: [{b: 1}, 5]}", 1, 9, "<< merges mappings only"),
        ("? [a]\n: 1", 1, 3, "a key must be a text"),
        ("a: !mine x", 1, 4, "tag !mine has no meaning"),
        ("a: !!set x", 1, 4, "has no meaning"),
        ("a: !!int yes", 1, 4, "'yes' does not fit its tag"),
        ('a: "\\q"', 1, 5, "unknown escape character"),
        ("a: 1\nb: \x07", 2, 0, "character U+0007 is not allowed"),
        ("a: 1\n\x7f: 2", 2, 0, "character U+007F is not allowed"),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, column: int, message: str) -> None:
    error = refusal(text)
    assert message in error.message
    assert (error.line, error.column) == (line, column)
    assert error.kind == "syntax"


@pytest.mark.parametrize(
    "text, line, column, key",
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "a"),
        ("x:\n- {p: 1, q: 2, p: 1}", 2, 16, "p"),
        ("a: 1\n'a': 2", 2, 1, "a"),
        ("on: 1\ntrue: 2", 2, 1, "true"),
        ("1: 1\n'1': 2", 2, 1, "1"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(text: str, line: int, column: int, key: str) -> None:
    error = refusal(text)
    assert (error.kind, error.line, error.column) == ("duplicate", line, column)
    assert error.message == f"key {key!r} is there twice"


def laughs(levels: int) -> str:
    lines = ["k0: &k0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"k{level}: &k{level} [{', '.join([f'*k{level - 1}'] * 10)}]")
    return "\n".join(lines)


def test_aliases_that_explode_are_refused_before_they_do() -> None:
    error = refusal(laughs(20))
    assert error.kind == "aliases"
    assert error.line == 5
    assert "1,000,000" in error.message


def test_merges_that_explode_are_refused_before_they_do() -> None:
    text = "k0: &k0 {x: 1}\n" + "\n".join(
        f"k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 10)}]}}" for n in range(1, 20)
    )
    assert refusal(text).kind == "aliases"


def test_modest_use_of_aliases_is_fine() -> None:
    assert len(read(laughs(3))["k2"]) == 10


@pytest.mark.parametrize("opening, closing", [("[", "]"), ("{a: ", "}")])
def test_nesting_has_a_limit(opening: str, closing: str) -> None:
    assert read(opening * MAX_DEPTH + "x" + closing * MAX_DEPTH)
    beyond = MAX_DEPTH + 1
    error = refusal(opening * beyond + "x" + closing * beyond)
    assert error.message == f"nested more than {MAX_DEPTH} levels deep"
    assert error.column == MAX_DEPTH * len(opening) + 1


def test_a_document_far_too_deep_is_refused_too() -> None:
    assert "nested" in refusal("- " * 50_000 + "x").message


def test_a_number_of_many_digits_is_read_or_refused() -> None:
    assert read("a: " + "9" * 5000)


@pytest.mark.parametrize(
    "text", ["\ufeffa: 1\n", "a: 1\r\nb: 2\r\n", "a:\t1\n", "a: 1\t# tab\n", "# c\na: 1\n"]
)
def test_marks_line_ends_and_tabs_that_are_fine(text: str) -> None:
    assert read(text)["a"] == 1


def test_each_document_is_read_and_empty_ones_are_none() -> None:
    documents = list(parse_documents("a: 1\n---\n---\n# only a comment\n---\n- 2\n"))
    assert [node and construct(node) for node in documents] == [{"a": 1}, None, None, [2]]


def test_anchors_end_with_their_document() -> None:
    documents = parse_documents("a: &x 1\n---\nb: *x\n")
    next(documents)
    with pytest.raises(YamlError, match="no anchor &x"):
        next(documents)


SERVICE = """\
# a comment
kind: Service
metadata: {name: web, labels: {a: b}}
spec:
  clusterIP:
  ports:
  - name: http
    port: 80
  -   name: dns
      port: 53
  externalIPs: [192.0.2.1,
    192.0.2.2]
"""


@pytest.mark.parametrize(
    "path, line, column",
    [
        ((), 2, 1),
        (("kind",), 2, 7),
        (("metadata",), 3, 1),
        (("metadata", "name"), 3, 18),
        (("metadata", "labels", "a"), 3, 35),
        (("metadata", "namespace"), 3, 1),
        (("spec",), 4, 1),
        (("spec", "clusterIP"), 5, 3),
        (("spec", "ports"), 6, 3),
        (("spec", "ports", 0), 7, 5),
        (("spec", "ports", 0, "port"), 8, 11),
        (("spec", "ports", 1, "name"), 9, 13),
        (("spec", "ports", 1, "nodePort"), 9, 7),
        (("spec", "ports", 7, "port"), 6, 3),
        (("spec", "externalIPs", 0), 11, 17),
        (("spec", "externalIPs", 1), 12, 5),
        (("nowhere", "at", "all"), 2, 1),
        (("kind", "deeper"), 2, 7),
        (("spec", 3), 4, 1),
    ],
)
def test_a_field_is_found_or_its_nearest_ancestor(
    path: tuple[str | int, ...], line: int, column: int
) -> None:
    assert place(SERVICE, *path) == (line, column)


def test_columns_count_characters_not_bytes() -> None:
    assert place('{é: "😀", a: 1}', "a") == (1, 13)
