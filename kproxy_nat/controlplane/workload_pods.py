"""Which Pods a workload makes: their names and labels, and which are in the input already.

A cluster draws the last letters of a Pod's name at random. Here they are a hash of the workload and the Pod's
index in it (for a DaemonSet: the Node's name), so that scaling a workload renames none of its Pods.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kproxy_nat.controlplane.pools import stable_hash
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.workloads import OwnerReference, Pod, Workload

TEMPLATE_HASH_LABEL = "pod-template-hash"
STATEFULSET_POD_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names: none that could form words or be misread."""

_SUFFIX_LENGTH = 5
_LONGEST_BASE = 63 - _SUFFIX_LENGTH

WorkloadKey = tuple[str, str, str]
"""Kind, namespace and name."""


class PodDraft(NamedTuple):
    """A Pod to be made: its name, and the Node that it must be on, if it must."""

    name: str
    node_name: str = ""
    ordinal: int = 0


def generated_name(base: str, key: str, taken: Iterable[str] = ()) -> str:
    """Return ``base-xxxxx``, with letters that depend on ``key`` alone, unless that name is taken."""
    prefix = f"{base}-"[:_LONGEST_BASE]
    attempt = 0
    while (name := prefix + _suffix(f"{key}/{attempt}" if attempt else key)) in taken:
        attempt += 1
    return name


def _suffix(key: str) -> str:
    number = stable_hash(key) & 0xFFFFFFFFFFFF
    letters = ""
    for _ in range(_SUFFIX_LENGTH):
        number, digit = divmod(number, len(_SUFFIX_LETTERS))
        letters += _SUFFIX_LETTERS[digit]
    return letters


def workload_key(workload: Workload) -> WorkloadKey:
    """Return what identifies ``workload``."""
    return workload.kind, workload.metadata.namespace, workload.metadata.name


class Maker(NamedTuple):
    """A workload, and its Pods that are there already."""

    source: Sourced[Workload]
    pods: Sequence[Pod] = ()

    @property
    def workload(self) -> Workload:
        """The workload itself."""
        return self.source.value

    @property
    def missing(self) -> int:
        """How many replicas are left to be made; a DaemonSet has none, its Pods are counted on Nodes."""
        return max(self.workload.spec.replicas - len(self.pods), 0)


def makers(workloads: Sequence[Sourced[Workload]], pods: Iterable[Sourced[Pod]]) -> list[Maker]:
    """Return the workloads that make Pods, by namespace, kind and name, each with those that it has.

    A ReplicaSet leaves it to its Deployment. Pods that have ended or are being deleted are to be replaced.
    """
    by_key = {workload_key(source.value): source.value for source in workloads}
    owned: dict[WorkloadKey, list[Pod]] = {}
    for pod in pods:
        if not pod.value.has_ended and pod.value.metadata.deletion_timestamp is None:
            for key in dict.fromkeys(_owners(pod.value, by_key)):
                owned.setdefault(key, []).append(pod.value)
    found = [
        Maker(source, owned.get(workload_key(source.value), ()))
        for source in workloads
        if not _is_managed(source.value, by_key)
    ]
    return sorted(found, key=_order)


def _order(maker: Maker) -> tuple[str, str, str]:
    kind, namespace, name = workload_key(maker.workload)
    return namespace, kind, name


def _owners(pod: Pod, workloads: dict[WorkloadKey, Workload]) -> Iterator[WorkloadKey]:
    """Yield the workloads that a Pod comes from: its owner, and the Deployment that owns that."""
    namespace = pod.metadata.namespace
    for reference in pod.metadata.owner_references:
        key = (reference.kind, namespace, reference.name)
        yield key
        if reference.kind != "ReplicaSet":
            continue
        if key in workloads:
            yield from _references(workloads[key])
        template_hash = pod.metadata.labels.get(TEMPLATE_HASH_LABEL)
        if template_hash and reference.name.endswith(f"-{template_hash}"):
            yield "Deployment", namespace, reference.name.removesuffix(f"-{template_hash}")


def _references(workload: Workload) -> Iterator[WorkloadKey]:
    for reference in workload.metadata.owner_references:
        yield reference.kind, workload.metadata.namespace, reference.name


def _is_managed(workload: Workload, workloads: dict[WorkloadKey, Workload]) -> bool:
    return any(key in workloads for key in _references(workload))


def drafts(maker: Maker, node_names: Sequence[str], taken: set[str]) -> Iterator[PodDraft]:
    """Yield the Pods that are missing; ``taken`` holds the names that the namespace's Pods have.

    A Pod of the name that a StatefulSet would use is taken for one of its own. Others that are there keep
    those places from being filled that their names stand for: Pods taken away are made again as they were.
    """
    workload, present = maker.workload, {pod.metadata.name for pod in maker.pods}
    name, key = workload.metadata.name, "/".join(workload_key(workload))
    wanted_node = workload.spec.template.spec.node_name
    if workload.kind == "DaemonSet":
        served = {pod.spec.node_name for pod in maker.pods}
        for node in node_names:
            if node not in served:
                yield PodDraft(generated_name(name, f"{key}/{node}", taken), node)
    elif workload.kind == "StatefulSet":
        start = workload.spec.ordinals.start
        for index in range(start, start + workload.spec.replicas):
            if f"{name}-{index}" not in taken:
                yield PodDraft(f"{name}-{index}", wanted_node, index)
    else:
        places = range(workload.spec.replicas)
        free: Iterable[int] = places
        if present:
            free = (index for index in places if generated_name(name, f"{key}/{index}") not in present)
        for index in itertools.islice(free, maker.missing):
            yield PodDraft(generated_name(name, f"{key}/{index}", taken), wanted_node, index)


def labels_of(workload: Workload, draft: PodDraft) -> dict[str, str]:
    """Return the labels of a Pod that ``workload`` makes."""
    labels = workload.spec.template.metadata.labels
    if workload.kind != "StatefulSet":
        return labels
    return {**labels, STATEFULSET_POD_LABEL: draft.name, POD_INDEX_LABEL: str(draft.ordinal)}


def owner_reference(workload: Workload) -> OwnerReference:
    """Return what a Pod says of the workload that made it."""
    return OwnerReference(workload.kind, workload.metadata.name, "apps/v1", controller=True)
