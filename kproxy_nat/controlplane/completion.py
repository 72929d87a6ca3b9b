"""From what somebody typed to what a cluster would hold: addresses, Pods and EndpointSlices.

What the manifests leave open is filled in, and nothing else. How strictly the rest is looked at depends on
that, too: a Service that leaves something open is one that somebody typed, and what the API server would
refuse in it is an error. One that leaves nothing open may come from a cluster whose ranges are unknown here:
its rules are what they would be without a control plane, and what seems odd about it is at most a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kproxy_nat.controlplane.admission import admission_findings
from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services, is_stored, leaves_open
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.pods import make_pods
from kproxy_nat.controlplane.slices import derive_slices, services_without_slices
from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.service import Service

SERVICE_CIDR = "--service-cidr"
NODE_PORT_RANGE = "--node-port-range"
ASSUME_NODES = "--assume-nodes"
_RANGES = {
    Code.ADDRESS_OUT_OF_RANGE: SERVICE_CIDR,
    Code.NODE_PORT_OUT_OF_RANGE: NODE_PORT_RANGE,
}

_TAKEN = (Code.ADDRESS_TAKEN, Code.NODE_PORT_TAKEN)


@dataclass(frozen=True, slots=True)
class ControlPlaneOptions:
    """The ranges of the cluster, and how many Nodes to assume where the input has none.

    ``stated`` names the options that somebody gave: what lies outside of such a range is an error for
    certain, and such a number of Nodes is not exceeded.
    """

    allocation: AllocationOptions = field(default_factory=AllocationOptions)
    assume_nodes: int = 2
    stated: frozenset[str] = frozenset()


def needs_pods(cluster: Cluster) -> bool:
    """Tell whether endpoints are left open: a Service has a selector, and no EndpointSlice."""
    return bool(services_without_slices(cluster.services, cluster.slices))


def complete_cluster(cluster: Cluster, options: ControlPlaneOptions) -> Derivation:
    """Fill in what the manifests leave open; what they say stands. Services with errors are taken out.

    Pods are made, and Nodes assumed, only where a Service with a selector has no EndpointSlice. An input
    without any Pod, and without anything that makes Pods, was not meant to have them: there, only Services
    that were given an address or port are told that their selectors match nothing.
    """
    has_pods = bool(cluster.pods or cluster.workloads)
    typed = _typed(cluster, options, endpoints=has_pods)
    given = cluster.services
    cluster.services, allocated = complete_services(given, options.allocation)
    allocated.problems = _graded(allocated.problems, given, typed, options.stated)
    allocated.problems.extend(_not_admitted(given, typed))
    refused = {problem.subject for problem in allocated.problems if problem.severity is Severity.ERROR}
    cluster.services = [source for source in cluster.services if subject_of(source.value) not in refused]
    waiting = [
        source
        for source in services_without_slices(cluster.services, cluster.slices)
        if has_pods or subject_of(source.value) in typed
    ]
    if not waiting:
        return allocated
    cluster.pods, cluster.nodes, placed = make_pods(
        cluster, options.assume_nodes, more_nodes=ASSUME_NODES not in options.stated
    )
    slices, derived = derive_slices(waiting, cluster.pods, cluster.nodes, cluster.slices)
    cluster.slices = [*cluster.slices, *slices]
    parts = (allocated, placed, derived)
    return Derivation(
        [assumption for part in parts for assumption in part.assumptions],
        [problem for part in parts for problem in part.problems],
    )


def subject_of(service: Service) -> str:
    """Return a Service's name in problems and assumptions."""
    return f"Service {service.metadata.namespace}/{service.metadata.name}"


def _typed(cluster: Cluster, options: ControlPlaneOptions, *, endpoints: bool) -> set[str]:
    """Return the Services that leave something open: an address, a port or, with ``endpoints``, those."""
    waiting: Collection[Sourced[Service]] = ()
    if endpoints:
        waiting = services_without_slices(cluster.services, cluster.slices)
    opened = (source for source in cluster.services if leaves_open(source, options.allocation))
    return {subject_of(source.value) for source in (*waiting, *opened)}


def _not_admitted(services: Sequence[Sourced[Service]], typed: Collection[str]) -> Iterator[Problem]:
    """Yield what an API server would refuse in Services that somebody typed."""
    for source in services:
        subject = subject_of(source.value)
        if subject in typed and not is_stored(source.value):
            for finding in admission_findings(source.value):
                yield finding.at(source.origin, subject)


def _graded(
    problems: Sequence[Problem], services: Sequence[Sourced[Service]], typed: set[str], stated: frozenset[str]
) -> list[Problem]:
    """Judge problems mildly in Services that leave nothing open, unless they lie outside of a stated range.

    Ranges that are only assumed do not concern them. That two of them have one address or node port is a
    warning, which is left to those who see the rules where these are in conflict.
    """
    certain = {id(p) for p in problems if p.subject in typed or _RANGES.get(p.code) in stated}
    if len(certain) == len(problems):
        return list(problems)
    in_conflict = _in_conflict(services)
    graded = []
    for problem in problems:
        if id(problem) in certain or not problem.subject:
            graded.append(problem)
        elif problem.code not in _RANGES and not (problem.code in _TAKEN and problem.subject in in_conflict):
            graded.append(replace(problem, severity=Severity.WARNING))
    return graded


def _in_conflict(services: Sequence[Sourced[Service]]) -> set[str]:
    """Return the Services of which another one has address, port and protocol, or node port and protocol."""
    claims: dict[tuple[str, int, str], list[str]] = {}
    for source in services:
        spec = source.value.spec
        for port in spec.ports:
            claims.setdefault((spec.cluster_ip, port.port, port.protocol), []).append(
                subject_of(source.value)
            )
            if port.node_port:
                claims.setdefault(("", port.node_port, port.protocol), []).append(subject_of(source.value))
    return {subject for subjects in claims.values() if len(subjects) > 1 for subject in subjects}
