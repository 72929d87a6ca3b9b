"""What a real control plane made of the recorded manifests is derived from them exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kproxy_nat.controlplane.mirroring import mirror_endpoints
from kproxy_nat.controlplane.pods import make_pods
from kproxy_nat.controlplane.slices import derive_slices
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.model.service import Service

RECORDED = Path(__file__).parent / "recorded"


def recorded_cluster() -> Cluster:
    text = (RECORDED / "manifests.yaml").read_text(encoding="utf-8")
    loaded = load_texts([SourceText("manifests.yaml", text)], needs_workloads=lambda _: True)
    assert loaded.problems == []
    assert dict(loaded.passed_over) == {"Namespace": 1}
    loaded.cluster.services = [Sourced(defaulted(s.value), s.origin) for s in loaded.cluster.services]
    return loaded.cluster


def defaulted(service: Service) -> Service:
    """Fill in what the API server of that cluster did."""
    dual = service.spec.ip_family_policy == "RequireDualStack"
    families = ["IPv4", "IPv6"] if dual else ["IPv4"]
    cluster_ip = service.spec.cluster_ip or "10.96.0.77"
    spec = msgspec.structs.replace(service.spec, ip_families=families, cluster_ip=cluster_ip)
    return msgspec.structs.replace(service, spec=spec)


def comparable(made: dict[str, Any]) -> str:
    """A slice without its name, endpoints and ports sorted, as text."""
    meta = made["metadata"]
    parts = {
        "namespace": meta["namespace"],
        "labels": meta["labels"],
        "addressType": made["addressType"],
        "ports": sorted(map(dump, made["ports"])),
        "endpoints": sorted(map(dump, made["endpoints"])),
    }
    return dump(parts)


def dump(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def plain(made: EndpointSlice) -> dict[str, Any]:
    """As the API shows it: ports with name and protocol, also where these are the defaults."""
    data: dict[str, Any] = msgspec.to_builtins(made)
    data["ports"] = [{"name": "", "protocol": "TCP", **port} for port in data.get("ports", [])]
    return data


def test_recorded_slices_are_derived_exactly() -> None:
    cluster = recorded_cluster()
    pods, nodes, derivation = make_pods(cluster, 2)
    assert (derivation.assumptions, derivation.problems) == ([], [])
    assert sorted(map(dump, (p.value for p in pods))) == sorted(map(dump, (p.value for p in cluster.pods)))
    made, derivation = derive_slices(cluster.services, pods, nodes, cluster.slices)
    assert derivation.problems == []
    mirrored, not_mirrored = mirror_endpoints(cluster)
    assert not_mirrored == []
    documents = yaml.safe_load_all((RECORDED / "endpointslices.yaml").read_text(encoding="utf-8"))
    wanted = Counter(map(comparable, documents))
    derived = Counter(comparable(plain(source.value)) for source in (*made, *mirrored))
    assert derived == wanted
    assert wanted.total() == 10
