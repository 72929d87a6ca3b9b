"""Validation of Services: what the API server would refuse, as far as rules depend on it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from kproxy_nat.errors import Code
from kproxy_nat.model.checks import (
    PROTOCOLS,
    Findings,
    check_address,
    check_choice,
    check_cidr,
    check_destination,
    check_meta,
    check_port,
    check_port_name,
    check_range,
)
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.names import readable
from kproxy_nat.model.service import HEADLESS, Service, ServicePortSpec, ServiceSpec
from kproxy_nat.net.addresses import AddressError, IpFamily, family_of, parse_address

SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "")
POLICIES = ("Cluster", "Local")
AFFINITIES = ("None", "ClientIP", "")
"""An empty text is the API server's default."""
FAMILIES = tuple(IpFamily)


def validate_service(service: Service) -> Iterator[Finding]:
    """Yield everything that is wrong with ``service``."""
    spec = service.spec
    yield from check_meta(service.metadata)
    yield from check_choice(spec.type, SERVICE_TYPES, ("spec", "type"))
    yield from check_choice(spec.internal_traffic_policy, POLICIES, ("spec", "internalTrafficPolicy"))
    yield from check_choice(spec.external_traffic_policy, (*POLICIES, ""), ("spec", "externalTrafficPolicy"))
    yield from _check_cluster_ips(spec)
    yield from _check_ports(spec)
    yield from _check_affinity(spec)
    yield from _check_external(service)


def _is_plain_single_stack(spec: ServiceSpec) -> bool:
    """Tell, quickly, a Service with one consistent IPv4 address: nearly all are."""
    return (
        spec.cluster_ips == [spec.cluster_ip]
        and spec.ip_families == [IpFamily.IPV4]
        and ":" not in spec.cluster_ip
        and not check_address(spec.cluster_ip, ("spec", "clusterIP"))
    )


def _check_cluster_ips(spec: ServiceSpec) -> Iterator[Finding]:
    if _is_plain_single_stack(spec):
        return
    for position, family in enumerate(spec.ip_families):
        yield from check_choice(family, FAMILIES, ("spec", "ipFamilies", position))
    if len(set(spec.ip_families)) < len(spec.ip_families):
        yield Finding(Code.INCONSISTENT, ("spec", "ipFamilies"), "ipFamilies names a family twice")
    headless = [ip == HEADLESS for ip in (spec.cluster_ip, *spec.cluster_ips) if ip]
    if any(headless) and not all(headless):
        message = f"{HEADLESS!r} and addresses are mixed in clusterIP and clusterIPs"
        yield Finding(Code.INCONSISTENT, ("spec", "clusterIPs"), message)
    if spec.type == "ExternalName" or any(headless):
        return
    if spec.cluster_ip:
        yield from check_address(spec.cluster_ip, ("spec", "clusterIP"))
    if len(spec.cluster_ips) > 2:
        yield Finding(Code.INCONSISTENT, ("spec", "clusterIPs"), "clusterIPs has more than two addresses")
    if spec.cluster_ip and spec.cluster_ips and spec.cluster_ips[0] != spec.cluster_ip:
        yield Finding(
            Code.INCONSISTENT,
            ("spec", "clusterIPs", 0),
            f"clusterIPs begins with {readable(spec.cluster_ips[0])}, "
            f"but clusterIP is {readable(spec.cluster_ip)}",
            "make the first of clusterIPs the same as clusterIP",
        )
    yield from _check_families_of_cluster_ips(spec)


def _check_families_of_cluster_ips(spec: ServiceSpec) -> Iterator[Finding]:
    known = set(FAMILIES)
    addresses = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    field: tuple[str | int, ...]
    families_seen = set()
    for position, text in enumerate(addresses):
        field = ("spec", "clusterIPs", position) if spec.cluster_ips else ("spec", "clusterIP")
        wanted = spec.ip_families[position] if position < len(spec.ip_families) else ""
        if spec.cluster_ips:
            yield from check_address(text, field)
        try:
            family = family_of(parse_address(text))
        except AddressError:
            continue
        if wanted in known and wanted != family:
            yield Finding(
                Code.FAMILY_MISMATCH, field, f"cluster IP {text} is {family}, but ipFamilies says {wanted}"
            )
        if family in families_seen:
            yield Finding(Code.FAMILY_MISMATCH, field, f"clusterIPs has a second {family} address, {text}")
        families_seen.add(family)


def _check_ports(spec: ServiceSpec) -> Iterator[Finding]:
    if not spec.ports and spec.type != "ExternalName" and spec.cluster_ip != HEADLESS:
        yield Finding(
            Code.MISSING_FIELD, ("spec", "ports"), "spec.ports is missing or empty", "give the Service a port"
        )
    yield from _check_each_port(tuple(spec.ports))
    if len(spec.ports) > 1:
        yield from _check_several_ports(spec.ports)


@functools.lru_cache(maxsize=1024)
def _check_each_port(ports: tuple[ServicePortSpec, ...]) -> Findings:
    """Check ports one by one; remembered, since many Services have the same."""
    return tuple(_findings_of_ports(ports))


def _findings_of_ports(ports: Sequence[ServicePortSpec]) -> Iterator[Finding]:
    for position, port in enumerate(ports):
        path = ("spec", "ports", position)
        yield from check_port(port.port, (*path, "port"))
        if port.node_port:
            yield from check_port(port.node_port, (*path, "nodePort"), "nodePort")
        yield from check_choice(port.protocol, PROTOCOLS, (*path, "protocol"))
        yield from check_port_name(port.name, (*path, "name"))


def _check_several_ports(ports: Sequence[ServicePortSpec]) -> Iterator[Finding]:
    """Check that each port has a name of its own, and no two are the same."""
    seen: set[tuple[str, object, object]] = set()
    for position, port in enumerate(ports):
        path = ("spec", "ports", position)
        if not port.name:
            message = "a port has no name, though there are several"
            hint = "name each port: endpoints are joined to Service ports by name"
            yield Finding(Code.MISSING_FIELD, path, message, hint)
        for what, key in (
            ("name", (port.name, None)),
            ("port", (port.port, port.protocol)),
            ("nodePort", (port.node_port, port.protocol)),
        ):
            if key[0] and (what, *key) in seen:
                text = f"{what} {key[0]}" + (f"/{key[1]}" if key[1] else "")
                yield Finding(Code.DUPLICATE_PORT, (*path, what), f"{text} is there twice")
            seen.add((what, *key))


def _check_affinity(spec: ServiceSpec) -> Iterator[Finding]:
    yield from check_choice(spec.session_affinity, AFFINITIES, ("spec", "sessionAffinity"))
    if spec.session_affinity == "ClientIP":
        seconds = spec.session_affinity_config.client_ip.timeout_seconds
        path = ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield from check_range(seconds, 1, 86400, path)


def _check_external(service: Service) -> Iterator[Finding]:
    spec = service.spec
    if spec.health_check_node_port:
        path = ("spec", "healthCheckNodePort")
        yield from check_port(spec.health_check_node_port, path, "healthCheckNodePort")
    for position, text in enumerate(spec.external_ips):
        yield from check_destination(text, ("spec", "externalIPs", position))
    for position, text in enumerate(spec.load_balancer_source_ranges):
        if text.strip():
            yield from check_cidr(text.strip(), ("spec", "loadBalancerSourceRanges", position))
    for position, ingress in enumerate(service.status.load_balancer.ingress):
        ingress_path = ("status", "loadBalancer", "ingress", position)
        if ingress.ip:
            yield from check_address(ingress.ip, (*ingress_path, "ip"))
        yield from check_choice(ingress.ip_mode, ("VIP", "Proxy"), (*ingress_path, "ipMode"))
