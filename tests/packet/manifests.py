"""Manifests of dual-stack Services in the cluster of :mod:`tests.packet.world`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.net.addresses import IpFamily
from tests.oracle.compiling import CONFIG_HEADER, Manifest, yaml_text
from tests.packet.world import (
    CLUSTER_IP,
    ENDPOINTS,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE,
    TARGET_PORT,
    TOPOLOGY,
)

PORT = 80
NODE_PORT = 30080
CLUSTER_CIDR = "10.180.0.0/16,fd00:10:180::/48"


def manifests(
    name: str = "web",
    *,
    endpoints: Sequence[Host] = ENDPOINTS,
    transport: Transport = Transport.TCP,
    ready: bool = True,
    load_balancer: bool = False,
    config: dict[str, Any] | None = None,
    **spec: Any,
) -> str:
    """Return the manifests of a cluster with one Service, whose ``spec`` has these fields, too."""
    kind = "LoadBalancer" if load_balancer else "NodePort"
    service = _service(name, {"type": kind, "ports": [_port(transport)], **spec})
    if load_balancer:
        ingress = [{"ip": address, "ipMode": "VIP"} for address in LOAD_BALANCER_IP.values()]
        service["status"] = {"loadBalancer": {"ingress": ingress}}
    slices = [_slice(name, family, endpoints, transport, ready=ready) for family in IpFamily]
    proxy = {**CONFIG_HEADER, "clusterCIDR": CLUSTER_CIDR, **(config or {})}
    return yaml_text([proxy, _node(), service, *slices])


def external_ips() -> list[str]:
    """Return the external IPs of both families, as ``spec.externalIPs`` wants them."""
    return list(EXTERNAL_IP.values())


def _node() -> Manifest:
    status = {"addresses": [{"type": "InternalIP", "address": address} for address in NODE.addresses]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE.name}, "status": status}


def _service(name: str, spec: Manifest) -> Manifest:
    addresses = {
        "clusterIP": CLUSTER_IP[IpFamily.IPV4],
        "clusterIPs": list(CLUSTER_IP.values()),
        "ipFamilies": list(map(str, IpFamily)),
        "ipFamilyPolicy": "RequireDualStack",
    }
    metadata = {"namespace": "shop", "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**addresses, **spec}}


def _port(transport: Transport) -> Manifest:
    return {
        "name": "main",
        "protocol": str(transport),
        "port": PORT,
        "targetPort": TARGET_PORT,
        "nodePort": NODE_PORT,
    }


def _slice(
    service: str, family: IpFamily, endpoints: Sequence[Host], transport: Transport, *, ready: bool
) -> Manifest:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop",
            "name": f"{service}-{family.lower()}",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": str(family),
        "ports": [{"name": "main", "protocol": str(transport), "port": TARGET_PORT}],
        "endpoints": [
            {
                "addresses": [str(endpoint.address(family))],
                "conditions": {"ready": ready},
                "nodeName": _node_of(endpoint),
            }
            for endpoint in endpoints
        ],
    }


def _node_of(pod: Host) -> str:
    return next(node.name for node in TOPOLOGY.nodes if pod in node.pods)
