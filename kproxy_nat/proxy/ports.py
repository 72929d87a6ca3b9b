"""Service ports: what a Service means to the proxy of one family."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kproxy_nat.errors import Origin
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.service import (
    HEADLESS,
    SERVICE_PROXY_NAME_LABEL,
    Service,
    ServicePortSpec,
    ServiceSpec,
)
from kproxy_nat.net.addresses import (
    Address,
    AddressError,
    Cidr,
    IpFamily,
    family_of,
    parse_address,
    parse_cidr,
    prefix_length,
)

EXTERNALLY_ACCESSIBLE_TYPES = ("LoadBalancer", "NodePort")


class ServicePortName(msgspec.Struct, frozen=True, gc=False, order=True):
    """The key of a service port. Its order is the total order of Services in every output."""

    namespace: str
    service: str
    port: str
    protocol: str

    def __str__(self) -> str:
        """Return the name as rules print it: ``namespace/service:port``, without the protocol."""
        name = f"{self.namespace}/{self.service}"
        return f"{name}:{self.port}" if self.port else name


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of one Service, in one family. ``protocol`` is in lower case, as rules want it."""

    name: ServicePortName
    text: str
    protocol: str
    cluster_ip: Address
    port: int
    node_port: int
    external_ips: tuple[Address, ...]
    load_balancer_vips: tuple[Address, ...]
    source_ranges: tuple[Cidr, ...]
    affinity_seconds: int
    internal_local: bool
    external_local: bool
    health_check_node_port: int
    origin: Origin

    @property
    def externally_accessible(self) -> bool:
        """Whether traffic from outside of the cluster has an address to go to."""
        return bool(self.node_port or self.load_balancer_vips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether the endpoints of the whole cluster are needed, be it for Local's short-circuits alone."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether the endpoints of this node are needed on their own."""
        return self.internal_local or (self.external_local and self.externally_accessible)


def service_ports(
    sourced: Sourced[Service], family: IpFamily, *, allow_external_ips: bool = True
) -> Iterator[ServicePort]:
    """Yield the ports of a Service in ``family``, in the manifest's order; none where it has no rules."""
    service = sourced.value
    spec = service.spec
    cluster_ip = None if why_excluded(service) else cluster_ip_of(spec, family)
    if cluster_ip is None:
        return
    external_ips = tuple(_addresses(spec.external_ips, family)) if allow_external_ips else ()
    vips = tuple(
        _addresses((i.ip for i in service.status.load_balancer.ingress if i.ip_mode == "VIP"), family)
    )
    external_local = spec.external_traffic_policy == "Local" and is_external_by_type(spec)
    source_ranges = _source_ranges(spec, family)
    for port in spec.ports:
        yield ServicePort(
            name := _port_name(service, port),
            str(name),
            port.protocol.lower(),
            cluster_ip,
            port.port,
            port.node_port,
            external_ips,
            vips,
            source_ranges,
            _affinity_seconds(spec),
            spec.internal_traffic_policy == "Local",
            external_local,
            spec.health_check_node_port if external_local and spec.type == "LoadBalancer" else 0,
            sourced.origin,
        )


def why_excluded(service: Service) -> str:
    """Say why no proxy of this kind handles the Service; an empty text if it does."""
    if SERVICE_PROXY_NAME_LABEL in service.metadata.labels:
        return f"the label {SERVICE_PROXY_NAME_LABEL} leaves it to another proxy"
    if service.spec.type == "ExternalName":
        return "an ExternalName is a DNS alias"
    if service.is_headless:
        return "it is headless: clients reach its endpoints directly"
    return ""


def cluster_ip_of(spec: ServiceSpec, family: IpFamily) -> Address | None:
    """Return the Service's cluster IP in ``family``, if it has one."""
    cluster_ips = spec.cluster_ips or [spec.cluster_ip]
    candidates: list[str] = (
        [ip for ip, wanted in zip(cluster_ips, spec.ip_families, strict=False) if wanted == family]
        if spec.ip_families
        else [spec.cluster_ip or cluster_ips[0]]
    )
    for text in candidates:
        if text and text != HEADLESS and family_of(address := parse_address(text)) is family:
            return address
    return None


def is_external_by_type(spec: ServiceSpec) -> bool:
    """Whether the external traffic policy applies at all: by type, or by external IPs of any family."""
    return spec.type in EXTERNALLY_ACCESSIBLE_TYPES or (
        spec.type in ("ClusterIP", "") and bool(spec.external_ips)
    )


def _port_name(service: Service, port: ServicePortSpec) -> ServicePortName:
    meta = service.metadata
    return ServicePortName(meta.namespace, meta.name, port.name, port.protocol)


def _affinity_seconds(spec: ServiceSpec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    return spec.session_affinity_config.client_ip.timeout_seconds


def _addresses(texts: Iterator[str] | list[str], family: IpFamily) -> Iterator[Address]:
    """Yield the addresses of ``family``, passing over what is none, as kube-proxy does."""
    for text in texts:
        try:
            address = parse_address(text)
        except AddressError:
            continue
        if family_of(address) is family:
            yield address


def _source_ranges(spec: ServiceSpec, family: IpFamily) -> tuple[Cidr, ...]:
    """Return the source ranges of ``family``; a range of length 0 lifts every restriction."""
    ranges = []
    for text in spec.load_balancer_source_ranges:
        try:
            cidr = parse_cidr(text.strip())
        except AddressError:
            continue
        if family_of(cidr) is family:
            ranges.append(cidr)
    return () if any(prefix_length(cidr) == 0 for cidr in ranges) else tuple(ranges)
