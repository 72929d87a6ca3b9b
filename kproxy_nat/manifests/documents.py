"""Splitting texts into API objects: YAML documents, JSON values, and the items of lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from kproxy_nat.errors import Code, Location, Problem
from kproxy_nat.manifests.origins import TextOrigin, line_at, position_at
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.manifests.yaml_fast import load_fast
from kproxy_nat.manifests.yaml_nodes import Node, YamlError, construct, parse_documents

S = TypeVar("S", bound=msgspec.Struct)

_DOCUMENT_BREAK = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ITEMS_KEY = re.compile(r"^items:[ \t]*\r?\n([ ]*)-[ ]", re.MULTILINE)
_CONTENT = re.compile(r"^(?![ \t]*(?:#.*)?\r?$)(?!---[ \t]*(?:#.*)?\r?$)(?!%).", re.MULTILINE)
_SEPARATOR = re.compile(r"[ \t\r\n,]*")
_BLANKS = re.compile(r"[ \t\r\n]*")
_KINDS_OF_ERROR = {"duplicate": Code.DUPLICATE_KEY, "aliases": Code.ALIAS_EXPANSION}


class Header(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What kind of object it is."""

    api_version: str = ""
    kind: str = ""


class Payload(Protocol):
    """The content of an object, not yet decoded."""

    def decode(self, kind: type[S]) -> S:
        """Return the content as a struct.

        Raises:
            msgspec.ValidationError: it does not fit; the message tells the first mistake.
        """
        ...

    def plain(self) -> Any:
        """Return the content as dicts and lists."""
        ...


class JsonPayload:
    """An object in JSON."""

    __slots__ = ("raw",)

    def __init__(self, raw: msgspec.Raw) -> None:
        self.raw = raw

    def decode(self, kind: type[S]) -> S:
        """See :meth:`Payload.decode`."""
        return msgspec.json.decode(self.raw, type=kind)

    def plain(self) -> Any:
        """See :meth:`Payload.plain`."""
        try:
            return msgspec.json.decode(self.raw)
        except msgspec.ValidationError:  # an integer beyond all ranges
            return json.loads(str(memoryview(self.raw), "utf-8"), parse_int=_bounded_int)


def _bounded_int(digits: str) -> int | str:
    return int(digits) if len(digits) < 300 else digits


class PlainPayload:
    """An object from YAML."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    def decode(self, kind: type[S]) -> S:
        """See :meth:`Payload.decode`."""
        return msgspec.convert(self.data, type=kind)

    def plain(self) -> Any:
        """See :meth:`Payload.plain`."""
        return self.data


class Document(msgspec.Struct, frozen=True, gc=False):
    """One object as found, with its place. ``listed_kind`` is the kind that a list promises of its items."""

    payload: Payload
    origin: TextOrigin
    listed_kind: str = ""


def split_text(text: SourceText) -> Iterator[Document | Problem]:
    """Yield every object in ``text``, the items of lists one by one, and a problem for each broken part."""
    first = text.text.lstrip()[:1]
    if first in ("{", "[") and (first == "{" or not text.name.endswith((".yaml", ".yml"))):
        documents = list(_split_json(text))
        if _is_sound(documents) or text.name.endswith(".json"):
            yield from documents
            return
        flow_style = list(_split_yaml(text))
        yield from flow_style if _is_sound(flow_style) else documents
        return
    yield from _split_yaml(text)


def _is_sound(documents: list[Document | Problem]) -> bool:
    return not any(isinstance(document, Problem) for document in documents)


# --- JSON


class _JsonList(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    items: list[msgspec.Raw] | None = None


def _split_json(text: SourceText) -> Iterator[Document | Problem]:
    """Split a stream of JSON values: nearly always one, a list."""
    start = _skip_blanks(text.text, 0)
    while start < len(text.text):
        end = len(text.text)
        try:
            try:
                documents = _split_json_value(text, start, end)
            except msgspec.DecodeError as error:
                if "trailing" not in str(error):
                    raise
                end = json.JSONDecoder().raw_decode(text.text, start)[1]
                documents = _split_json_value(text, start, end)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            yield _json_problem(text, start, error)
            return
        yield from documents
        start = _skip_blanks(text.text, end)


def _skip_blanks(text: str, start: int) -> int:
    found = _BLANKS.match(text, start)
    return found.end() if found else start


def _split_json_value(text: SourceText, start: int, end: int) -> list[Document]:
    """Return the objects of the JSON value from ``start`` to ``end``: itself, or the items of a list."""
    chunk = text.text[start:end]
    if chunk.startswith("["):
        return _json_items(text, start, "", msgspec.json.decode(chunk, type=list[msgspec.Raw]))
    try:
        listed = msgspec.json.decode(chunk, type=_JsonList)
    except msgspec.ValidationError:
        listed = _JsonList()
    if listed.items is not None and _is_list_kind(listed.kind):
        return _json_items(text, start, listed.kind.removesuffix("List"), listed.items)
    line = text.text.count("\n", 0, start) + 1
    return [Document(JsonPayload(msgspec.Raw(chunk)), TextOrigin(text, line, start, end))]


def _json_items(text: SourceText, start: int, kind: str, items: list[msgspec.Raw]) -> list[Document]:
    """Return a document for each list item, found in the text: the first by its bytes, others after it."""
    documents = []
    whole, ascii_only = text.text, text.text.isascii()
    line, position = whole.count("\n", 0, start) + 1, start
    for number, item in enumerate(items):
        view = memoryview(item)
        if number and ascii_only:
            found = _skip_separator(whole, position)
            end = found + view.nbytes
        else:
            raw = str(view, "utf-8")
            found = whole.index(raw, position)
            end = found + len(raw)
        line += whole.count("\n", position, found)
        documents.append(Document(JsonPayload(item), TextOrigin(text, line, found, end), kind))
        line += whole.count("\n", found, end)
        position = end
    return documents


def _skip_separator(text: str, position: int) -> int:
    """Return where the item after a list's comma begins."""
    found = _SEPARATOR.match(text, position)
    return found.end() if found else position


def _json_problem(text: SourceText, start: int, error: Exception) -> Problem:
    """Describe broken JSON in the words of the standard library, which knows the place best."""
    position, reason = start, str(error).removeprefix("JSON is malformed: ")
    try:
        json.JSONDecoder().raw_decode(text.text, start)
    except json.JSONDecodeError as precise:
        position, reason = precise.pos, precise.msg.removesuffix(" starting at")
    except RecursionError:
        reason = "nested too deeply"
    line, column = position_at(text.text, position)
    location = Location(text.name, line, column, line_at(text.text, position, 0))
    hint = "repair it here, or fetch it again if it is cut off"
    return Problem(Code.JSON_SYNTAX, f"this JSON is broken: {reason}", location=location, hint=hint)


# --- YAML


def _split_yaml(text: SourceText) -> Iterator[Document | Problem]:
    breaks = [found.start() for found in _DOCUMENT_BREAK.finditer(text.text)]
    starts = [0, *breaks]
    ends = [*breaks, len(text.text)]
    line, counted = 1, 0
    for begin, end in zip(starts, ends, strict=True):
        line += text.text.count("\n", counted, begin)
        counted = begin
        start = begin + len("...") if text.text.startswith("...", begin) else begin
        chunk = text.text[start:end]
        content = _CONTENT.search(chunk)
        if content is None and not chunk.startswith("--- "):
            continue
        first_line = line + (chunk.count("\n", 0, content.start()) if content else 0)
        try:
            yield from _yaml_document(text, start, end, first_line)
        except YamlError as error:
            yield _yaml_problem(text, start, line, error)


def _yaml_document(text: SourceText, start: int, end: int, line: int) -> Iterator[Document]:
    chunk = text.text[start:end] + "\n"
    fast, data = load_fast(chunk)
    root: Node | None = None
    if not fast:
        root = next(iter(list(parse_documents(chunk))), None)
        data = None if root is None else construct(root)
    if data is None:
        return
    path: tuple[str, ...] = ()
    if isinstance(data, list):
        kind, items = "", data
    elif isinstance(data, dict) and isinstance(data.get("items"), list) and _is_list_kind(data.get("kind")):
        kind, items, path = str(data["kind"]).removesuffix("List"), data["items"], ("items",)
    else:
        yield Document(PlainPayload(data), TextOrigin(text, line, start, end))
        return
    origins = _item_origins(text, start, end, len(items), root, path)
    for item, origin in zip(items, origins, strict=True):
        yield Document(PlainPayload(item), origin, kind)


def _is_list_kind(kind: object) -> bool:
    return isinstance(kind, str) and kind.endswith("List")


def _item_origins(
    text: SourceText, start: int, end: int, count: int, root: Node | None, path: tuple[str, ...]
) -> Iterator[TextOrigin]:
    """Yield the origin of each list item: by its dash in block style, else by an exact parse."""
    dashes, last = _item_dashes(text.text, start, end) if path and root is None else ([], end)
    if not count:
        return
    if len(dashes) != count:
        yield from _exact_item_origins(text, start, end, path)
        return
    line, counted = text.text.count("\n", 0, start) + 1, start
    for begin, finish in zip(dashes, [*dashes[1:], last], strict=True):
        line += text.text.count("\n", counted, begin)
        counted = begin
        yield TextOrigin(text, line, begin, finish, prefix=(0,))


def _item_dashes(text: str, start: int, end: int) -> tuple[list[int], int]:
    """Return the line starts of the items below a block-style ``items:``, and where the last of them ends."""
    found = _ITEMS_KEY.search(text, start, end)
    if found is None:
        return [], end
    indent = found[1]
    dash = re.compile(rf"^{indent}-[ ]", re.MULTILINE)
    first = text.index("\n", found.start()) + 1
    stop = re.compile(rf"^(?!{indent}[- ])(?![ ]*(?:#.*)?\r?$)", re.MULTILINE).search(text, first, end)
    last = stop.start() if stop else end
    return [item.start() for item in dash.finditer(text, first, last)], last


def _exact_item_origins(
    text: SourceText, start: int, end: int, path: tuple[str, ...]
) -> Iterator[TextOrigin]:
    root = next(parse_documents(text.text[start:end]))
    assert root is not None
    items = root.value
    if path:
        items = next(value.value for key, value in root.value if key.value == path[0])
    first_line = text.text.count("\n", 0, start)
    for position, item in enumerate(items):
        yield TextOrigin(text, first_line + item.line, start, end, prefix=(*path, position))


def _yaml_problem(text: SourceText, start: int, line: int, error: YamlError) -> Problem:
    code = _KINDS_OF_ERROR.get(error.kind, Code.YAML_SYNTAX)
    message = error.message if error.kind in _KINDS_OF_ERROR else f"this YAML is broken: {error.message}"
    if not error.line:
        return Problem(code, message, location=Location(text.name, line), hint=error.hint)
    shown = line_at(text.text, start, error.line - 1)
    location = Location(text.name, line + error.line - 1, error.column, shown)
    return Problem(code, message, location=location, hint=error.hint)
