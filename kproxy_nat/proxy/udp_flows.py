"""Where UDP flows to Services may lead: what connection tracking is compared with after rules have changed.

A flow keeps the endpoint that it was given at its first packet for as long as packets come, whatever the
rules say since then, and UDP has no end that would stop it. So kube-proxy deletes the flows whose endpoint
serves no longer.
"""

from __future__ import annotations

import msgspec

from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.proxy.endpoints import Endpoint, collect_endpoints
from kproxy_nat.proxy.options import NodeOptions
from kproxy_nat.proxy.ports import ServicePort, ServicePortName, service_ports

UDP = "udp"


class UdpServices(msgspec.Struct, frozen=True):
    """The UDP Services of one family that have endpoints, each as ``address:port``, sorted as plain bytes.

    Attributes:
        frontends: endpoints by cluster IP, load balancer address or external IP, as ``address:port``.
        node_ports: endpoints by node port.
    """

    frontends: dict[str, tuple[str, ...]] = {}
    node_ports: dict[int, tuple[str, ...]] = {}


def udp_services(cluster: Cluster, options: NodeOptions, family: IpFamily) -> UdpServices:
    """Return the UDP Services of ``cluster`` with all endpoints that serve, here or on another node.

    Readiness, termination, policies and topology do not count: a flow may stay with an endpoint that new
    flows no longer go to. Services without any such endpoint are left out, so that their flows expire by
    themselves. Where two Services claim a frontend, the first in total order has it, as in the rules.
    """
    ports = _udp_ports(cluster, family, external_ips=options.external_ips)
    if not ports:
        return UdpServices()
    endpoints = collect_endpoints(cluster.slices, family, options.node_name, ports)
    frontends: dict[str, tuple[str, ...]] = {}
    node_ports: dict[int, tuple[str, ...]] = {}
    for name in sorted(endpoints):
        serving = _serving(endpoints[name])
        if not serving:
            continue
        port = ports[name]
        for address in _addresses(port):
            frontends.setdefault(join_host_port(address, port.port), serving)
        if port.node_port:
            node_ports.setdefault(port.node_port, serving)
    return UdpServices(frontends, node_ports)


def _udp_ports(
    cluster: Cluster, family: IpFamily, *, external_ips: bool
) -> dict[ServicePortName, ServicePort]:
    return {
        port.name: port
        for service in cluster.services
        if any(port.protocol.lower() == UDP for port in service.value.spec.ports)
        for port in service_ports(service, family, allow_external_ips=external_ips)
        if port.protocol == UDP
    }


def _serving(endpoints: list[Endpoint]) -> tuple[str, ...]:
    return tuple(endpoint.text for endpoint in endpoints if endpoint.serving)


def _addresses(port: ServicePort) -> tuple[Address, ...]:
    return (port.cluster_ip, *port.load_balancer_vips, *port.external_ips)
