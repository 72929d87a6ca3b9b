"""From texts to the objects of a cluster: decoded, validated, with their origins; all problems collected."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kproxy_nat.errors import Code, FieldPath, LazyLocation, Location, Origin, Problem, Severity
from kproxy_nat.manifests.documents import Document, Header, split_text
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.manifests.typecheck import shown_path, type_errors
from kproxy_nat.model.base import ObjectMeta, Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.config import KNOWN_FIELDS, KNOWN_NESTED_FIELDS, KubeProxyConfiguration
from kproxy_nat.model.endpoints import Endpoints, EndpointSlice
from kproxy_nat.model.endpoints_validation import validate_endpoints, validate_slice
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.names import readable
from kproxy_nat.model.node import Node
from kproxy_nat.model.node_validation import validate_config, validate_node
from kproxy_nat.model.service import Service
from kproxy_nat.model.service_validation import validate_service
from kproxy_nat.model.workload_validation import validate_pod, validate_workload
from kproxy_nat.model.workloads import DaemonSet, Deployment, Pod, ReplicaSet, StatefulSet


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of object is read, and where the cluster keeps it."""

    api_version: str
    struct: type[msgspec.Struct]
    validate: Callable[[Any], Iterable[Finding]]
    keep: Callable[[Cluster], list[Sourced[Any]]]
    namespaced: bool = True


KINDS: dict[str, Kind] = {
    "Service": Kind("v1", Service, validate_service, lambda c: c.services),
    "EndpointSlice": Kind("discovery.k8s.io/v1", EndpointSlice, validate_slice, lambda c: c.slices),
    "Endpoints": Kind("v1", Endpoints, validate_endpoints, lambda c: c.endpoints),
    "Node": Kind("v1", Node, validate_node, lambda c: c.nodes, namespaced=False),
    "KubeProxyConfiguration": Kind(
        "kubeproxy.config.k8s.io/v1alpha1",
        KubeProxyConfiguration,
        validate_config,
        lambda c: c.configs,
        namespaced=False,
    ),
}

WORKLOAD_KINDS: dict[str, Kind] = {
    "Pod": Kind("v1", Pod, validate_pod, lambda c: c.pods),
    "Deployment": Kind("apps/v1", Deployment, validate_workload, lambda c: c.workloads),
    "ReplicaSet": Kind("apps/v1", ReplicaSet, validate_workload, lambda c: c.workloads),
    "StatefulSet": Kind("apps/v1", StatefulSet, validate_workload, lambda c: c.workloads),
    "DaemonSet": Kind("apps/v1", DaemonSet, validate_workload, lambda c: c.workloads),
}
"""What endpoints are derived from, where the input leaves those open."""

_WORKLOAD_LISTS = frozenset(f"{name}List" for name in WORKLOAD_KINDS)


@dataclass(slots=True)
class Loaded:
    """What the texts hold. Objects with errors are in ``problems`` only."""

    cluster: Cluster = field(default_factory=Cluster)
    problems: list[Problem] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


class _Loader:
    def __init__(self, *, strict: bool) -> None:
        self.result = Loaded()
        self.kinds = KINDS
        self.strict = strict
        self.first_of: dict[tuple[str, str, str], Origin] = {}
        self.put_off: list[tuple[Document, Header]] = []

    def add(self, document: Document) -> None:
        """Decode one object and keep it, or its problems."""
        try:
            header: Header | None = document.payload.decode(Header)
        except msgspec.ValidationError:
            header = self._broken_header(document)
        if header is None:
            return
        name = header.kind or document.listed_kind
        if name in WORKLOAD_KINDS or name in _WORKLOAD_LISTS:
            self.put_off.append((document, header))
        else:
            self._place(document, header)

    def add_workloads(self, *, needed: bool) -> None:
        """Go on with Pods and what makes them: read them if they are needed, else pass them over."""
        if needed:
            self.kinds = KINDS | WORKLOAD_KINDS
        for document, header in self.put_off:
            self._place(document, header)

    def _place(self, document: Document, header: Header) -> None:
        name = header.kind or document.listed_kind
        kind = self.kinds.get(name)
        if not name or (not header.api_version and not document.listed_kind):
            self._refuse_headless(document, name)
        elif name == "List" or (name.endswith("List") and name.removesuffix("List") in self.kinds):
            self._refuse_list(document, name)
        elif kind is None or (header.api_version and header.api_version != kind.api_version):
            self._pass_over(document, name, header.api_version)
        else:
            self._decode(document, name, kind)

    def _refuse_headless(self, document: Document, name: str) -> None:
        missing = "apiVersion" if name else "kind"
        message = f"this is no Kubernetes object: it has no {missing}"
        hint = "each document begins with apiVersion and kind"
        location = LazyLocation(document.origin, ())
        self.result.problems.append(Problem(Code.NOT_A_MANIFEST, message, location=location, hint=hint))

    def _broken_header(self, document: Document) -> Header | None:
        """Report what is wrong with kind and apiVersion; return them where null only made them absent."""
        data = without_nulls(document.payload.plain())
        if not isinstance(data, dict):
            return Header()
        errors = type_errors(data, Header)
        problems = [finding.at(document.origin, "") for finding in errors.findings]
        self.result.problems.extend(problems)
        return None if problems else msgspec.convert(errors.mended, type=Header)

    def _refuse_list(self, document: Document, name: str) -> None:
        if document.payload.plain().get("items") is None:
            return
        message = "items must be a list of objects, and no list within a list"
        location = LazyLocation(document.origin, ("items",))
        self.result.problems.append(Problem(Code.WRONG_TYPE, message, location=location, subject=name))

    def _pass_over(self, document: Document, name: str, api_version: str) -> None:
        known = self.kinds.get(name)
        name = readable(name)
        self.result.passed_over[name] += 1
        if (
            known
            and "/" in api_version
            and api_version.partition("/")[0] == known.api_version.partition("/")[0]
        ):
            message = f"{name} of {readable(api_version)} is not read"
            hint = f"convert it to {known.api_version}"
            location = LazyLocation(document.origin, ("apiVersion",))
            problem = Problem(Code.UNKNOWN_KIND, message, Severity.WARNING, location, hint=hint)
            self.result.problems.append(problem)
        if self.strict:
            version = readable(api_version) if api_version else "no apiVersion"
            message = f"kind {name} of {version} has no part in Service rules"
            location = LazyLocation(document.origin, ("kind",))
            hint = "remove it, or leave --strict away"
            self.result.problems.append(Problem(Code.UNKNOWN_KIND, message, location=location, hint=hint))

    def _decode(self, document: Document, name: str, kind: Kind) -> None:
        value, findings = _decode_and_validate(document, kind)
        if value is not None and name == "KubeProxyConfiguration":
            findings.extend(_unknown_fields(document.payload.plain()))
        if findings:
            subject = _subject(name, kind, document)
            problems = [finding.at(document.origin, subject) for finding in findings]
            self.result.problems.extend(sorted(problems, key=_place) if len(problems) > 1 else problems)
            if any(finding.severity is Severity.ERROR for finding in findings):
                return
        if self._is_first(name, kind, value, document.origin):
            kind.keep(self.result.cluster).append(Sourced(value, document.origin))

    def _is_first(self, name: str, kind: Kind, value: msgspec.Struct, origin: Origin) -> bool:
        """Note the object's identity; refuse a second object of the same."""
        meta = getattr(value, "metadata", None)
        if meta is None:
            return True
        key = (name, meta.namespace if kind.namespaced else "", meta.name)
        first = self.first_of.setdefault(key, origin)
        if first is origin:
            return True
        message = f"it is there twice; first at {first.source}:{first.line}"
        subject = f"{name} {_identity(kind, meta)}"
        location = LazyLocation(origin, ("metadata", "name"))
        hint = "keep one of them"
        self.result.problems.append(
            Problem(Code.DUPLICATE_OBJECT, message, Severity.ERROR, location, subject, hint)
        )
        return False


def no_workloads(cluster: Cluster) -> bool:
    """Tell that Pods and what makes them are not needed, whatever else the input holds."""
    return False


def load_texts(
    texts: Iterable[SourceText],
    *,
    strict: bool = False,
    needs_workloads: Callable[[Cluster], bool] = no_workloads,
) -> Loaded:
    """Read all objects in ``texts``.

    With ``strict``, kinds that are passed over are errors. ``needs_workloads`` is asked when all else is
    read: if it says so, Pods and what makes them are read, too. Otherwise they are passed over, mistakes in
    them included.
    """
    loader = _Loader(strict=strict)
    problems = loader.result.problems
    for text in texts:
        empty = True
        for document in split_text(text):
            empty = False
            if isinstance(document, Problem):
                problems.append(document)
            else:
                loader.add(document)
        if empty and text.named:
            message = "the input holds no objects"
            problems.append(Problem(Code.SOURCE_EMPTY, message, location=Location(text.name)))
    loader.add_workloads(needed=needs_workloads(loader.result.cluster))
    return loader.result


def _decode_and_validate(document: Document, kind: Kind) -> tuple[Any, list[Finding]]:
    """Return the object with all that is wrong with it, type errors and others.

    What has type errors is mended first, so that the rest is looked at, too.
    """
    try:
        value = document.payload.decode(kind.struct)
    except msgspec.ValidationError as error:
        first = str(error)
    else:
        return value, list(kind.validate(value))
    errors = type_errors(without_nulls(document.payload.plain()), kind.struct)
    try:
        value = msgspec.convert(errors.mended, type=kind.struct)
    except msgspec.ValidationError:
        return None, errors.findings or [Finding(Code.WRONG_TYPE, (), first)]
    others = [finding for finding in kind.validate(value) if not errors.concerns(finding)]
    return value, [*errors.findings, *others]


def _place(problem: Problem) -> tuple[int, int]:
    return (problem.location.line, problem.location.column) if problem.location else (0, 0)


def without_nulls(data: Any) -> Any:
    """Return ``data`` without the entries that are null: to the API server they are absent."""
    if isinstance(data, dict):
        return {str(key): without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_nulls(item) for item in data]
    return data


def _unknown_fields(data: dict[str, Any]) -> Iterator[Finding]:
    """Warn of misspelt fields, at the top and in the parts that rules depend on."""
    places: list[tuple[FieldPath, Any, frozenset[str]]] = [((), data, KNOWN_FIELDS)]
    places += [((part,), data.get(part), known) for part, known in KNOWN_NESTED_FIELDS.items()]
    for path, fields, known in places:
        for name in sorted(fields.keys() - known) if isinstance(fields, dict) else ():
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "it changes nothing"
            message = f"kube-proxy has no field {shown_path((*path, name))}"
            yield Finding(Code.UNKNOWN_FIELD, (*path, name), message, hint, Severity.WARNING)


def _subject(name: str, kind: Kind, document: Document) -> str:
    """Name an object that may be broken, as well as it allows."""
    data = document.payload.plain()
    meta = data.get("metadata") if isinstance(data, dict) else None
    texts = {k: v for k, v in meta.items() if isinstance(v, str)} if isinstance(meta, dict) else {}
    if not texts.get("name"):
        return name
    return f"{name} {_identity(kind, ObjectMeta(texts['name'], texts.get('namespace', 'default')))}"


def _identity(kind: Kind, meta: ObjectMeta) -> str:
    """Return namespace and name for a message; odd ones quoted and cut."""
    parts = [meta.namespace, meta.name] if kind.namespaced else [meta.name]
    return "/".join(readable(part) for part in parts)
