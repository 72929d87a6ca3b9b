"""All type errors of an object at once.

msgspec decodes fast and stops at the first mistake. When it has stopped, this module goes through the plain
data once more, beside the declared types, and finds every mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.finding import Finding

_KINDS: list[tuple[type, str]] = [
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a mapping"),
]


def type_errors(data: Any, struct: type[msgspec.Struct]) -> Iterator[Finding]:
    """Yield a finding for each value in ``data`` that does not fit the fields of ``struct``."""
    yield from _check(data, inspect.type_info(struct), ())


def _check(data: Any, wanted: inspect.Type, path: FieldPath) -> Iterator[Finding]:
    if isinstance(wanted, inspect.UnionType):
        yield from _check_union(data, wanted, path)
    elif not _fits(data, wanted):
        yield _mismatch(data, describe_type(wanted), path)
    elif isinstance(wanted, inspect.StructType):
        yield from _check_struct(data, wanted, path)
    elif isinstance(wanted, inspect.ListType):
        for position, item in enumerate(data):
            yield from _check(item, wanted.item_type, (*path, position))
    elif isinstance(wanted, inspect.DictType):
        for key, value in data.items():
            yield from _check(value, wanted.value_type, (*path, key))


def _check_struct(data: dict[str, Any], wanted: inspect.StructType, path: FieldPath) -> Iterator[Finding]:
    for field in wanted.fields:
        if field.encode_name in data:
            yield from _check(data[field.encode_name], field.type, (*path, field.encode_name))
        elif field.required:
            name = ".".join(str(step) for step in (*path, field.encode_name))
            yield Finding(Code.MISSING_FIELD, path, f"{name} is missing")


def _check_union(data: Any, wanted: inspect.UnionType, path: FieldPath) -> Iterator[Finding]:
    fitting = [candidate for candidate in wanted.types if _fits(data, candidate)]
    if fitting:
        yield from _check(data, fitting[0], path)
        return
    choices = [describe_type(candidate) for candidate in wanted.types]
    yield _mismatch(data, " or ".join(c for c in choices if c != "nothing"), path)


def _fits(data: Any, wanted: inspect.Type) -> bool:
    if isinstance(wanted, inspect.StructType | inspect.DictType):
        return isinstance(data, dict)
    if isinstance(wanted, inspect.ListType):
        return isinstance(data, list)
    if isinstance(wanted, inspect.StrType):
        return isinstance(data, str)
    if isinstance(wanted, inspect.BoolType):
        return isinstance(data, bool)
    if isinstance(wanted, inspect.IntType):
        whole = isinstance(data, int) or (isinstance(data, float) and data.is_integer())
        return whole and not isinstance(data, bool)
    if isinstance(wanted, inspect.NoneType):
        return data is None
    return True


def describe_type(wanted: inspect.Type) -> str:
    """Return a type in words."""
    words = {
        inspect.StructType: "a mapping",
        inspect.DictType: "a mapping",
        inspect.ListType: "a list",
        inspect.StrType: "a text",
        inspect.BoolType: "true or false",
        inspect.IntType: "a whole number",
        inspect.NoneType: "nothing",
    }
    return words.get(type(wanted), "another type")


def _mismatch(data: Any, wanted: str, path: FieldPath) -> Finding:
    name = ".".join(str(step) for step in path) or "the object"
    got = next((words for kind, words in _KINDS if isinstance(data, kind)), "nothing")
    hint = "put it in quotes" if wanted == "a text" and isinstance(data, bool | int | float) else ""
    if wanted == "a whole number" and isinstance(data, str) and data.isdigit():
        hint = "remove the quotes"
    return Finding(Code.WRONG_TYPE, path, f"{name} must be {wanted}, not {got}", hint)
