"""Warnings on Services whose selector finds nothing, or whose named ports no container has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from kproxy_nat.controlplane.pod_index import Backend, PodIndex, listening_containers, target_port
from kproxy_nat.errors import Code, FieldPath, Problem, Severity
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.names import readable
from kproxy_nat.model.service import Service, ServicePortSpec
from kproxy_nat.model.workloads import ContainerPort

MOST_SUGGESTIONS = 20
"""For how many Services nearest labels are looked for: that takes time, and nobody reads more."""


class SelectorWarnings:
    """Collects warnings, one Service after the other."""

    def __init__(self, index: PodIndex) -> None:
        self.problems: list[Problem] = []
        self._index = index
        self._suggested = 0

    def check(self, source: Sourced[Service], backends: Sequence[Backend]) -> None:
        """Look at a Service with a selector, and the Pods that this selects."""
        if not backends:
            self._warn_of_selector(source)
            return
        for position, port in enumerate(source.value.spec.ports):
            if isinstance(port.target_port, str) and all(target_port(port, b.pod) is None for b in backends):
                path: FieldPath = ("spec", "ports", position, "targetPort")
                message, hint = _about_port(port, port.target_port, backends)
                self._warn(source, Code.TARGET_PORT_NOT_FOUND, path, message, hint)

    def _warn_of_selector(self, source: Sourced[Service]) -> None:
        namespace, selector = source.value.metadata.namespace, source.value.spec.selector or {}
        shown = readable(",".join(f"{key}={value}" for key, value in sorted(selector.items())))
        unusable = self._index.unusable(namespace, selector)
        message = f"the selector {shown} matches no Pod"
        if unusable:
            message = (
                f"the selector {shown} matches only Pods that have ended or have no address ({unusable})"
            )
        hint = "" if unusable else self._hint_for_selector(namespace, selector)
        self._warn(source, Code.SELECTOR_WITHOUT_PODS, ("spec", "selector"), message, hint)

    def _hint_for_selector(self, namespace: str, selector: dict[str, str]) -> str:
        if self._suggested >= MOST_SUGGESTIONS:
            return ""
        self._suggested += 1
        nearest = self._index.nearest_labels(namespace, selector)
        if nearest:
            return f"Pods in namespace {namespace} have {_listed(nearest)}"
        elsewhere = self._index.namespaces_matching(selector)
        if elsewhere:
            return f"there are such Pods in namespace {_listed(elsewhere)}, but a selector stays in its own"
        if not self._index.has_pods(namespace):
            return f"there are no Pods in namespace {namespace}: add them, or what makes them"
        return "compare it with the labels of the Pods (for a Deployment: spec.template.metadata.labels)"

    def _warn(self, source: Sourced[Service], code: Code, path: FieldPath, message: str, hint: str) -> None:
        meta = source.value.metadata
        subject = f"Service {meta.namespace}/{meta.name}"
        location = source.origin.locate(path)
        self.problems.append(Problem(code, message, Severity.WARNING, location, subject, hint))


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(readable(text) for text in texts[:3])


def _about_port(port: ServicePortSpec, target: str, backends: Sequence[Backend]) -> tuple[str, str]:
    """Return message and hint about a named port that none of ``backends`` has."""
    who = "its Pod has no" if len(backends) == 1 else f"none of its {len(backends):,} Pods has a"
    message = f"{who} container port named {readable(target)} for {port.protocol}"
    if target.isdigit():
        return message, f"remove the quotes: targetPort: {target}"
    named = {candidate.name: candidate for candidate in _named_ports(backends)}
    if target in named:
        return message, f"{target} is there for {named[target].protocol}; the protocols must agree"
    close = difflib.get_close_matches(target, sorted(named), n=1)
    if close:
        return message, f"did you mean {close[0]}?"
    if named:
        return message, f"their containers have: {_listed(sorted(named))}"
    return message, "give the container's port that name, or write its number"


def _named_ports(backends: Iterable[Backend]) -> list[ContainerPort]:
    return [
        port
        for backend in backends
        for container in listening_containers(backend.pod)
        for port in container.ports
        if port.name
    ]
