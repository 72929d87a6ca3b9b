"""Objects as an API server would show them: what was typed, with what was derived and what is the default.

Nothing is left out of what was typed. Identities that only a cluster can give (uid, resourceVersion, owner
references, timestamps) are not made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kproxy_nat.controlplane.families import is_headless
from kproxy_nat.model.base import ObjectMeta
from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import LoadBalancerIngress, Service, ServicePortSpec, ServiceSpec

Object = dict[str, Any]


def stored_service(service: Service, typed: Mapping[str, Any]) -> Object:
    """Return a completed Service as an object; ``typed`` is what it was completed from."""
    spec = service.spec
    stored = {**typed.get("spec", {}), **_addresses(spec), "type": spec.type or "ClusterIP"}
    stored |= _defaults(spec, stored)
    typed_ports = typed.get("spec", {}).get("ports", [])
    ports = [_port(port, given) for port, given in zip(spec.ports, typed_ports, strict=True)]
    if ports:
        stored["ports"] = ports
    if spec.health_check_node_port:
        stored["healthCheckNodePort"] = spec.health_check_node_port
    status = {**typed.get("status", {}), "loadBalancer": _load_balancer(service, typed)}
    return _object("v1", "Service", _metadata(service.metadata, typed), spec=stored, status=status)


def stored_slice(endpoint_slice: EndpointSlice, typed: Mapping[str, Any]) -> Object:
    """Return an EndpointSlice as an object; ``typed`` is empty for one that was derived."""
    made: Object = msgspec.to_builtins(endpoint_slice)
    ports = [{"name": "", "protocol": "TCP", **port} for port in (typed or made).get("ports") or ()]
    return _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        _metadata(endpoint_slice.metadata, typed),
        addressType=made["addressType"],
        endpoints=(typed or made).get("endpoints") or [],
        ports=ports,
    )


def stored_node(node: Node, typed: Mapping[str, Any]) -> Object:
    """Return a Node as an object; ``typed`` is empty for one that was assumed."""
    made: Object = msgspec.to_builtins(node)
    parts = {part: (typed or made).get(part, {}) for part in ("spec", "status")}
    metadata = typed.get("metadata") or {"name": node.metadata.name, "labels": node.metadata.labels}
    return _object("v1", "Node", metadata, **parts)


def _object(api_version: str, kind: str, metadata: Mapping[str, Any], **parts: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": dict(metadata), **parts}


def _metadata(meta: ObjectMeta, typed: Mapping[str, Any]) -> Object:
    made: Object = msgspec.to_builtins(meta)
    identity = {"name": meta.name, "namespace": meta.namespace}
    return {**identity, **(typed.get("metadata") or made), **identity}


def _addresses(spec: ServiceSpec) -> Object:
    """Return the addresses and families that the Service has; ExternalName has none."""
    fields: Object = {
        "clusterIP": spec.cluster_ip,
        "clusterIPs": spec.cluster_ips,
        "ipFamilies": spec.ip_families,
        "ipFamilyPolicy": spec.ip_family_policy,
    }
    return {name: value for name, value in fields.items() if value}


def _defaults(spec: ServiceSpec, typed: Mapping[str, Any]) -> Object:
    """Return what the API server writes into ``spec`` where nothing is given."""
    affinity = spec.session_affinity or "None"
    defaults: Object = {"sessionAffinity": affinity}
    if affinity == "ClientIP":
        defaults["sessionAffinityConfig"] = msgspec.to_builtins(spec.session_affinity_config) | {
            "clientIP": {"timeoutSeconds": spec.session_affinity_config.client_ip.timeout_seconds}
        }
    if spec.type != "ExternalName":
        defaults["internalTrafficPolicy"] = spec.internal_traffic_policy
    if spec.type in ("NodePort", "LoadBalancer") or (spec.external_ips and not is_headless(spec)):
        defaults["externalTrafficPolicy"] = spec.external_traffic_policy or "Cluster"
    if spec.type == "LoadBalancer":
        defaults["allocateLoadBalancerNodePorts"] = spec.allocate_load_balancer_node_ports
    return {name: value for name, value in defaults.items() if name not in typed or not typed[name]}


def _port(port: ServicePortSpec, typed: Mapping[str, Any]) -> Object:
    target = {"targetPort": port.target_port or port.port}
    node_port = {"nodePort": port.node_port} if port.node_port else {}
    return {**typed, "protocol": port.protocol, **target, **node_port}


def _load_balancer(service: Service, typed: Mapping[str, Any]) -> Object:
    given: Object = typed.get("status", {}).get("loadBalancer", {})
    ingress = service.status.load_balancer.ingress
    if not ingress:
        return given
    if given.get("ingress"):
        entries = [
            entry if "ipMode" in entry or not entry.get("ip") else {**entry, "ipMode": "VIP"}
            for entry in given["ingress"]
        ]
        return {**given, "ingress": entries}
    return {**given, "ingress": [_ingress(entry) for entry in ingress]}


def _ingress(entry: LoadBalancerIngress) -> Object:
    return {"ip": entry.ip, "ipMode": entry.ip_mode}
