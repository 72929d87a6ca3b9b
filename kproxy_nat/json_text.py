"""JSON as text, also of what is no text: names of files and comments of rules may be any bytes.

Bytes that are not UTF-8 are lone surrogates in Python (PEP 383). They are written as their escapes, which
JSON allows (RFC 8259, section 8.2), and read back as the same.
"""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

T = TypeVar("T")


def json_text(document: object, *, indent: int = 1) -> str:
    """Return a document as indented JSON, with a line feed at the end."""
    try:
        return msgspec.json.format(msgspec.json.encode(document), indent=indent).decode() + "\n"
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(document), indent=indent) + "\n"


def json_line(document: object) -> str:
    """Return a document as JSON in one line."""
    try:
        return msgspec.json.encode(document).decode()
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(document), separators=(",", ":"))


def parse_json_text(text: bytes | str, kind: type[T]) -> T:
    """Return the document of that kind that a text holds.

    Raises:
        msgspec.DecodeError: it holds none.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        try:
            document = json.loads(text)
        except ValueError:
            raise error from None
        return msgspec.convert(document, kind)
