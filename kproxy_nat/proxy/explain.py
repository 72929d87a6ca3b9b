"""Why a Service yields no rules, or none that reach an endpoint: what kube-proxy never says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.model.service import Service
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.ports import cluster_ip_of, why_excluded
from kproxy_nat.proxy.view import NodeView, ServiceView


def explain(cluster: Cluster, views: Iterable[NodeView]) -> Iterator[str]:
    """Yield a sentence for each Service and service port that traffic cannot reach through the rules."""
    for service in sorted(
        cluster.services, key=lambda s: (s.value.metadata.namespace, s.value.metadata.name)
    ):
        reason = why_no_rules(service.value)
        if reason:
            yield f"{_place(service)}: Service {_name(service.value)}: no rules: {reason}"
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for source in cluster.slices:
        key = (source.value.metadata.namespace, source.value.service_name)
        slices.setdefault(key, []).append(source.value)
    for view in views:
        for port_view in view.services:
            reason = why_no_endpoints(port_view, slices, view.family)
            if reason:
                origin = port_view.port.origin
                yield f"{origin.source}:{origin.line}: Service {port_view.port.text}: {view.family}: {reason}"


def why_no_rules(service: Service) -> str:
    """Say why ``service`` yields no rules at all; an empty text if it does yield some."""
    excluded = why_excluded(service)
    if excluded:
        return excluded
    if all(cluster_ip_of(service.spec, family) is None for family in IpFamily):
        return "it has no cluster IP"
    return ""


def why_no_endpoints(
    view: ServiceView, slices: dict[tuple[str, str], list[EndpointSlice]], family: IpFamily
) -> str:
    """Say why some traffic to a service port is refused or dropped; an empty text if none is."""
    if view.has_endpoints:
        return _why_not_local(view)
    name = view.port.name
    own = [s for s in slices.get((name.namespace, name.service), ()) if s.address_type == family]
    if not own:
        return f"traffic is rejected: it has no EndpointSlice for {family}"
    offered = sorted({f"{p.name or '(unnamed)'}/{p.protocol}" for s in own for p in s.ports or ()})
    wanted = f"{name.port or '(unnamed)'}/{name.protocol}"
    if wanted not in offered:
        listed = ", ".join(offered) or "none"
        return f"traffic is rejected: no slice has a port named {wanted} (slices have: {listed})"
    return "traffic is rejected: none of its endpoints is ready, nor serving while terminating"


def _why_not_local(view: ServiceView) -> str:
    policies = []
    if not view.has_internal_endpoints:
        policies.append("internalTrafficPolicy")
    if view.port.externally_accessible and not view.has_external_endpoints:
        policies.append("externalTrafficPolicy")
    if not policies:
        return ""
    return f"traffic is dropped: {' and '.join(policies)} is Local and this node has no endpoint"


def _name(service: Service) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"


def _place(service: Sourced[Service]) -> str:
    return f"{service.origin.source}:{service.origin.line}"
