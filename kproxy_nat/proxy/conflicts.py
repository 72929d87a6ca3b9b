"""Services that claim the same address and port.

kube-proxy settles such a conflict by its random order of Services, anew on every sync. Here the first in the
total order that has endpoints wins, since the first rule that matches does, and the conflict is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.errors import Code, FieldPath, LazyLocation, Problem, Severity
from kproxy_nat.proxy.ports import ServicePort
from kproxy_nat.proxy.view import NodeView, ServiceView

Key = tuple[str, int, str]


def find_conflicts(view: NodeView) -> list[Problem]:
    """Return a warning for each claim on an address and port that another service port has."""
    claimants: dict[Key, list[tuple[ServiceView, FieldPath]]] = {}
    for service in view.services:
        for key, path in _claims(service.port):
            claimants.setdefault(key, []).append((service, path))
    problems: list[Problem] = []
    for key, rivals in claimants.items():
        if len(rivals) > 1:
            winner = next((service for service, _ in rivals if service.has_endpoints), rivals[0][0])
            losers = [(service.port, path) for service, path in rivals if service is not winner]
            problems.extend(_conflict(port, winner.port, key, path) for port, path in losers)
    return problems


def _claims(port: ServicePort) -> Iterator[tuple[Key, FieldPath]]:
    """Yield each address, port and protocol claimed, and by which field; node ports without address."""
    protocol = port.name.protocol
    yield (port.cluster_ip, port.port, protocol), ("spec", "clusterIP")
    addresses = dict.fromkeys((port.cluster_ip,))
    for address in (*port.external_ips, *port.load_balancer_vips):
        if address not in addresses:
            external = address in port.external_ips
            path = ("spec", "externalIPs") if external else ("status", "loadBalancer", "ingress")
            yield (address, port.port, protocol), path
            addresses[address] = None
    if port.node_port:
        yield ("", port.node_port, protocol), ("spec", "ports")


def _conflict(port: ServicePort, winner: ServicePort, key: Key, path: FieldPath) -> Problem:
    address, number, protocol = key
    claimed = f"{address}:{number}" if address else f"nodePort {number}"
    place = f"{winner.origin.source}:{winner.origin.line}"
    return Problem(
        Code.SERVICE_CONFLICT if address else Code.NODE_PORT_CONFLICT,
        f"{claimed}/{protocol} is claimed by {winner.text}, too ({place}), which gets the traffic",
        Severity.WARNING,
        LazyLocation(port.origin, path),
        f"Service {port.text}",
        "the first by name that has endpoints is served; kube-proxy chooses at random on every sync",
    )
