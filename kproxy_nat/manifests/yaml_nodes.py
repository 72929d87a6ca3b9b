"""YAML as kubectl reads it, with positions: exact, and slow.

kubectl's YAML is neither 1.1 nor 1.2: booleans and octal numbers are of 1.1, while timestamps and base-60
numbers stay text. ``docs/yaml.md`` lists the differences, and the one in which we differ from kubectl. This
module builds on PyYAML's events (libyaml), resolves plain scalars by those rules, and remembers where each
node stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 200
MAX_EXPANDED_NODES = 1_000_000

_BOOLEANS = {
    **dict.fromkeys("yes Yes YES true True TRUE on On ON".split(), True),
    **dict.fromkeys("no No NO false False FALSE off Off OFF".split(), False),
}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_SPECIAL_FLOATS = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 300
_TAG = "tag:yaml.org,2002:"


class YamlError(Exception):
    """YAML that cannot be read, with the place (line and column from 1) in its text."""

    def __init__(self, message: str, line: int, column: int, hint: str = "", *, kind: str = "syntax") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint
        self.kind = kind


@dataclass(slots=True)
class Node:
    """A node and its place, from 1. ``value`` is a text, a list of nodes, or a list of pairs of nodes."""

    value: Any
    line: int
    column: int
    tag: str | None = None
    plain: bool = False
    size: int = 1


def parse_documents(text: str) -> Iterator[Node | None]:
    """Yield the root of each document of ``text``; ``None`` for an empty one.

    Raises:
        YamlError: the text is not YAML, or is nested too deeply.
    """
    try:
        yield from _documents(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _syntax_error(text, error.problem or str(error), error.context or "", line, column) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character U+{error.character:04X} is not allowed in YAML"
        raise YamlError(message, line, 0) from None


def _syntax_error(text: str, problem: str, context: str, line: int, column: int) -> YamlError:
    lines = text.rstrip("\n").split("\n")
    if line > len(lines):
        line, column = len(lines), len(lines[-1]) + 1
    if lines[line - 1][column - 1 : column] == "\t":
        return YamlError("a tab cannot indent", line, column, "indent with spaces")
    message = f"{problem} ({context})" if context else problem
    indentation = "mapping values" in problem or "block mapping" in context
    return YamlError(message, line, column, "check the indentation hereabouts" if indentation else "")


def _documents(events: Iterator[Any]) -> Iterator[Node | None]:
    stack: list[Node] = []
    anchors: dict[str, Node] = {}
    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            root, anchors = None, {}
        elif isinstance(event, yaml.DocumentEndEvent):
            empty = root is not None and root.plain and root.value == ""
            yield None if empty else root
        elif isinstance(event, yaml.CollectionEndEvent):
            node = stack.pop()
            if stack:
                stack[-1].size += node.size
            if isinstance(event, yaml.MappingEndEvent):
                node.value = list(zip(node.value[::2], node.value[1::2], strict=True))
                node.tag = "map"
            else:
                node.tag = "seq"
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, anchors)
            root = root or node
            if stack:
                stack[-1].value.append(node)
                stack[-1].size += node.size if isinstance(event, yaml.AliasEvent | yaml.ScalarEvent) else 0
                _check_size(stack[-1], node)
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append(node)
                if len(stack) > MAX_DEPTH:
                    raise YamlError(f"nested more than {MAX_DEPTH} levels deep", node.line, node.column)


def _node(event: Any, anchors: dict[str, Node]) -> Node:
    line, column = event.start_mark.line + 1, event.start_mark.column + 1
    if isinstance(event, yaml.AliasEvent):
        target = anchors.get(event.anchor or "")
        if target is None:
            raise YamlError(f"no anchor &{event.anchor} before this alias", line, column)
        if not isinstance(target.value, str) and target.tag is None:
            raise YamlError(f"alias *{event.anchor} stands within its own anchor", line, column)
        return target
    if isinstance(event, yaml.ScalarEvent):
        node = Node(event.value, line, column, event.tag, plain=not event.style and event.implicit[0])
    else:
        node = Node([], line, column)
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _check_size(parent: Node, child: Node) -> None:
    if parent.size > MAX_EXPANDED_NODES:
        message = f"aliases expand to more than {MAX_EXPANDED_NODES:,} nodes"
        raise YamlError(message, child.line, child.column, "write out what is meant", kind="aliases")


def construct(node: Node) -> Any:
    """Return the plain data of ``node``: dicts with text keys, lists, scalars.

    Raises:
        YamlError: a key is there twice, or a tag has no meaning here.
    """
    if isinstance(node.value, str):
        return _scalar(node)
    if node.tag == "map":
        return _mapping(node)
    return [construct(item) for item in node.value]


def _mapping(node: Node) -> dict[str, Any]:
    result: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node.value, str):
            raise YamlError("a key must be a text", key_node.line, key_node.column)
        if key_node.plain and key_node.value == "<<":
            merged = _merge(value_node) | merged
            continue
        key = _key(key_node)
        if key in result:
            message = f"key {key!r} is there twice"
            raise YamlError(message, key_node.line, key_node.column, "keep one of them", kind="duplicate")
        result[key] = construct(value_node)
    return merged | result


def _merge(node: Node) -> dict[str, Any]:
    sources = [node] if node.tag == "map" else node.value
    merged: dict[str, Any] = {}
    for source in sources:
        if not isinstance(source, Node) or source.tag != "map":
            raise YamlError("<< merges mappings only", node.line, node.column)
        merged = _mapping(source) | merged
    return merged


def _key(node: Node) -> str:
    """Return a key as the text that JSON would have: ``on`` is ``true``, ``80`` stays ``80``."""
    value = _scalar(node)
    if isinstance(value, bool):
        return "true" if value else "false"
    return node.value if value is not None else "null"


def _scalar(node: Node) -> Any:
    if node.plain:
        return resolve_plain(node.value)
    if node.tag in (None, "!", f"{_TAG}str", f"{_TAG}binary", f"{_TAG}timestamp"):
        return node.value
    value = resolve_plain(node.value)
    expected = {"int": int, "float": float, "bool": bool, "null": type(None)}
    wanted = expected.get(str(node.tag).removeprefix(_TAG))
    if wanted is None:
        raise YamlError(f"tag {node.tag} has no meaning in a manifest", node.line, node.column)
    if type(value) is not wanted:
        raise YamlError(f"{node.value!r} does not fit its tag", node.line, node.column)
    return value


def resolve_plain(text: str) -> Any:
    """Return what an unquoted scalar means to kubectl."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits) if digits else None
    if integer:
        return _integer(integer)
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        return text if value in (float("inf"), float("-inf")) else value
    special = _SPECIAL_FLOATS.fullmatch(text)
    if special:
        return float("nan") if special[3] else float(f"{special[1]}inf")
    return text


def _integer(match: re.Match[str]) -> int:
    sign, hexadecimal, binary, octal, decimal = match.groups()
    if hexadecimal:
        value = int(hexadecimal, 16)
    elif binary:
        value = int(binary, 2)
    elif octal:
        value = int(octal, 8)
    else:
        value = int(decimal)
    return -value if sign == "-" else value


def find_node(root: Node, path: tuple[str | int, ...]) -> Node:
    """Return the node at ``path``, or its nearest ancestor that is there.

    A key's own node is returned where its value is empty, or is a collection on lines of its own.
    """
    node = shown = root
    for step in path:
        if isinstance(step, int):
            if node.tag != "seq" or step >= len(node.value):
                return shown
            node = shown = node.value[step]
            continue
        pairs = node.value if node.tag == "map" else []
        found = next(((k, v) for k, v in pairs if isinstance(k.value, str) and k.value == step), None)
        if found is None:
            return shown
        key, node = found
        shown = node if isinstance(node.value, str) and node.value else key
    return shown
