"""Which addresses and ports of a Service are given, and which are left for a cluster to choose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from kproxy_nat.controlplane.families import given_cluster_ips, is_headless
from kproxy_nat.controlplane.pools import address_of
from kproxy_nat.errors import FieldPath
from kproxy_nat.model.service import Service, ServiceSpec
from kproxy_nat.net.addresses import IpFamily

CLUSTER_IP = "clusterIP"
NODE_PORT = "nodePort"
HEALTH_CHECK_NODE_PORT = "healthCheckNodePort"
LOAD_BALANCER_IP = "load balancer IP"

PoolName = tuple[str, IpFamily | None]
NODE_PORTS: PoolName = (NODE_PORT, None)
"""One pool for node ports of all Services, families and protocols, and for health checks."""


class Request(NamedTuple):
    """One value that is left open. ``path`` is the field that asks for it; ``purpose`` ends its message."""

    what: str
    path: FieldPath
    family: IpFamily | None = None
    port: int = 0
    purpose: str = ""

    @property
    def pool(self) -> PoolName:
        """The pool that the value comes from."""
        return (self.what, self.family) if self.family else NODE_PORTS

    @property
    def detail(self) -> str:
        """What tells the request from others of the same Service and kind."""
        return self.family or str(self.port)

    @property
    def option(self) -> str:
        """The option that sets the pool's range."""
        return {CLUSTER_IP: "--service-cidr", LOAD_BALANCER_IP: "--load-balancer-pool"}.get(
            self.what, "--node-port-range"
        )

    def shown(self, value: int) -> str:
        """Return a value of this kind as it is written."""
        return address_of(self.family, value) if self.family else str(value)


def open_values(
    service: Service, families: Sequence[IpFamily], balancer_families: Collection[IpFamily | None]
) -> Iterator[Request]:
    """Yield what a Service of ``families`` leaves open, in the order in which it is listed.

    A headless one leaves nothing open: it may not be of a type that has node ports.
    """
    spec = service.spec
    if is_headless(spec):
        return
    for family in families[len(given_cluster_ips(spec)) :]:
        yield Request(CLUSTER_IP, ("spec", "clusterIP"), family)
    if allocates_node_ports(spec):
        yield from _open_node_ports(spec)
    if needs_health_check(spec) and not spec.health_check_node_port:
        yield Request(HEALTH_CHECK_NODE_PORT, ("spec", "healthCheckNodePort"))
    if spec.type == "LoadBalancer" and not service.status.load_balancer.ingress:
        for family in families:
            if family in balancer_families:
                yield Request(LOAD_BALANCER_IP, ("status", "loadBalancer", "ingress"), family)


def allocates_node_ports(spec: ServiceSpec) -> bool:
    """Tell whether ports without a node port are given one."""
    return spec.type == "NodePort" or (spec.type == "LoadBalancer" and spec.allocate_load_balancer_node_ports)


def needs_health_check(spec: ServiceSpec) -> bool:
    """Tell whether load balancers ask a port of its own which nodes have endpoints."""
    return spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"


def explicit_node_ports(spec: ServiceSpec) -> Iterator[tuple[str, int, FieldPath]]:
    """Yield each node port that the Service names: its field's name, the port, the field."""
    for position, port in enumerate(spec.ports):
        if port.node_port:
            yield NODE_PORT, port.node_port, ("spec", "ports", position, "nodePort")
    if spec.health_check_node_port:
        yield HEALTH_CHECK_NODE_PORT, spec.health_check_node_port, ("spec", "healthCheckNodePort")


def shared_node_ports(spec: ServiceSpec) -> dict[int, int]:
    """Return the node port named for each port number; the same port of another protocol shares it."""
    if not allocates_node_ports(spec):
        return {}
    named: dict[int, int] = {}
    for port in spec.ports:
        if port.node_port:
            named.setdefault(port.port, port.node_port)
    return named


def _open_node_ports(spec: ServiceSpec) -> Iterator[Request]:
    """Yield one request for each port number without a node port, however many protocols it has."""
    named = shared_node_ports(spec)
    positions: dict[int, list[int]] = {}
    for position, port in enumerate(spec.ports):
        if port.port not in named:
            positions.setdefault(port.port, []).append(position)
    for number, group in positions.items():
        names = [spec.ports[position].name or str(number) for position in group]
        purpose = f" for port {' and '.join(dict.fromkeys(names))}"
        yield Request(NODE_PORT, ("spec", "ports", group[0], "port"), port=number, purpose=purpose)
