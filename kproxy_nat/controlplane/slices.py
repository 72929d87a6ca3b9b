"""EndpointSlices made from Pods, as the EndpointSlice controller makes them.

The controller draws the ends of slice names at random and packs endpoints as they come. Here names are a hash
of Service, family, ports and number, and endpoints stand in the order of their addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.hints import Ratios, add_hints, zone_ratios
from kproxy_nat.controlplane.pod_index import Backend, PodIndex, target_port
from kproxy_nat.controlplane.selector_warnings import SelectorWarnings
from kproxy_nat.controlplane.workload_pods import generated_name
from kproxy_nat.model.base import ObjectMeta, Sourced
from kproxy_nat.model.endpoints import (
    HEADLESS_SERVICE_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    SLICE_CONTROLLER,
    DerivedEndpoint,
    EndpointConditions,
    EndpointSlice,
    SlicePort,
    TargetRef,
)
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import HEADLESS, Service, ServiceSpec
from kproxy_nat.model.workloads import Pod
from kproxy_nat.net.addresses import AddressError, IpFamily, family_of, parse_address

MAX_ENDPOINTS_PER_SLICE = 100

_RESERVED_LABELS = (SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_SERVICE_LABEL)

_CONDITIONS = {
    (ready, serving, terminating): EndpointConditions(ready, serving, terminating)
    for ready in (False, True)
    for serving in (False, True)
    for terminating in (False, True)
}

_ResolvedPort = tuple[str, int, str, str]
"""Name, number, protocol and application protocol."""

_PortSet = tuple[_ResolvedPort, ...]
"""The ports of one slice: Pods that resolve a named port differently are in different slices."""


def derive_slices(
    services: Iterable[Sourced[Service]],
    pods: Iterable[Sourced[Pod]],
    nodes: Sequence[Sourced[Node]],
    existing_slices: Iterable[Sourced[EndpointSlice]],
) -> tuple[list[Sourced[EndpointSlice]], Derivation]:
    """Return the slices that the controller would add, by Service, with warnings on odd selectors and ports.

    Services that have a slice already are left alone.
    """
    existing = list(existing_slices)
    maker = _SliceMaker(PodIndex(pods, nodes), zone_ratios(node.value for node in nodes), existing)
    warnings = SelectorWarnings(maker.index)
    slices: list[Sourced[EndpointSlice]] = []
    for source in services_without_slices(services, existing):
        backends = maker.index.select(source.value.metadata.namespace, source.value.spec.selector or {})
        warnings.check(source, backends)
        slices.extend(Sourced(made, source.origin) for made in maker.make(source.value, backends))
    return slices, Derivation(problems=warnings.problems)


def services_without_slices(
    services: Iterable[Sourced[Service]], existing_slices: Iterable[Sourced[EndpointSlice]]
) -> list[Sourced[Service]]:
    """Return the Services whose slices the controller has yet to make, by namespace and name.

    It sees to Services with a selector, ExternalName excepted. An empty selector is none: the API server does
    not even keep it.
    """
    served = {(s.value.metadata.namespace, s.value.service_name) for s in existing_slices}
    found = [source for source in services if _identity(source) not in served and is_selecting(source.value)]
    return sorted(found, key=_identity)


def is_selecting(service: Service) -> bool:
    """Tell whether a Service gets its endpoints from a selector."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def _identity(source: Sourced[Service]) -> tuple[str, str]:
    return source.value.metadata.namespace, source.value.metadata.name


def address_types(spec: ServiceSpec) -> list[IpFamily]:
    """Return the families of a Service's slices.

    They are those of ``ipFamilies``, else of the cluster IP, else (headless, or not yet allocated) both.
    """
    families = [family for family in IpFamily if family in spec.ip_families]
    if families:
        return families
    try:
        return [family_of(parse_address(_cluster_ip(spec)))]
    except AddressError:
        return list(IpFamily)


def _cluster_ip(spec: ServiceSpec) -> str:
    return spec.cluster_ip or next(iter(spec.cluster_ips), "")


class _SliceMaker:
    def __init__(self, index: PodIndex, ratios: Ratios, existing: Iterable[Sourced[EndpointSlice]]) -> None:
        self.index = index
        self.ratios = ratios
        self.names: dict[str, set[str]] = {}
        for source in existing:
            meta = source.value.metadata
            self.names.setdefault(meta.namespace, set()).add(meta.name)

    def make(self, service: Service, backends: Sequence[Backend]) -> Iterator[EndpointSlice]:
        """Yield the slices of a Service: for each family and set of ports, at most 100 endpoints each."""
        groups = _group_by_ports(service, backends)
        labels = slice_labels(service)
        for family in address_types(service.spec):
            empty = True
            for ports, endpoints in self._endpoints(service, family, groups):
                for number, start in enumerate(range(0, len(endpoints), MAX_ENDPOINTS_PER_SLICE)):
                    chunk = endpoints[start : start + MAX_ENDPOINTS_PER_SLICE]
                    yield self._slice(service, family, labels, ports, chunk, number)
                    empty = False
            if empty:
                yield self._slice(service, family, labels, (), [], 0)

    def _endpoints(
        self, service: Service, family: IpFamily, groups: dict[_PortSet, list[Backend]]
    ) -> Iterator[tuple[_PortSet, list[DerivedEndpoint]]]:
        """Yield the endpoints of one family for each set of ports. Hints depend on all of them together."""
        by_ports = {ports: _sorted_endpoints(service, family, groups[ports]) for ports in sorted(groups)}
        hinted = add_hints(service, [e for endpoints in by_ports.values() for e in endpoints], self.ratios)
        start = 0
        for ports, endpoints in by_ports.items():
            yield ports, hinted[start : start + len(endpoints)]
            start += len(endpoints)

    def _slice(
        self,
        service: Service,
        family: IpFamily,
        labels: dict[str, str],
        ports: _PortSet,
        endpoints: list[DerivedEndpoint],
        number: int,
    ) -> EndpointSlice:
        meta = service.metadata
        taken = self.names.setdefault(meta.namespace, set())
        name = generated_name(meta.name, f"{meta.namespace}/{meta.name}/{family}/{ports}/{number}", taken)
        taken.add(name)
        slice_ports = [SlicePort(*port[:3], port[3] or None) for port in ports]
        return EndpointSlice(ObjectMeta(name, meta.namespace, labels), family, endpoints, slice_ports)


def slice_labels(service: Service) -> dict[str, str]:
    """Return the labels of a Service's slices: its own, and the controller's."""
    own = service.metadata.labels
    labels = {key: value for key, value in own.items() if key not in _RESERVED_LABELS}
    if _cluster_ip(service.spec) in ("", HEADLESS):
        labels[HEADLESS_SERVICE_LABEL] = ""
    return {**labels, SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: SLICE_CONTROLLER}


def _group_by_ports(service: Service, backends: Sequence[Backend]) -> dict[_PortSet, list[Backend]]:
    """Return the Pods by the ports that they resolve; those whose Node is not there are left out."""
    spec = service.spec
    usable = [b for b in backends if b.node is not None or spec.publish_not_ready_addresses]
    if usable and not any(isinstance(port.target_port, str) for port in spec.ports):
        return {_resolve(service, usable[0].pod): usable}
    groups: dict[_PortSet, list[Backend]] = {}
    for backend in usable:
        groups.setdefault(_resolve(service, backend.pod), []).append(backend)
    return groups


def _resolve(service: Service, pod: Pod) -> _PortSet:
    """Return the Service's ports with the numbers that they have in ``pod``, without those not found."""
    resolved = []
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number is not None:
            resolved.append((port.name, number, port.protocol, port.app_protocol or ""))
    return tuple(resolved)


def _sorted_endpoints(
    service: Service, family: IpFamily, backends: Iterable[Backend]
) -> list[DerivedEndpoint]:
    """Return the endpoints that Pods have in a family, by address, those of one address by Pod name."""
    with_family = [backend for backend in backends if family in backend.addresses]
    with_family.sort(key=lambda b: (b.addresses[family][0], b.pod.metadata.name))
    return [_endpoint(service, family, backend) for backend in with_family]


def _endpoint(service: Service, family: IpFamily, backend: Backend) -> DerivedEndpoint:
    meta, spec = backend.pod.metadata, backend.pod.spec
    ready = service.spec.publish_not_ready_addresses or (backend.serving and not backend.terminating)
    named = spec.hostname and spec.subdomain == service.metadata.name
    return DerivedEndpoint(
        addresses=list(backend.addresses[family][1]),
        conditions=_CONDITIONS[ready, backend.serving, backend.terminating],
        node_name=spec.node_name or None,
        zone=(backend.node.zone or None) if backend.node else None,
        hostname=spec.hostname if named else None,
        target_ref=TargetRef("Pod", meta.namespace, meta.name),
    )
