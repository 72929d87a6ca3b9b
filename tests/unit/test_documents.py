"""Splitting texts into objects: every form that kubectl prints or accepts, each object with its line."""

from __future__ import annotations

import io
import json

import pytest

from kproxy_nat.errors import Code, Problem
from kproxy_nat.manifests.documents import Document, split_text
from kproxy_nat.manifests.sources import SourceText, read_sources


def manifest(name: str) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n"


def item(name: str, indent: str = "") -> str:
    """One list item; its name stands on its fourth line."""
    return (
        f"{indent}- apiVersion: v1\n{indent}  kind: Service\n{indent}  metadata:\n{indent}    name: {name}\n"
    )


def as_json(*names: str) -> str:
    return "".join(f'{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}}}}' for name in names)


def split(text: str, name: str = "stdin") -> list[Document | Problem]:
    return list(split_text(SourceText(name, text)))


def places(text: str, name: str = "stdin") -> list[tuple[str, int, str]]:
    """Return each object's name, first line, and the place at which that name is found when somebody asks."""
    found = []
    for document in split(text, name):
        assert isinstance(document, Document), document
        location = document.origin.locate(("metadata", "name"))
        found.append(
            (
                document.payload.plain()["metadata"]["name"],
                document.origin.line,
                f"{location.line}:{location.column}",
            )
        )
    return found


A, B = manifest("a"), manifest("b")
LIST = "apiVersion: v1\nkind: List\nitems:\n"
TRAILER = 'metadata:\n  resourceVersion: ""\n'
KUBECTL_LIST = "apiVersion: v1\nitems:\n" + item("a") + item("b") + "kind: List\n" + TRAILER


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param(A, [("a", 1, "4:9")], id="one object"),
        pytest.param("---\n" + A, [("a", 2, "5:9")], id="marker first"),
        pytest.param(A + "---\n" + B, [("a", 1, "4:9"), ("b", 6, "9:9")], id="two documents"),
        pytest.param(
            "# c\n\n" + A + "---\n# c\n\n" + B, [("a", 3, "6:9"), ("b", 10, "13:9")], id="comments before"
        ),
        pytest.param(
            A + "--- # c\n" + B,
            [("a", 1, "4:9"), ("b", 6, "9:9")],
            id="comment beside the marker",
        ),
        pytest.param(A + "...\n---\n" + B, [("a", 1, "4:9"), ("b", 7, "10:9")], id="end marker"),
        pytest.param(
            A + "---\n---\n\n---\n" + B + "---\n", [("a", 1, "4:9"), ("b", 9, "12:9")], id="empty documents"
        ),
        pytest.param(A + "---\nnull\n---\n~\n", [("a", 1, "4:9")], id="null documents"),
        pytest.param("%YAML 1.2\n---\n" + A, [("a", 3, "6:9")], id="directive"),
        pytest.param(
            "data: |\n  ---\n  x\nmetadata: {name: a}\n---\n" + B,
            [("a", 1, "4:18"), ("b", 6, "9:9")],
            id="marker in a block scalar",
        ),
        pytest.param(
            "{metadata: {name: a}}\n---\n{kind: Service,\n metadata: {\n  name: b}}\n",
            [("a", 1, "1:19"), ("b", 3, "5:9")],
            id="flow style",
        ),
        pytest.param("--- {metadata: {name: a}}\n", [("a", 1, "1:23")], id="object beside the marker"),
        pytest.param("# \U0001f600\nx: \U0001f600é\n" + A, [("a", 2, "6:9")], id="unicode before"),
        pytest.param(LIST + item("a") + item("b"), [("a", 4, "7:11"), ("b", 8, "11:11")], id="list"),
        pytest.param(
            LIST + item("a", "  ") + item("b", "  "),
            [("a", 4, "7:13"), ("b", 8, "11:13")],
            id="indented list",
        ),
        pytest.param(
            KUBECTL_LIST,
            [("a", 3, "6:11"), ("b", 7, "10:11")],
            id="list as kubectl prints it",
        ),
        pytest.param(
            LIST + "# first\n" + item("a") + "\n# second\n\n" + item("b"),
            [("a", 5, "8:11"), ("b", 12, "15:11")],
            id="comments in a list",
        ),
        pytest.param(
            LIST + (item("a") + item("b")).replace("- api", "-\n  api"),
            [("a", 5, "8:11"), ("b", 10, "13:11")],
            id="dashes on lines of their own",
        ),
        pytest.param(
            LIST + item("a") + item("b").replace("- api", "-\n  api"),
            [("a", 4, "7:11"), ("b", 9, "12:11")],
            id="one dash on a line of its own",
        ),
        pytest.param(
            LIST.replace("items:", "items: # all") + item("a"), [("a", 4, "7:11")], id="comment beside items"
        ),
        pytest.param(
            LIST + item("a") + '  data: "x\n- y\n- z"\n' + item("b"),
            [("a", 4, "7:11"), ("b", 11, "14:11")],
            id="dashes in a quoted text",
        ),
        pytest.param(
            "note: 'x\n\nitems:\n- x\n- y'\n" + LIST + item("a") + item("b"),
            [("a", 9, "12:11"), ("b", 13, "16:11")],
            id="items in a quoted text",
        ),
        pytest.param(
            LIST + item("a") + "  data:\n    x: |\n      - y\n" + item("b"),
            [("a", 4, "7:11"), ("b", 11, "14:11")],
            id="dashes in a block scalar",
        ),
        pytest.param(
            A + "---\n" + LIST + item("b"), [("a", 1, "4:9"), ("b", 9, "12:11")], id="list after an object"
        ),
        pytest.param(
            "{kind: List, items: [\n {metadata: {name: a}},\n {metadata: {name: b}}]}\n",
            [("a", 2, "2:20"), ("b", 3, "3:20")],
            id="list in flow style",
        ),
        pytest.param(
            LIST + "- &x\n  metadata: {name: a}\n- *x\n",
            [("a", 4, "5:20"), ("a", 4, "5:20")],
            id="alias as item",
        ),
        pytest.param(item("a") + item("b"), [("a", 1, "4:11"), ("b", 5, "8:11")], id="array"),
        pytest.param(
            "- {metadata: {name: a}}\n- {metadata: {name: b}}\n",
            [("a", 1, "1:21"), ("b", 2, "2:21")],
            id="array of flow",
        ),
        pytest.param(as_json("a"), [("a", 1, "1:56")], id="JSON"),
        pytest.param(f"\n\n{as_json('a')}\n", [("a", 3, "3:56")], id="JSON after blank lines"),
        pytest.param(json.dumps(json.loads(as_json("a")), indent=2), [("a", 1, "5:13")], id="pretty JSON"),
        pytest.param(
            f"[{as_json('a')},\n {as_json('b')}]", [("a", 1, "1:57"), ("b", 2, "2:57")], id="JSON array"
        ),
        pytest.param(
            f'{{"kind": "List",\n "items": [\n{as_json("é")},\n\n {as_json("b")}]}}',
            [("é", 3, "3:56"), ("b", 5, "5:57")],
            id="JSON list",
        ),
        pytest.param(
            f'{{"kind": "List", "items": [{as_json("a")} , {as_json("a")}]}}',
            [("a", 1, "1:83"), ("a", 1, "1:146")],
            id="JSON list of equal items",
        ),
    ],
)
def test_every_object_is_found_and_knows_its_place(text: str, expected: list[tuple[str, int, str]]) -> None:
    assert places(text) == expected


@pytest.mark.parametrize("source", ["stdin", "all.json"])
@pytest.mark.parametrize("between", ["", "\n", " ", "\n\n"])
def test_json_objects_one_after_the_other_are_all_read(between: str, source: str) -> None:
    text = between.join([as_json("a"), as_json("é"), as_json("c")])
    assert [name for name, _, _ in places(text, source)] == ["a", "é", "c"]


@pytest.mark.parametrize(
    "text", ["{metadata: {name: on}}\nmetadata: {name: b}\n", "[on]\nb\n", "{a: on} b\n"]
)
def test_garbage_after_a_document_is_not_dropped_in_silence(text: str) -> None:
    assert any(isinstance(found, Problem) for found in split(text, "x.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "List", "items": []}',
        "[]",
        "apiVersion: v1\nitems: []\nkind: List\n" + TRAILER,
        LIST.rstrip() + " []\n",
        "{kind: List, items: [ ]}\n",
        "--- []\n",
    ],
)
def test_a_list_without_items_holds_no_objects(text: str) -> None:
    assert split(text) == []


def test_an_object_after_an_end_marker_knows_its_place() -> None:
    assert places(A + "...\n" + B) == [("a", 1, "4:9"), ("b", 6, "9:9")]


@pytest.mark.parametrize("line_end", ["\r\n", "\r"], ids=["CR LF", "CR"])
def test_lines_may_end_in_carriage_returns(line_end: str) -> None:
    data = (A + "---\n" + B).replace("\n", line_end).encode()
    (text,) = read_sources(["-"], io.BytesIO(data)).texts
    assert places(text.text) == [("a", 1, "4:9"), ("b", 6, "9:9")]


@pytest.mark.parametrize(
    "text, kinds",
    [
        ("kind: ServiceList\nitems:\n- metadata: {name: a}\n", ["Service"]),
        ("kind: List\nitems:\n- metadata: {name: a}\n", [""]),
        ('{"kind": "EndpointSliceList", "items": [{}, {}]}', ["EndpointSlice", "EndpointSlice"]),
        ("- metadata: {name: a}\n", [""]),
        ("kind: Service\nitems: [a]\n", [""]),
        ("kind: ServiceList\n", [""]),
        ("items: [a]\n", [""]),
    ],
)
def test_a_typed_list_promises_the_kind_of_its_items(text: str, kinds: list[str]) -> None:
    found = split(text)
    assert [document.listed_kind for document in found if isinstance(document, Document)] == kinds


@pytest.mark.parametrize(
    "text, source, code, place",
    [
        (A + "---\na: b: c\n---\n" + B, "x.yaml", Code.YAML_SYNTAX, "x.yaml:6:5"),
        (A + "---\nx: [\n---\n" + B, "x.yaml", Code.YAML_SYNTAX, "x.yaml:6:5"),
        (A + "---\nx: 1\nx: 2\n---\n" + B, "x.yaml", Code.DUPLICATE_KEY, "x.yaml:7:1"),
        (A + "---\nx: *y\n---\n" + B, "x.yaml", Code.YAML_SYNTAX, "x.yaml:6:4"),
        (A + "---\nx: \x07\n---\n" + B, "x.yaml", Code.YAML_SYNTAX, "x.yaml:6"),
    ],
)
def test_a_broken_document_leaves_its_neighbours_alone(
    text: str, source: str, code: Code, place: str
) -> None:
    first, broken, last = split(text, source)
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert isinstance(broken, Problem)
    assert (broken.code, str(broken.location)) == (code, place)


@pytest.mark.parametrize(
    "text, place",
    [
        ('{"a": 1,}', "x.json:1:9"),
        ('{"a": tru}', "x.json:1:7"),
        ('{\n "a": 1\n "b": 2}', "x.json:3:2"),
        ('{"é": 1, b}', "x.json:1:10"),
        ("[" * 100_000, "x.json:1:"),
    ],
)
def test_broken_json_is_told_with_its_place(text: str, place: str) -> None:
    (problem,) = split(text, "x.json")
    assert isinstance(problem, Problem)
    assert problem.code is Code.JSON_SYNTAX
    assert str(problem.location).startswith(place)


def test_flow_style_that_is_no_json_is_yaml() -> None:
    assert places("{apiVersion: v1, metadata: {name: a}}\n") == [("a", 1, "1:35")]
