"""Endpoints objects, mirrored into EndpointSlices as the mirroring controller does (KEP-1672).

A proxy never reads Endpoints. The control plane copies those that somebody made for a Service without
selector; the Endpoints of a Service with selector are its own output, next to slices made from the Pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.errors import Code, LazyLocation, Problem, Severity
from kproxy_nat.model.base import ObjectMeta, Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import (
    ENDPOINTS_CONTROLLER,
    ENDPOINTS_MANAGED_BY_LABEL,
    LEADER_ANNOTATION,
    MANAGED_BY_LABEL,
    MIRRORING_CONTROLLER,
    SERVICE_NAME_LABEL,
    SKIP_MIRROR_LABEL,
    DerivedEndpoint,
    EndpointAddress,
    EndpointConditions,
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    SlicePort,
)
from kproxy_nat.model.service import Service
from kproxy_nat.net.addresses import IpFamily, family_of, parse_address

MAX_ADDRESSES_PER_SUBSET = 1000

_OWN_ANNOTATIONS = (
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
)
"""What is told of the Endpoints object itself, and not copied."""


def mirror_endpoints(cluster: Cluster) -> tuple[list[Sourced[EndpointSlice]], list[Problem]]:
    """Return slices that mirror the cluster's Endpoints objects, and warnings on those not mirrored."""
    services = {(s.value.metadata.namespace, s.value.metadata.name): s.value for s in cluster.services}
    already = {
        (s.value.metadata.namespace, s.value.service_name)
        for s in cluster.slices
        if s.value.metadata.labels.get(MANAGED_BY_LABEL) == MIRRORING_CONTROLLER
    }
    with_slices = {(s.value.metadata.namespace, s.value.service_name) for s in cluster.slices}
    slices: list[Sourced[EndpointSlice]] = []
    problems: list[Problem] = []
    for source in cluster.endpoints:
        key = (source.value.metadata.namespace, source.value.metadata.name)
        if key in already or _opts_out(source.value.metadata):
            continue
        service = services.get(key)
        if service is None:
            problems.append(_not_mirrored(source, "there is no Service of this name", "add the Service"))
        elif service.spec.selector:
            is_derived = bool(cluster.pods or cluster.workloads) and _is_of_controller(source.value.metadata)
            if key not in with_slices and not is_derived:
                hint = (
                    "Pods that the selector finds are used: add them, or the EndpointSlices "
                    "(kubectl get endpointslices -o yaml), or remove the selector"
                )
                problems.append(_not_mirrored(source, "its Service has a selector", hint))
        else:
            problems.extend(_without_rules(source, service))
            slices.extend(Sourced(made, source.origin) for made in _mirror(source.value))
    return slices, problems


def _is_of_controller(meta: ObjectMeta) -> bool:
    """Tell what a cluster wrote from what somebody typed."""
    return meta.labels.get(ENDPOINTS_MANAGED_BY_LABEL) == ENDPOINTS_CONTROLLER


def _without_rules(source: Sourced[Endpoints], service: Service) -> Iterator[Problem]:
    """Warn of Endpoints that are copied, but of a Service that has no rules."""
    kind = "headless" if service.is_headless else service.spec.type
    if kind in ("headless", "ExternalName"):
        meta = source.value.metadata
        yield Problem(
            Code.ENDPOINTS_WITHOUT_RULES,
            f"its Service is {kind}, so no rule leads to these addresses",
            Severity.WARNING,
            LazyLocation(source.origin, ("metadata", "name")),
            f"Endpoints {meta.namespace}/{meta.name}",
            "only DNS uses them; for rules the Service needs a cluster IP",
        )


def _opts_out(meta: ObjectMeta) -> bool:
    return meta.labels.get(SKIP_MIRROR_LABEL) == "true" or LEADER_ANNOTATION in meta.annotations


def _not_mirrored(source: Sourced[Endpoints], reason: str, hint: str) -> Problem:
    meta = source.value.metadata
    return Problem(
        Code.NOT_MIRRORED,
        f"not mirrored into EndpointSlices, and so not used: {reason}",
        Severity.WARNING,
        LazyLocation(source.origin, ("metadata", "name")),
        f"Endpoints {meta.namespace}/{meta.name}",
        hint,
    )


def _mirror(endpoints: Endpoints) -> Iterator[EndpointSlice]:
    """Yield one slice for each subset and family."""
    meta = endpoints.metadata
    labels = {**meta.labels, SERVICE_NAME_LABEL: meta.name, MANAGED_BY_LABEL: MIRRORING_CONTROLLER}
    annotations = {key: value for key, value in meta.annotations.items() if key not in _OWN_ANNOTATIONS}
    for position, subset in enumerate(endpoints.subsets or ()):
        ports = [
            SlicePort(port.name, port.port, port.protocol, port.app_protocol) for port in subset.ports or ()
        ]
        for family, mirrored in _by_family(subset).items():
            name = f"{meta.name}-{position}-{family.lower()}"
            mirror = ObjectMeta(name, meta.namespace, labels, annotations)
            yield EndpointSlice(mirror, family, mirrored, ports)


def _by_family(subset: EndpointSubset) -> dict[IpFamily, list[DerivedEndpoint]]:
    """Return the endpoints of a subset, those that are ready first, at most 1000 in all."""
    by_family: dict[IpFamily, list[DerivedEndpoint]] = {}
    all_addresses = [
        *_with_state(subset.addresses, ready=True),
        *_with_state(subset.not_ready_addresses, ready=False),
    ]
    for address, conditions in all_addresses[:MAX_ADDRESSES_PER_SUBSET]:
        canonical = parse_address(address.ip)
        endpoint = DerivedEndpoint(
            [canonical],
            conditions,
            address.node_name,
            hostname=address.hostname,
            target_ref=address.target_ref,
        )
        by_family.setdefault(family_of(canonical), []).append(endpoint)
    return by_family


def _with_state(
    addresses: Iterable[EndpointAddress] | None, *, ready: bool
) -> Iterator[tuple[EndpointAddress, EndpointConditions]]:
    for address in addresses or ():
        yield address, EndpointConditions(ready=ready)
