"""All objects of an input, together."""

from __future__ import annotations

from dataclasses import dataclass, field

from kproxy_nat.model.base import Sourced
from kproxy_nat.model.config import KubeProxyConfiguration
from kproxy_nat.model.endpoints import Endpoints, EndpointSlice
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import Service
from kproxy_nat.model.workloads import Pod, Workload


@dataclass(slots=True)
class Cluster:
    """What an API server would hold, as far as the manifests tell."""

    services: list[Sourced[Service]] = field(default_factory=list)
    slices: list[Sourced[EndpointSlice]] = field(default_factory=list)
    endpoints: list[Sourced[Endpoints]] = field(default_factory=list)
    nodes: list[Sourced[Node]] = field(default_factory=list)
    pods: list[Sourced[Pod]] = field(default_factory=list)
    workloads: list[Sourced[Workload]] = field(default_factory=list)
    configs: list[Sourced[KubeProxyConfiguration]] = field(default_factory=list)
