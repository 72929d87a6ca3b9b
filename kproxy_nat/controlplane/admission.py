"""What the API server refuses in a new Service, and a proxy would not notice in a stored one.

These checks are for Services that somebody typed. Objects of a cluster may have been stored by an older API
server, or changed since, and a proxy takes them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.controlplane.families import is_headless
from kproxy_nat.controlplane.hints import TRAFFIC_DISTRIBUTIONS
from kproxy_nat.controlplane.open_values import needs_health_check
from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.checks import check_choice
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.service import Service, ServiceSpec
from kproxy_nat.net.addresses import AddressError, parse_address, parse_cidr

_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


def admission_findings(service: Service) -> Iterator[Finding]:
    """Yield what the API server would refuse in ``service``, beyond what is refused in stored ones, too."""
    spec = service.spec
    if spec.traffic_distribution:
        yield from check_choice(
            spec.traffic_distribution, TRAFFIC_DISTRIBUTIONS, ("spec", "trafficDistribution")
        )
    yield from _check_type(spec)
    yield from _check_balancer_fields(service)
    yield from _check_spelling(spec)


def _check_type(spec: ServiceSpec) -> Iterator[Finding]:
    if spec.type in _WITH_NODE_PORTS:
        if is_headless(spec):
            message = f"a headless Service cannot be of type {spec.type}"
            yield _contradiction(("spec", "type"), message, "leave clusterIP: None away, or use ClusterIP")
        return
    for position, port in enumerate(spec.ports):
        if port.node_port:
            message = f"nodePort {port.node_port}, but the type is {spec.type or 'ClusterIP'}"
            hint = "use type: NodePort, or remove nodePort"
            yield _contradiction(("spec", "ports", position, "nodePort"), message, hint)
    if spec.external_traffic_policy == "Local" and not (spec.external_ips and spec.type != "ExternalName"):
        message = "externalTrafficPolicy Local, but nothing outside of the cluster can reach the Service"
        hint = "use type NodePort or LoadBalancer, or give externalIPs"
        yield _contradiction(("spec", "externalTrafficPolicy"), message, hint)


def _check_balancer_fields(service: Service) -> Iterator[Finding]:
    spec, ingress = service.spec, service.status.load_balancer.ingress
    if spec.health_check_node_port and not needs_health_check(spec):
        message = "healthCheckNodePort is for type LoadBalancer with externalTrafficPolicy Local"
        yield _contradiction(("spec", "healthCheckNodePort"), message, "remove it")
    for position, entry in enumerate(ingress):
        if entry.ip_mode != "VIP" and not entry.ip:
            path: FieldPath = ("status", "loadBalancer", "ingress", position, "ipMode")
            yield _contradiction(path, "ipMode is there without ip", "give the ip, too")
    if spec.type == "LoadBalancer":
        return
    if spec.load_balancer_source_ranges:
        path = ("spec", "loadBalancerSourceRanges")
        yield _contradiction(path, "source ranges are for type LoadBalancer", "remove them")
    if ingress:
        path = ("status", "loadBalancer", "ingress")
        yield _contradiction(path, "only type LoadBalancer has addresses of load balancers", "remove them")


def _check_spelling(spec: ServiceSpec) -> Iterator[Finding]:
    """Find addresses in spellings that are read differently by different programs."""
    if not is_headless(spec):
        yield from _check_address(spec.cluster_ip, ("spec", "clusterIP"))
    for position, text in enumerate(spec.external_ips):
        yield from _check_address(text, ("spec", "externalIPs", position))
    for position, text in enumerate(spec.load_balancer_source_ranges):
        network, slash, _ = text.strip().partition("/")
        path = ("spec", "loadBalancerSourceRanges", position)
        if slash:
            yield from _check_address(network, path)
            canonical = parse_cidr(text.strip())
            if parse_address(network) != canonical.partition("/")[0]:
                message = f"{text.strip()} has bits beyond its prefix"
                yield Finding(Code.BAD_CIDR, path, message, f"write {canonical}")


def _check_address(text: str, path: FieldPath) -> Iterator[Finding]:
    try:
        canonical = parse_address(text)
    except AddressError:
        return
    leading_zero = "." in text and any(part != "0" and part.startswith("0") for part in text.split("."))
    if leading_zero or (":" in text and ":" not in canonical):
        message = f"{text} is a spelling that programs read differently"
        yield Finding(Code.BAD_ADDRESS, path, message, f"write {canonical}")


def _contradiction(path: FieldPath, message: str, hint: str) -> Finding:
    return Finding(Code.INCONSISTENT, path, message, hint)
