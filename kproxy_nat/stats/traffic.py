"""Kinds of traffic that a node sees, as first packets of flows."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from kproxy_nat.net.addresses import Address, Cidr, IpFamily, address_of, address_value
from kproxy_nat.proxy.options import LocalCidr, LocalInterface, LocalInterfacePrefix
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.stats.packets import FirstPacket

_OUTSIDE = {IpFamily.IPV4: Address("192.0.2.1"), IpFamily.IPV6: Address("2001:db8::1")}
_OUTER_INTERFACE = "eth0"
_ELSEWHERE = {IpFamily.IPV4: Address("192.0.2.2"), IpFamily.IPV6: Address("2001:db8::2")}
_ELSEWHERE_PORT = 443


class Traffic(enum.StrEnum):
    """Where a flow goes to."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_IP = "ExternalIP"
    NO_SERVICE = "not a Service"


def first_packets(view: NodeView) -> Iterator[tuple[Traffic, FirstPacket]]:
    """Yield one packet for each frontend of each service port, and one that goes to none.

    A pod asks cluster IPs and what is no Service, an outsider asks everything else.
    """
    source, interface = _pod(view)
    for service in view.services:
        port = service.port
        packet = FirstPacket(source, port.cluster_ip, port.protocol, port.port, interface)
        yield Traffic.CLUSTER_IP, packet
        yield from _external(service, view)
    elsewhere = _ELSEWHERE[view.family]
    yield Traffic.NO_SERVICE, FirstPacket(source, elsewhere, "tcp", _ELSEWHERE_PORT, interface)


def _external(service: ServiceView, view: NodeView) -> Iterator[tuple[Traffic, FirstPacket]]:
    port = service.port
    outside = _OUTSIDE[view.family]
    for address in port.external_ips:
        yield (
            Traffic.EXTERNAL_IP,
            FirstPacket(outside, address, port.protocol, port.port, _OUTER_INTERFACE),
        )
    admitted = _first_of(port.source_ranges[0]) if port.source_ranges else outside
    for address in port.load_balancer_vips:
        yield (
            Traffic.LOAD_BALANCER,
            FirstPacket(admitted, address, port.protocol, port.port, _OUTER_INTERFACE),
        )
    if port.node_port:
        node = _node_port_address(view)
        yield (
            Traffic.NODE_PORT,
            FirstPacket(outside, node, port.protocol, port.node_port, _OUTER_INTERFACE),
        )


def _pod(view: NodeView) -> tuple[Address, str]:
    """Return a pod's address and interface, as far as the node tells pods from others."""
    detector = view.options.detectors.get(view.family)
    if isinstance(detector, LocalCidr):
        return _first_of(detector.cidr), "veth0"
    if isinstance(detector, LocalInterface):
        return _OUTSIDE[view.family], detector.name
    if isinstance(detector, LocalInterfacePrefix):
        return _OUTSIDE[view.family], f"{detector.prefix}0"
    return _OUTSIDE[view.family], "veth0"


def _first_of(network: Cidr) -> Address:
    base = Address(network.partition("/")[0])
    family = IpFamily.IPV6 if ":" in base else IpFamily.IPV4
    return address_of(family, address_value(base) | 1)


def _node_port_address(view: NodeView) -> Address:
    """Return an address that serves node ports."""
    chosen = view.options.node_port_destinations(view.family)
    return chosen[0] if chosen else view.options.node_ip(view.family)
