"""Small Kubernetes objects for tests: what a test does not say has a plain default."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]


def node(name: str = "node1", *, zone: str = "", addresses: list[str] | None = None, **spec: Any) -> Manifest:
    """Return a Node; an address is an InternalIP, unless written ``TYPE=ADDRESS``."""
    listed = ["192.168.0.2", "fd00:192:168::2"] if addresses is None else addresses
    entries = [text.rpartition("=") for text in listed]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone} if zone else {}},
        "spec": spec,
        "status": {
            "addresses": [{"type": kind or "InternalIP", "address": address} for kind, _, address in entries]
        },
    }


def port(number: int = 80, name: str = "http", protocol: str = "TCP", **fields: Any) -> Manifest:
    """Return a port, of a Service or of a slice."""
    return {"port": number, "name": name, "protocol": protocol, **fields}


def service(
    name: str = "shop/web",
    cluster_ip: str = "10.96.0.10",
    *,
    ports: list[Manifest] | None = None,
    vips: list[str] | None = None,
    ingress: list[Manifest] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    """Return a Service; ``spec`` holds further fields, ``vips`` addresses of its load balancer."""
    namespace, _, own_name = name.rpartition("/")
    entries = [{"ip": vip, "ipMode": "VIP"} for vip in vips or ()] if ingress is None else ingress
    addresses = {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]} if cluster_ip else {}
    if cluster_ip and cluster_ip != "None" and "ipFamilies" not in spec:
        addresses["ipFamilies"] = ["IPv6" if ":" in cluster_ip else "IPv4"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace or "default", "name": own_name, "labels": labels or {}},
        "spec": {**addresses, "ports": [port()] if ports is None else ports, **spec},
        "status": {"loadBalancer": {"ingress": entries}},
    }


def endpoint(
    address: str = "10.180.0.1",
    on: str | None = "node2",
    *,
    ready: bool | None = True,
    serving: bool | None = None,
    terminating: bool | None = None,
    zones: list[str] | None = None,
    nodes: list[str] | None = None,
) -> Manifest:
    """Return an endpoint of a slice, on a node."""
    made: Manifest = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    }
    if on is not None:
        made["nodeName"] = on
    if zones is not None or nodes is not None:
        made["hints"] = {
            "forZones": [{"name": name} for name in zones or ()],
            "forNodes": [{"name": name} for name in nodes or ()],
        }
    return made


def endpoint_slice(
    of: str = "shop/web",
    endpoints: list[Manifest] | None = None,
    *,
    name: str = "",
    ports: list[Manifest] | None = None,
    family: str = "IPv4",
    labels: dict[str, str] | None = None,
) -> Manifest:
    """Return an EndpointSlice of a Service."""
    namespace, _, owner = of.rpartition("/")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace or "default",
            "name": name or f"{owner}-{family.lower()}",
            "labels": {"kubernetes.io/service-name": owner, **(labels or {})},
        },
        "addressType": family,
        "ports": [port(8080)] if ports is None else ports,
        "endpoints": [endpoint()] if endpoints is None else endpoints,
    }


def many_endpoints(count: int, *, ready: bool = True) -> list[Manifest]:
    """Return ``count`` endpoints with addresses of their own."""
    return [endpoint(f"10.180.{number >> 8}.{number & 255}", ready=ready) for number in range(1, count + 1)]
