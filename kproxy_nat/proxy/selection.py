"""Which of its endpoints a service port uses on this node.

The fall-backs (KEP-1669 for terminating endpoints, KEP-2433 and KEP-3015 for hints) are decided here, once,
for every layout.
"""

from __future__ import annotations

import enum

import msgspec

from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.ports import ServicePort


class Topology(enum.Enum):
    """How hints narrow the choice of endpoints."""

    NONE = "none"
    SAME_NODE = "PreferSameNode"
    SAME_ZONE = "PreferSameZone"


class Selection(msgspec.Struct, frozen=True, gc=False):
    """The endpoints of a service port, by use.

    ``cluster`` and ``local`` serve the policies Cluster and Local; ``reachable`` is their union, what rules
    must exist for. ``any_usable`` is false when no node could serve the port.
    """

    cluster: list[Endpoint] = []
    local: list[Endpoint] = []
    reachable: list[Endpoint] = []
    any_usable: bool = False


def select_endpoints(port: ServicePort, endpoints: list[Endpoint], node_name: str, zone: str) -> Selection:
    """Sort the endpoints of ``port`` into the categories of :class:`Selection`, keeping their order."""
    if not endpoints:
        return Selection()
    topology = topology_of(endpoints, node_name, zone)
    cluster: list[Endpoint] = []
    if port.uses_cluster_endpoints:
        cluster = _cluster_endpoints(endpoints, topology, node_name, zone)
    if not port.uses_local_endpoints:
        return Selection(cluster, [], cluster, bool(cluster))
    usable = any(e.ready or (e.serving and e.terminating) for e in endpoints)
    local = [e for e in endpoints if e.is_local and e.ready]
    fell_back = False
    if not local:
        local = [e for e in endpoints if e.is_local and e.serving and e.terminating]
        fell_back = bool(local)
    if not port.uses_cluster_endpoints:
        return Selection(cluster, local, local, usable)
    if topology is Topology.NONE and not fell_back:
        reachable = cluster
    else:
        reachable = sorted({e.text: e for e in (*cluster, *local)}.values(), key=lambda e: e.text)
    return Selection(cluster, local, reachable, bool(cluster) or usable)


def topology_of(endpoints: list[Endpoint], node_name: str, zone: str) -> Topology:
    """Decide how hints apply: all ready endpoints must carry them, and one must name this node or zone."""
    ready = [e for e in endpoints if e.ready]
    if not ready or not (ready[0].node_hints or ready[0].zone_hints):
        return Topology.NONE
    if all(e.node_hints for e in ready) and any(node_name in e.node_hints for e in ready):
        return Topology.SAME_NODE
    if all(e.zone_hints for e in ready) and any(zone in e.zone_hints for e in ready):
        return Topology.SAME_ZONE
    return Topology.NONE


def _cluster_endpoints(
    endpoints: list[Endpoint], topology: Topology, node_name: str, zone: str
) -> list[Endpoint]:
    if topology is Topology.NONE:
        chosen = [e for e in endpoints if e.ready]
    elif topology is Topology.SAME_NODE:
        chosen = [e for e in endpoints if e.ready and node_name in e.node_hints]
    else:
        chosen = [e for e in endpoints if e.ready and zone in e.zone_hints]
    return chosen or [e for e in endpoints if e.serving and e.terminating]
