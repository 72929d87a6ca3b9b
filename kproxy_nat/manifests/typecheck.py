"""All type errors of an object at once.

msgspec decodes fast and stops at the first mistake. When it has stopped, this module goes through the plain
data once more, beside the declared types, and finds every mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import inspect

from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.finding import Finding

_KINDS: list[tuple[type, str]] = [
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a fraction"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a mapping"),
]


@dataclass(slots=True)
class TypeErrors:
    """The type errors of an object, and its data with a neutral value in each of those places.

    The mended data decodes, so that the rest of the object can be validated, too.
    """

    findings: list[Finding] = field(default_factory=list)
    mended_paths: set[FieldPath] = field(default_factory=set)
    mended: Any = None

    def add(self, finding: Finding, path: FieldPath) -> None:
        """Note an error whose value, at ``path``, is mended."""
        self.findings.append(finding)
        self.mended_paths.add(path)

    def concerns(self, finding: Finding) -> bool:
        """Tell whether ``finding`` is about a value that was mended."""
        path = finding.path
        return any(path[:length] in self.mended_paths for length in range(len(path) + 1))


def type_errors(data: Any, struct: type[msgspec.Struct]) -> TypeErrors:
    """Find each value in ``data`` that does not fit the fields of ``struct``."""
    errors = TypeErrors()
    errors.mended = _mend(data, inspect.type_info(struct), (), errors)
    return errors


def _mend(data: Any, wanted: inspect.Type, path: FieldPath, errors: TypeErrors) -> Any:
    """Return ``data`` with neutral values where it does not fit; note each such place."""
    if isinstance(wanted, inspect.UnionType):
        fitting = [candidate for candidate in wanted.types if _fits(data, candidate)]
        if not fitting:
            errors.add(_mismatch(data, _describe_union(wanted), path), path)
            return _neutral(wanted.types[0])
        wanted = fitting[0]
    if not _fits(data, wanted):
        errors.add(_mismatch(data, describe_type(wanted), path), path)
        return _neutral(wanted)
    if isinstance(wanted, inspect.StructType):
        return _mend_struct(data, wanted, path, errors)
    if isinstance(wanted, inspect.ListType):
        return [_mend(item, wanted.item_type, (*path, n), errors) for n, item in enumerate(data)]
    if isinstance(wanted, inspect.DictType):
        return {key: _mend(value, wanted.value_type, (*path, key), errors) for key, value in data.items()}
    if isinstance(wanted, inspect.IntType) and isinstance(data, float):
        return int(data)
    return data


def _mend_struct(
    data: dict[str, Any], wanted: inspect.StructType, path: FieldPath, errors: TypeErrors
) -> dict[str, Any]:
    mended: dict[str, Any] = {}
    for declared in wanted.fields:
        name = declared.encode_name
        if name in data:
            mended[name] = _mend(data[name], declared.type, (*path, name), errors)
        elif declared.required:
            missing = (*path, name)
            errors.add(Finding(Code.MISSING_FIELD, path, f"{shown_path(missing)} is missing"), missing)
            mended[name] = _neutral(declared.type)
    return mended


def _neutral(wanted: inspect.Type) -> Any:
    """Return a value of the type; required fields of a struct with neutral values."""
    if isinstance(wanted, inspect.StructType):
        return {f.encode_name: _neutral(f.type) for f in wanted.fields if f.required}
    neutral: dict[type, Any] = {inspect.IntType: 0, inspect.BoolType: False, inspect.StrType: ""}
    if isinstance(wanted, inspect.ListType):
        return []
    return {} if isinstance(wanted, inspect.DictType) else neutral.get(type(wanted))


def _describe_union(wanted: inspect.UnionType) -> str:
    choices = [describe_type(candidate) for candidate in wanted.types]
    return " or ".join(choice for choice in choices if choice != "nothing")


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
    if isinstance(wanted, inspect.FloatType):
        return isinstance(data, float)
    if isinstance(wanted, inspect.NoneType):
        return data is None
    return True


def shown_path(path: FieldPath) -> str:
    """Return a path as a person writes it: ``spec.ports[0].port``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def describe_type(wanted: inspect.Type) -> str:
    """Return a type in words."""
    words = {
        inspect.StructType: "a mapping",
        inspect.DictType: "a mapping",
        inspect.ListType: "a list",
        inspect.StrType: "a text",
        inspect.BoolType: "true or false",
        inspect.IntType: "a whole number",
        inspect.FloatType: "a fraction",
        inspect.NoneType: "nothing",
    }
    return words.get(type(wanted), "another type")


def _mismatch(data: Any, wanted: str, path: FieldPath) -> Finding:
    name = shown_path(path) or "the object"
    got = next((words for kind, words in _KINDS if isinstance(data, kind)), "nothing")
    hint = "put it in quotes" if wanted == "a text" and isinstance(data, bool | int | float) else ""
    if wanted == "a whole number" and isinstance(data, str) and data.isdigit():
        hint = "remove the quotes"
    return Finding(Code.WRONG_TYPE, path, f"{name} must be {wanted}, not {got}", hint)
