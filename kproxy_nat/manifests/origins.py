"""Where an object stands in its source, and how to find one of its fields there when somebody asks."""

from __future__ import annotations

import functools

import msgspec

from kproxy_nat.errors import FieldPath, Location
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.manifests.yaml_nodes import Node, YamlError, find_node, parse_documents


class TextOrigin(msgspec.Struct, frozen=True, gc=False):
    """An object's stretch of text, from ``start`` to ``end``, and the line (from 1) of its first key.

    ``prefix`` leads from the root of that stretch, read by itself, to the object.
    """

    text: SourceText
    line: int
    start: int
    end: int
    prefix: FieldPath = ()

    @property
    def source(self) -> str:
        """The name of the source."""
        return self.text.name

    def locate(self, path: FieldPath) -> Location:
        """Return the place of the field at ``path``, or of its nearest ancestor that is there."""
        whole = self.text.text
        root = _parse_stretch(self.text, self.start, self.end)
        if root is None:
            return Location(self.source, self.line)
        node = find_node(root, (*self.prefix, *path))
        line, column = position_at(whole, self.start)
        column = node.column + column - 1 if node.line == 1 else node.column
        shown = line_at(whole, self.start, node.line - 1)
        return Location(self.source, line + node.line - 1, column, shown)


@functools.lru_cache(maxsize=16)
def _parse_stretch(text: SourceText, start: int, end: int) -> Node | None:
    """Parse one object's text; remembered, since an object with one mistake often has more."""
    try:
        return next(parse_documents(text.text[start:end]), None)
    except YamlError:
        return None


def position_at(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of the character at ``offset``."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def line_at(text: str, start: int, offset: int) -> str:
    """Return the line that is ``offset`` lines after the one that holds position ``start``."""
    begin = text.rfind("\n", 0, start) + 1
    for _ in range(offset):
        begin = text.find("\n", begin) + 1
    end = text.find("\n", begin)
    return text[begin : end if end >= 0 else None].rstrip("\r")
