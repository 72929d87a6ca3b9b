"""Short ways to write manifests, and to derive Pods and slices from them."""

from __future__ import annotations

import json
from typing import Any

from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.pods import make_pods
from kproxy_nat.controlplane.slices import derive_slices
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.model.node import Node
from kproxy_nat.model.workloads import Pod

Manifest = dict[str, Any]


def workload(kind: str = "Deployment", name: str = "web", **spec: Any) -> Manifest:
    """``labels``, ``pod`` (the template's spec) and ``owners`` are set apart from the workload's spec."""
    labels = spec.pop("labels", {"app": name})
    pod = spec.pop("pod", {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]})
    meta = {"name": name, "namespace": "shop", "ownerReferences": spec.pop("owners", [])}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": {**spec, "template": template}}


def pod(
    name: str = "web-0",
    ip: str | list[str] = "",
    node: str = "",
    labels: dict[str, str] | None = None,
    **parts: Any,
) -> Manifest:
    """A Pod; with an IP it is a cluster's own: Running, and Ready unless ``ready`` says otherwise."""
    ips = [ip] if isinstance(ip, str) and ip else list(ip)
    status: Manifest = parts.pop("status", {})
    ready = parts.pop("ready", "True")
    if ips:
        status = {
            "phase": "Running",
            "podIP": ips[0],
            "podIPs": [{"ip": text} for text in ips],
            "conditions": [{"type": "Ready", "status": ready}],
            **status,
        }
    meta = {
        "name": name,
        "namespace": parts.pop("namespace", "shop"),
        "labels": {"app": "web"} if labels is None else labels,
        "ownerReferences": parts.pop("owners", []),
        **parts.pop("meta", {}),
    }
    spec = {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}], **parts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {**spec, "nodeName": node},
        "status": status,
    }


def node(name: str = "n1", *cidrs: str, zone: str = "", cpu: str = "4", **parts: Any) -> Manifest:
    """A ready Node with an internal IP of each family."""
    labels = {**({"topology.kubernetes.io/zone": zone} if zone else {}), **parts.pop("labels", {})}
    status = {
        "addresses": [
            {"type": "InternalIP", "address": "192.0.2.10"},
            {"type": "InternalIP", "address": "2001:db8::10"},
        ],
        "allocatable": {"cpu": cpu} if cpu else {},
        "conditions": [{"type": "Ready", "status": parts.pop("ready", "True")}],
        **parts,
    }
    spec = {"podCIDRs": list(cidrs)}
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec, "status": status}


def service(name: str = "web", target: int | str | None = None, **spec: Any) -> Manifest:
    """A Service of shop; ``labels``, ``annotations`` and ``namespace`` go to its metadata."""
    meta = {
        "name": name,
        "namespace": spec.pop("namespace", "shop"),
        "labels": spec.pop("labels", {}),
        "annotations": spec.pop("annotations", {}),
    }
    port = {"name": "http", "port": 80, **({} if target is None else {"targetPort": target})}
    defaults = {
        "clusterIP": "10.96.0.10",
        "ipFamilies": ["IPv4"],
        "selector": {"app": "web"},
        "ports": [port],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {**defaults, **spec}}


def load(*manifests: Manifest) -> Cluster:
    if not manifests:
        return Cluster()
    text = "\n".join(json.dumps(one) for one in manifests)
    loaded = load_texts([SourceText("x.json", text)], needs_workloads=lambda _: True)
    assert loaded.problems == []
    return loaded.cluster


def pods_from(
    *manifests: Manifest, assume_nodes: int = 2
) -> tuple[dict[str, Pod], dict[str, Node], Derivation]:
    """Pods and Nodes by name, and the derivation."""
    pods, nodes, derivation = make_pods(load(*manifests), assume_nodes)
    by_name = {source.value.metadata.name: source.value for source in pods}
    assert len(by_name) == len(pods)
    return by_name, {source.value.metadata.name: source.value for source in nodes}, derivation


def slices_from(*manifests: Manifest) -> tuple[list[EndpointSlice], Derivation]:
    """The slices made from Pods and Nodes as they are, without making any."""
    cluster = load(*manifests)
    made, derivation = derive_slices(cluster.services, cluster.pods, cluster.nodes, cluster.slices)
    return [source.value for source in made], derivation


def complete(cluster: Cluster, assume_nodes: int = 2) -> Derivation:
    """Make Pods, Nodes and slices, and put them into ``cluster``."""
    cluster.pods, cluster.nodes, derivation = make_pods(cluster, assume_nodes)
    made, more = derive_slices(cluster.services, cluster.pods, cluster.nodes, cluster.slices)
    cluster.slices.extend(made)
    derivation.problems.extend(more.problems)
    return derivation
