"""From SOURCE arguments to a cluster: reading, reporting problems, and what the control plane adds."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from kproxy_nat.cli.report import Reporter
from kproxy_nat.controlplane.assumptions import Assumption
from kproxy_nat.controlplane.completion import ControlPlaneOptions, complete_cluster, needs_pods
from kproxy_nat.controlplane.mirroring import mirror_endpoints
from kproxy_nat.errors import Code, InvalidInputError, LazyLocation, Location, Problem, Severity
from kproxy_nat.manifests.loader import WORKLOAD_KINDS, Loaded, load_texts, no_workloads
from kproxy_nat.manifests.sources import Reading, SourceText, read_sources
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.service import Service
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.ports import why_excluded

_SOURCE_CODES = frozenset(
    (
        Code.SOURCE_NOT_FOUND,
        Code.SOURCE_UNREADABLE,
        Code.SOURCE_TOO_LARGE,
        Code.SOURCE_EMPTY,
        Code.SOURCE_NOT_TEXT,
        Code.DIRECTORY_WITHOUT_MANIFESTS,
    )
)
_CONFIGURATION = "KubeProxyConfiguration"
_DECISIVE_KINDS = ("Node", _CONFIGURATION)


@dataclass(frozen=True, slots=True)
class LoadedCluster:
    """A cluster, what the control plane added to it, and the texts that it was read from."""

    cluster: Cluster
    assumptions: list[Assumption]
    texts: list[SourceText]


def load_cluster(
    sources: Sequence[str],
    reporter: Reporter,
    *,
    config: str | None,
    recursive: bool,
    strict: bool,
    exclude_errors: bool,
    max_bytes: int,
    mode: str | None,
    controlplane: ControlPlaneOptions | None,
    reading: Reading | None = None,
) -> LoadedCluster:
    """Read the sources into a cluster, completed if so asked, reporting warnings and assumptions.

    With ``reading``, the sources have been read already.

    Raises:
        InvalidInputError: something is wrong with the input, unless ``exclude_errors`` leaves it out.
    """
    reading = reading or _read(sources, recursive=recursive, max_bytes=max_bytes)
    loaded = _load(reading, strict=strict, needs_workloads=needs_pods if controlplane else no_workloads)
    mirrored, not_mirrored = mirror_endpoints(loaded.cluster)
    assumptions = _complete(loaded, controlplane) if controlplane else []
    if config is not None:
        configuration = _read([config], recursive=False, max_bytes=max_bytes)
        _replace_config(loaded, config, configuration)
        reading.texts.extend(configuration.texts)
    loaded.problems.extend(_mode_problems(loaded.cluster, mode))
    loaded.cluster.slices.extend(mirrored)
    loaded.problems.extend(not_mirrored)
    if controlplane is None:
        loaded.problems.extend(_without_cluster_ip(loaded.cluster))
    errors = [p for p in loaded.problems if p.severity is Severity.ERROR]
    if any(not exclude_errors or _cannot_be_left_out(problem) for problem in errors):
        raise InvalidInputError(*loaded.problems)
    reporter.report(loaded.problems)
    if errors:
        reporter.note(f"left out because of {_count(len(errors), 'error')}; the rest is compiled")
    if loaded.passed_over:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(loaded.passed_over.items()))
        reporter.note(f"passed over {_count(loaded.passed_over.total(), 'object')} of other kinds ({kinds})")
    for assumption in assumptions:
        reporter.note(f"assumed: {assumption.subject}: {assumption.text}")
    return LoadedCluster(loaded.cluster, assumptions, reading.texts)


def _complete(loaded: Loaded, options: ControlPlaneOptions) -> list[Assumption]:
    derivation = complete_cluster(loaded.cluster, options)
    broken = any(problem.subject.partition(" ")[0] in WORKLOAD_KINDS for problem in loaded.problems)
    loaded.problems.extend(
        problem
        for problem in derivation.problems
        if not (broken and problem.code is Code.SELECTOR_WITHOUT_PODS)  # its Pods may be the broken ones
    )
    return derivation.assumptions


def _cannot_be_left_out(problem: Problem) -> bool:
    """Tell what ``--on-error exclude`` must not pass over: whole sources, the Node, the configuration.

    Without them the rest would compile to other rules, not to fewer.
    """
    return problem.code in _SOURCE_CODES or problem.subject.partition(" ")[0] in _DECISIVE_KINDS


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def read_any_form(source: str, *, recursive: bool, max_bytes: int) -> Reading:
    """Read a source that may hold manifests or rules, or nothing."""
    stdin = _standard_input()
    return read_sources([source], stdin, recursive=recursive, max_bytes=max_bytes, any_form=True)


def _read(sources: Sequence[str], *, recursive: bool, max_bytes: int) -> Reading:
    return read_sources(sources, _standard_input(), recursive=recursive, max_bytes=max_bytes)


def _load(
    reading: Reading, *, strict: bool, needs_workloads: Callable[[Cluster], bool] = no_workloads
) -> Loaded:
    loaded = load_texts(reading.texts, strict=strict, needs_workloads=needs_workloads)
    loaded.problems[:0] = reading.problems
    return loaded


def _standard_input() -> BinaryIO:
    """Return standard input; an empty stream where the caller has closed it."""
    return sys.stdin.buffer if sys.stdin is not None else io.BytesIO()


def _replace_config(loaded: Loaded, path: str, reading: Reading) -> None:
    """Let the file of ``--config`` take the place of configurations among the sources, broken ones too."""
    loaded.problems = [p for p in loaded.problems if p.subject != _CONFIGURATION]
    separate = _load(reading, strict=True)
    loaded.problems.extend(separate.problems)
    if not separate.cluster.configs and not separate.problems:
        message = "the file holds no KubeProxyConfiguration"
        hint = "it begins with apiVersion: kubeproxy.config.k8s.io/v1alpha1"
        loaded.problems.append(Problem(Code.NOT_A_MANIFEST, message, location=Location(path), hint=hint))
    loaded.cluster.configs = separate.cluster.configs


def _mode_problems(cluster: Cluster, mode: str | None) -> list[Problem]:
    """Refuse a configuration for another mode, unless the command line chooses the mode."""
    return [
        Problem(
            Code.UNSUPPORTED_VALUE,
            f"mode {config.value.mode} cannot be compiled",
            location=LazyLocation(config.origin, ("mode",)),
            subject=_CONFIGURATION,
            hint="give --mode iptables or --mode nftables to see the rules of that mode",
        )
        for config in cluster.configs
        if config.value.mode not in ("", *ProxyMode) and mode is None
    ]


def _without_cluster_ip(cluster: Cluster) -> list[Problem]:
    """Warn of Services that a cluster would have given an address."""
    return [
        Problem(
            Code.NO_CLUSTER_IP,
            "it has no clusterIP, so it yields no rules",
            Severity.WARNING,
            LazyLocation(service.origin, ("spec",)),
            f"Service {service.value.metadata.namespace}/{service.value.metadata.name}",
            "a cluster allocates one: write it in the manifest, or leave --controlplane off away",
        )
        for service in cluster.services
        if _lacks_cluster_ip(service.value)
    ]


def _lacks_cluster_ip(service: Service) -> bool:
    return not why_excluded(service) and not service.spec.cluster_ip and not any(service.spec.cluster_ips)
