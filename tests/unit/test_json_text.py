"""JSON of what is no text, and back."""

from __future__ import annotations

import enum
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy_nat.json_text import json_line, json_text, parse_json_text


class Colour(enum.StrEnum):
    RED = "red"


class Document(msgspec.Struct, omit_defaults=True):
    texts: list[str]
    by_colour: dict[Colour, str] = {}
    number: int = 0


TEXTS = st.text() | st.binary().map(lambda some: some.decode("utf-8", "surrogateescape"))


@given(st.lists(TEXTS), st.dictionaries(st.just(Colour.RED), TEXTS), st.integers(0, 3))
def test_what_is_written_is_read(texts: list[str], by_colour: dict[Colour, str], number: int) -> None:
    document = Document(texts, by_colour, number)
    for text in (json_text(document), json_line(document)):
        assert parse_json_text(text.encode(), Document) == document
        assert json.loads(text)["texts"] == texts
    assert json_line(document).count("\n") == 0
    assert json_text(document).endswith("}\n")


def test_defaults_are_left_out_of_either_form() -> None:
    assert json.loads(json_line(Document(["\udcfc"]))).keys() == {"texts"}
    assert json_line(Document(["a"])) == '{"texts":["a"]}'


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"texts": [1]}', b'{"texts": ["\\udcfc", 1]}', b"\xff"])
def test_what_is_no_such_document(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_json_text(text, Document)
