"""Topology hints: which zones and Nodes should use which endpoints.

Two mechanisms, of which the older wins. The annotation ``service.kubernetes.io/topology-mode`` gives each
zone a share of the endpoints that is proportional to its CPUs, and where that would overload endpoints, no
hints at all. The field ``trafficDistribution`` gives every ready endpoint its own zone, and on request also
its own Node.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

import msgspec

from kproxy_nat.model.endpoints import DerivedEndpoint, EndpointHints, ForNode, ForZone
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import Service
from kproxy_nat.model.workloads import READY

TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
TOPOLOGY_AWARE_HINTS = "service.kubernetes.io/topology-aware-hints"
"""The annotation's older name, which counts where both are there."""

PREFER_SAME_NODE = "PreferSameNode"
TRAFFIC_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", PREFER_SAME_NODE)

OVERLOAD_THRESHOLD = 0.2
"""How much more than its share of traffic an endpoint may get."""

_CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_QUANTITY = re.compile(r"([-+]?[0-9.]+)(?:([eE][-+]?[0-9]+)|([A-Za-z]*))", re.ASCII)
_DECIMAL_POWERS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {
    **{suffix: Decimal(10) ** power for suffix, power in _DECIMAL_POWERS.items()},
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}

Ratios = Mapping[str, float]
"""The share of the cluster's CPUs that each zone has."""


def add_hints(
    service: Service, endpoints: Sequence[DerivedEndpoint], ratios: Ratios
) -> list[DerivedEndpoint]:
    """Return the endpoints of one address type of a Service, with the hints that they get.

    ``ratios`` is what :func:`zone_ratios` returns.
    """
    if is_proportional(service):
        return _proportional(endpoints, ratios)
    distribution = service.spec.traffic_distribution
    if distribution not in TRAFFIC_DISTRIBUTIONS:
        return list(endpoints)
    return [_hint_own(endpoint, node=distribution == PREFER_SAME_NODE) for endpoint in endpoints]


def is_proportional(service: Service) -> bool:
    """Tell whether the annotation, of either name, asks for hints in proportion to CPUs."""
    annotations = service.metadata.annotations
    mode = annotations.get(TOPOLOGY_AWARE_HINTS, annotations.get(TOPOLOGY_MODE))
    return mode in ("Auto", "auto")


def _hint_own(endpoint: DerivedEndpoint, *, node: bool) -> DerivedEndpoint:
    if not endpoint.conditions.ready:
        return endpoint
    zones = [ForZone(endpoint.zone)] if endpoint.zone else None
    nodes = [ForNode(endpoint.node_name)] if node and endpoint.node_name else None
    if not zones and not nodes:
        return endpoint
    return msgspec.structs.replace(endpoint, hints=EndpointHints(zones, nodes))


# --- proportional to CPUs


def zone_ratios(nodes: Iterable[Node]) -> Ratios:
    """Return the zones' shares of CPUs; nothing if a Node lacks zone or CPUs, or there is but one zone.

    Nodes that are not ready do not count, nor do those of the control plane.
    """
    cpus: Counter[str] = Counter()
    for node in nodes:
        if any(label in node.metadata.labels for label in _CONTROL_PLANE_LABELS) or not _is_ready(node):
            continue
        millis = milli_cpus(node)
        if not node.zone or not millis:
            return {}
        cpus[node.zone] += millis
    if len(cpus) < 2:
        return {}
    total = cpus.total()
    return {zone: cpus[zone] / total for zone in sorted(cpus)}


def _is_ready(node: Node) -> bool:
    status = next((c.status for c in node.status.conditions if c.type == READY), "")
    return status == "True"


def milli_cpus(node: Node) -> int:
    """Return a Node's allocatable CPUs in thousandths, rounded up; 0 if it tells none."""
    match = _QUANTITY.fullmatch(str(node.status.allocatable.get("cpu", "")).strip())
    if not match or match[1].count(".") > 1 or not any(map(str.isdigit, match[1])):
        return 0
    number, exponent, suffix = match.groups()
    factor = _SUFFIXES.get(suffix or "")
    if factor is None or len(exponent or "") > 4:
        return 0
    value = Decimal(number + (exponent or "")) * factor * 1000
    return max(int(value.to_integral_value(ROUND_CEILING)), 0)


def _proportional(endpoints: Sequence[DerivedEndpoint], ratios: Ratios) -> list[DerivedEndpoint]:
    ready = [position for position, endpoint in enumerate(endpoints) if endpoint.conditions.ready]
    desired = _desired(len(ready), ratios)
    zones = [endpoints[position].zone for position in ready]
    own = [zone for zone in zones if zone]
    if not desired or len(own) < len(zones):
        return list(endpoints)
    result = list(endpoints)
    for position, zone in zip(ready, _redistribute(own, desired), strict=True):
        hints = EndpointHints([ForZone(zone)])
        result[position] = msgspec.structs.replace(endpoints[position], hints=hints)
    return result


def _desired(count: int, ratios: Ratios) -> dict[str, float]:
    """Return how many endpoints each zone should have; nothing if they are too few for the threshold."""
    if len(ratios) < 2 or len(ratios) > count:
        return {}
    desired = {}
    least = 0
    for zone, ratio in ratios.items():
        share = ratio * count
        minimum = math.ceil(share * (1 / (1 + OVERLOAD_THRESHOLD)))
        desired[zone] = max(share, float(minimum))
        least += minimum
    return desired if least <= count else {}


def _redistribute(own: Sequence[str], desired: Mapping[str, float]) -> list[str]:
    """Return the zone for each endpoint, given its own: as many as must change do, the first ones."""
    giving, receiving = _transfers(Counter(own), desired)
    result = list(own)
    for position, zone in enumerate(own):
        if not giving[zone]:
            continue
        to = next(candidate for candidate in sorted(receiving) if receiving[candidate])
        result[position] = to
        giving[zone] -= 1
        receiving[to] -= 1
    return result


def _transfers(have: Counter[str], desired: Mapping[str, float]) -> tuple[Counter[str], Counter[str]]:
    """Return how many endpoints each zone gives away and gets: whole ones, from the greatest excess first."""
    surplus = {zone: have[zone] - wanted for zone, wanted in desired.items() if have[zone] > wanted}
    deficit = {zone: wanted - have[zone] for zone, wanted in desired.items() if have[zone] < wanted}
    giving: Counter[str] = Counter()
    receiving: Counter[str] = Counter()
    while surplus and deficit:
        giver, excess = _most(surplus)
        receiver, lack = _most(deficit)
        if (excess < 1 and lack < 1) or excess < 0.5 or lack < 0.5:
            break
        giving[giver] += 1
        surplus[giver] -= 1
        receiving[receiver] += 1
        deficit[receiver] -= 1
    return giving, receiving


def _most(zones: Mapping[str, float]) -> tuple[str, float]:
    return max(sorted(zones.items()), key=lambda item: item[1])
