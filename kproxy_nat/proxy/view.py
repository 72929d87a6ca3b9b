"""The view of one node in one family: every service port with its endpoints, decided."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import Address, Cidr, IpFamily, cidr_contains
from kproxy_nat.proxy.endpoints import collect_endpoints
from kproxy_nat.proxy.options import NodeOptions
from kproxy_nat.proxy.ports import ServicePort, ServicePortName, service_ports
from kproxy_nat.proxy.selection import Selection, select_endpoints

LARGE_CLUSTER_ENDPOINTS = 1000


class ServiceView(msgspec.Struct, frozen=True, gc=False):
    """One service port, its endpoints, and what follows for traffic."""

    port: ServicePort
    endpoints: Selection

    @property
    def has_endpoints(self) -> bool:
        """Whether any endpoint anywhere could serve the port."""
        return self.endpoints.any_usable

    @property
    def has_internal_endpoints(self) -> bool:
        """Whether traffic to the cluster IP has an endpoint on this node's terms."""
        return self.has_endpoints and (not self.port.internal_local or bool(self.endpoints.local))

    @property
    def has_external_endpoints(self) -> bool:
        """Whether traffic from outside has an endpoint on this node's terms."""
        return self.has_endpoints and (not self.port.external_local or bool(self.endpoints.local))

    @property
    def is_reached_from_outside(self) -> bool:
        """Whether external traffic needs treatment; also without local endpoints, for the short-circuits."""
        return self.has_endpoints and self.port.externally_accessible

    @property
    def balances_cluster(self) -> bool:
        """Whether some traffic is spread over the endpoints of the whole cluster."""
        return bool(self.endpoints.cluster) and self.port.uses_cluster_endpoints

    @property
    def balances_local(self) -> bool:
        """Whether some traffic is spread over the endpoints of this node."""
        return bool(self.endpoints.local) and self.port.uses_local_endpoints

    @property
    def is_firewalled(self) -> bool:
        """Whether source ranges restrict who may use the load balancer's addresses, and to some avail."""
        return self.has_endpoints and self.has_source_ranges

    @property
    def has_source_ranges(self) -> bool:
        """Whether source ranges restrict the load balancer's addresses, be there endpoints or not."""
        return bool(self.port.load_balancer_vips) and bool(self.port.source_ranges)


@dataclass(frozen=True, slots=True)
class NodeView:
    """All service ports of one family as one node sees them, in total order."""

    family: IpFamily
    options: NodeOptions
    services: list[ServiceView]
    endpoint_count: int

    @property
    def is_large_cluster(self) -> bool:
        """Whether kube-proxy leaves comments out of the per-endpoint rules to save memory."""
        return self.endpoint_count > LARGE_CLUSTER_ENDPOINTS

    def admitted_sources(self, port: ServicePort) -> list[Address | Cidr]:
        """Return who may use the load balancer's addresses of a port with source ranges.

        If the node itself may, so may the addresses: what the node sends to one can carry it as its source.
        """
        sources: list[Address | Cidr] = list(port.source_ranges)
        node_ip = self.options.node_ip(self.family)
        if any(cidr_contains(source_range, node_ip) for source_range in port.source_ranges):
            sources.extend(port.load_balancer_vips)
        return sources


def build_view(cluster: Cluster, options: NodeOptions, family: IpFamily) -> NodeView:
    """Compute the view that ``options.node_name`` has of ``cluster`` in ``family``."""
    ports: dict[ServicePortName, ServicePort] = {}
    for service in cluster.services:
        for port in service_ports(service, family, allow_external_ips=options.external_ips):
            ports[port.name] = port
    endpoints = collect_endpoints(cluster.slices, family, options.node_name, ports)
    views = [
        ServiceView(
            ports[name],
            select_endpoints(ports[name], endpoints.get(name, []), options.node_name, options.zone),
        )
        for name in sorted(ports)
    ]
    return NodeView(family, options, views, sum(map(len, endpoints.values())))
