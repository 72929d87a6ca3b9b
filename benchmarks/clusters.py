"""Clusters for benchmarks: plain ClusterIP Services, as kubectl prints them."""

from __future__ import annotations

from typing import Any


def cluster(services: int, endpoints: int) -> list[dict[str, Any]]:
    """Return a Node, and Services with one port and one slice of ``endpoints`` each."""
    items: list[dict[str, Any]] = [node()]
    for number in range(services):
        items += [service(number), endpoint_slice(number, endpoints)]
    return items


def node() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-0", "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]},
    }


def service(number: int) -> dict[str, Any]:
    address = f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"svc-{number}", "namespace": f"ns-{number % 50}"},
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": f"svc-{number}"},
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(number: int, endpoints: int) -> dict[str, Any]:
    name, namespace = f"svc-{number}", f"ns-{number % 50}"
    return {
        "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": [
            endpoint(number * endpoints + position, name, namespace) for position in range(endpoints)
        ],
        "kind": "EndpointSlice",
        "metadata": {
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
            },
            "name": f"{name}-abcde",
            "namespace": namespace,
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def endpoint(number: int, service_name: str, namespace: str) -> dict[str, Any]:
    return {
        "addresses": [f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{number % 100}",
        "targetRef": {
            "kind": "Pod",
            "name": f"{service_name}-{number}",
            "namespace": namespace,
            "uid": f"00000000-0000-0000-0000-{number:012d}",
        },
    }
