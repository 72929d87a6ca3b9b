"""Services that claim the same address and port.

kube-proxy settles such a conflict by its random order of Services, anew on every sync. Here the first in the
total order wins (rules match in order), and the conflict is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.errors import Code, FieldPath, Problem, Severity
from kproxy_nat.proxy.ports import ServicePort
from kproxy_nat.proxy.view import NodeView


def find_conflicts(view: NodeView) -> list[Problem]:
    """Return a warning for each claim on an address and port that another service port holds already."""
    holders: dict[tuple[str, int, str], ServicePort] = {}
    problems: list[Problem] = []
    for service in view.services:
        port = service.port
        for address, number, path in _claims(port):
            holder = holders.setdefault((address, number, port.protocol), port)
            if holder is not port:
                problems.append(_conflict(port, holder, address, number, path))
    return problems


def _claims(port: ServicePort) -> Iterator[tuple[str, int, FieldPath]]:
    """Yield each (address, port number, field) that the service port claims; no address means a node port."""
    yield port.cluster_ip, port.port, ("spec", "clusterIP")
    for address in dict.fromkeys(port.external_ips):
        yield address, port.port, ("spec", "externalIPs")
    for address in dict.fromkeys(port.load_balancer_vips):
        yield address, port.port, ("status", "loadBalancer", "ingress")
    if port.node_port:
        yield "", port.node_port, ("spec", "ports")


def _conflict(port: ServicePort, holder: ServicePort, address: str, number: int, path: FieldPath) -> Problem:
    claimed = f"{address}:{number}" if address else f"nodePort {number}"
    place = f"{holder.origin.source}:{holder.origin.line}"
    return Problem(
        Code.SERVICE_CONFLICT if address else Code.NODE_PORT_CONFLICT,
        f"{claimed}/{port.name.protocol} belongs to {holder.text} ({place}) already",
        Severity.WARNING,
        port.origin.locate(path),
        f"Service {port.text}",
        f"{holder.text} is served, as the first by name; kube-proxy chooses at random on every sync",
    )
