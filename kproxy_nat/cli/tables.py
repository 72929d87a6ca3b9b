"""Objects as rows, with the columns that ``kubectl get`` has.

The age of objects is ``<unknown>``, as kubectl says of those that tell no time of creation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kproxy_nat.model.endpoints import SERVICE_NAME_LABEL
from kproxy_nat.model.node import ZONE_LABEL
from kproxy_nat.model.workloads import READY

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"
MOST_LISTED = 3
"""How many ports and endpoints of a slice are shown in the narrow table."""

_BALANCER_WIDTH = 16
_GAP = "   "
_ROLE_PREFIX = "node-role.kubernetes.io/"

Object = Mapping[str, Any]
Row = Sequence[str]


def table(header: Row, rows: Sequence[Row]) -> str:
    """Return aligned columns; of no rows, an empty text."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (_GAP.join(map(str.ljust, row, widths)).rstrip() for row in (header, *rows))
    return "".join(f"{line}\n" for line in lines)


def services_table(services: Sequence[Object], *, wide: bool) -> str:
    """Return Services as ``kubectl get services -A`` shows them; ``wide`` adds selectors."""
    header = ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    return table(
        header + ["SELECTOR"] * wide,
        [_service_row(service, wide=wide) for service in services],
    )


def _service_row(service: Object, *, wide: bool) -> list[str]:
    spec = service["spec"]
    external_name = spec["type"] == "ExternalName"
    return [
        *_identity(service),
        spec["type"],
        NONE if external_name else spec.get("clusterIP") or NONE,
        spec.get("externalName", NONE) if external_name else _external_ips(service, wide=wide),
        ",".join(map(_service_port, spec.get("ports", ()))) or NONE,
        UNKNOWN,
        *([_labels(spec.get("selector"))] if wide else []),
    ]


def _external_ips(service: Object, *, wide: bool) -> str:
    spec = service["spec"]
    external = spec.get("externalIPs", [])
    if spec["type"] != "LoadBalancer":
        return ",".join(external) or NONE
    ingress = service["status"]["loadBalancer"].get("ingress", ())
    balancer = ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress)
    if len(balancer) > _BALANCER_WIDTH and not wide:
        balancer = balancer[: _BALANCER_WIDTH - 3] + "..."
    return ",".join([*filter(None, [balancer]), *external]) or "<pending>"


def _service_port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port['protocol']}"


def slices_table(slices: Sequence[Object], *, wide: bool) -> str:
    """Return EndpointSlices as ``kubectl get endpointslices -A`` shows them.

    ``wide`` shows all ports and endpoints, the Service, how many endpoints are ready, and the Nodes.
    """
    header = ["NAMESPACE", "NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    return table(
        header + ["SERVICE", "READY", "NODES"] * wide,
        [_slice_row(one, wide=wide) for one in slices],
    )


def _slice_row(one: Object, *, wide: bool) -> list[str]:
    endpoints = one["endpoints"]
    ports = [str(port.get("port", "*")) for port in one["ports"]]
    addresses = [address for endpoint in endpoints for address in endpoint["addresses"]]
    row = [
        *_identity(one),
        one["addressType"],
        _listed(ports, wide=wide),
        _listed(addresses, wide=wide),
        UNKNOWN,
    ]
    if not wide:
        return row
    ready = sum(endpoint.get("conditions", {}).get("ready", True) for endpoint in endpoints)
    nodes = dict.fromkeys(endpoint["nodeName"] for endpoint in endpoints if endpoint.get("nodeName"))
    service = one["metadata"].get("labels", {}).get(SERVICE_NAME_LABEL, NONE)
    return [*row, service, f"{ready}/{len(endpoints)}", ",".join(nodes) or NONE]


def _listed(texts: Sequence[str], *, wide: bool) -> str:
    if len(texts) > MOST_LISTED and not wide:
        return f"{','.join(texts[:MOST_LISTED])} + {len(texts) - MOST_LISTED} more..."
    return ",".join(texts) or UNSET


def nodes_table(nodes: Sequence[Object], *, wide: bool) -> str:
    """Return Nodes as ``kubectl get nodes`` shows them; ``wide`` adds addresses, zone and pod networks."""
    header = ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    return table(
        header + ["INTERNAL-IP", "EXTERNAL-IP", "ZONE", "POD-CIDRS"] * wide,
        [[*_node_columns(node), *(_wide_node_columns(node) if wide else ())] for node in nodes],
    )


def _node_columns(node: Object) -> Iterator[str]:
    meta, status = node["metadata"], node["status"]
    ready = {c["type"]: c.get("status") for c in status.get("conditions", ())}.get(READY)
    yield meta["name"]
    yield {"True": "Ready", None: "Unknown"}.get(ready, "NotReady")
    labels = meta.get("labels", {})
    roles = (label.removeprefix(_ROLE_PREFIX) for label in labels if label.startswith(_ROLE_PREFIX))
    yield ",".join(sorted(roles)) or NONE
    yield UNKNOWN
    yield status.get("nodeInfo", {}).get("kubeletVersion", UNKNOWN)


def _wide_node_columns(node: Object) -> Iterator[str]:
    for kind in ("InternalIP", "ExternalIP"):
        addresses = node["status"].get("addresses", ())
        yield ",".join(entry["address"] for entry in addresses if entry["type"] == kind) or NONE
    yield node["metadata"].get("labels", {}).get(ZONE_LABEL, NONE)
    spec = node["spec"]
    yield ",".join(spec.get("podCIDRs") or filter(None, [spec.get("podCIDR", "")])) or NONE


def _identity(one: Object) -> tuple[str, str]:
    return one["metadata"]["namespace"], one["metadata"]["name"]


def _labels(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE
