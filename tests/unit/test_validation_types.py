"""A value of the wrong type, in any field of any kind, is told at that field, and all of them at once.

The fields are found by introspection of the structs, so that a new field is tested as soon as it is declared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from msgspec import inspect

from kproxy_nat.errors import Code, FieldPath, Problem
from kproxy_nat.manifests.loader import KINDS, load_texts
from kproxy_nat.manifests.sources import SourceText

BY_TYPE: dict[type, list[object]] = {
    inspect.StrType: ["TEXT"],
    inspect.IntType: [7],
    inspect.FloatType: [7.5],
    inspect.BoolType: [True],
    inspect.NoneType: [],
    inspect.StructType: [{}],
    inspect.DictType: [{}],
    inspect.ListType: [[]],
}
SAMPLES: list[object] = ["TEXT", 7, 7.5, True, [], {}]


def fields(wanted: inspect.Type, path: FieldPath = ()) -> Iterator[tuple[FieldPath, inspect.Type]]:
    """Yield the path and type of every field below a type, first items of lists included."""
    if path:
        yield path, wanted
    for candidate in alternatives(wanted):
        if isinstance(candidate, inspect.StructType):
            for field in candidate.fields:
                yield from fields(field.type, (*path, field.encode_name))
        elif isinstance(candidate, inspect.ListType):
            yield from fields(candidate.item_type, (*path, 0))
        elif isinstance(candidate, inspect.DictType):
            yield from fields(candidate.value_type, (*path, "some-key"))


def alternatives(wanted: inspect.Type) -> tuple[inspect.Type, ...]:
    return wanted.types if isinstance(wanted, inspect.UnionType) else (wanted,)


def fits(sample: object, wanted: inspect.Type) -> bool:
    kinds = {type(candidate) for candidate in alternatives(wanted)}
    return any(type(sample) is type(good) for kind in kinds for good in BY_TYPE[kind])


def nest(kind: str, path: FieldPath, value: object) -> dict[str, Any]:
    """Return an object of ``kind`` that has ``value`` at ``path``."""
    for step in reversed(path):
        value = [value] if isinstance(step, int) else {step: value}
    assert isinstance(value, dict)
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, **value}


def written(path: FieldPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def problems_of(text: str, name: str) -> list[Problem]:
    return load_texts([SourceText(name, text)]).problems


CASES = [
    pytest.param(kind, path, sample, id=f"{kind}.{'.'.join(map(str, path))}-{type(sample).__name__}")
    for kind, known in KINDS.items()
    for path, wanted in fields(inspect.type_info(known.struct))
    for sample in SAMPLES
    if not fits(sample, wanted)
]


def test_the_cases_cover_all_kinds_and_deep_fields() -> None:
    paths = {(case.values[0], case.values[1]) for case in CASES}
    assert ("Service", ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds")) in paths
    assert ("EndpointSlice", ("endpoints", 0, "hints", "forZones", 0, "name")) in paths
    assert ("KubeProxyConfiguration", ("featureGates", "some-key")) in paths
    assert len(CASES) > 300


@pytest.mark.parametrize("kind, path, sample", CASES)
def test_a_wrong_type_is_told_at_its_field(kind: str, path: FieldPath, sample: object) -> None:
    data = nest(kind, path, sample)
    for text, name in ((json.dumps(data, indent=1), "x.json"), (yaml.safe_dump(data), "x.yaml")):
        wrong = [p for p in problems_of(text, name) if p.code is Code.WRONG_TYPE]
        assert [p.message.split(" must be ")[0] for p in wrong] == [written(path)]
        assert wrong[0].location is not None
        assert wrong[0].location.line > 0
        assert wrong[0].location.column > 0
        shown = wrong[0].location.text
        assert str(path[-1]) in shown or isinstance(path[-1], int)


def test_all_wrong_types_of_an_object_are_told_at_once() -> None:
    text = """\
apiVersion: v1
kind: Service
metadata: {name: 5, labels: [a]}
spec:
  clusterIP: [10.0.0.1]
  ports:
  - port: http
    name: a
    nodePort: "30080"
  - 80
  sessionAffinity: true
"""
    problems = problems_of(text, "x.yaml")
    assert [(str(p.location), p.message, p.hint) for p in problems] == [
        ("x.yaml:3:18", "metadata.name must be a text, not a whole number", "put it in quotes"),
        ("x.yaml:3:21", "metadata.labels must be a mapping, not a list", ""),
        ("x.yaml:5:3", "spec.clusterIP must be a text, not a list", ""),
        ("x.yaml:7:11", "spec.ports[0].port must be a whole number, not a text", ""),
        ("x.yaml:9:15", "spec.ports[0].nodePort must be a whole number, not a text", "remove the quotes"),
        ("x.yaml:10:5", "spec.ports[1] must be a mapping, not a whole number", ""),
        ("x.yaml:11:20", "spec.sessionAffinity must be a text, not true or false", "put it in quotes"),
    ]
    assert {p.code for p in problems} == {Code.WRONG_TYPE}
    assert {p.subject for p in problems} == {"Service"}


@pytest.mark.parametrize(
    "kind, text, field",
    [
        ("Service", "metadata: {name: a}\nspec: {ports: [{name: x}]}", "spec.ports[0].port"),
        ("Service", "spec: {}", "metadata"),
        ("EndpointSlice", "metadata: {name: a}", "addressType"),
        (
            "EndpointSlice",
            "metadata: {name: a}\naddressType: IPv4\nendpoints: [{}]",
            "endpoints[0].addresses",
        ),
        ("Endpoints", "metadata: {name: a}\nsubsets: [{addresses: [{}]}]", "subsets[0].addresses[0].ip"),
        ("Endpoints", "metadata: {name: a}\nsubsets: [{ports: [{}]}]", "subsets[0].ports[0].port"),
        (
            "Node",
            "metadata: {name: a}\nstatus: {addresses: [{type: InternalIP}]}",
            "status.addresses[0].address",
        ),
    ],
)
def test_a_missing_field_is_told(kind: str, text: str, field: str) -> None:
    whole = f"apiVersion: {KINDS[kind].api_version}\nkind: {kind}\n{text}\n"
    assert (Code.MISSING_FIELD, f"{field} is missing") in [
        (p.code, p.message) for p in problems_of(whole, "x.yaml")
    ]


WITH_PORT = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1, ports: [{port: %s}]}\n"
)


@pytest.mark.parametrize(
    "number",
    [
        "80.0",
        "8e1",
        "080",
        "0x50",
    ],
)
def test_a_whole_number_may_be_written_in_any_way(number: str) -> None:
    assert problems_of(WITH_PORT % number, "x.yaml") == []


@pytest.mark.parametrize("number", ["80.5", ".inf", ".nan", "1e400"])
def test_other_numbers_are_wrong(number: str) -> None:
    (problem,) = problems_of(WITH_PORT % number, "x.yaml")
    assert (problem.code, str(problem.location)) == (Code.WRONG_TYPE, "x.yaml:4:44")


@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
def test_a_number_of_many_digits_is_wrong_too(name: str) -> None:
    data = '{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"healthCheckNodePort":%s}}'
    assert problems_of(data % ("9" * 5000), name)
