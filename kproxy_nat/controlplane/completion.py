"""From what somebody typed to what a cluster would hold: addresses, Pods and EndpointSlices."""

from __future__ import annotations

from dataclasses import dataclass, field

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.controlplane.pods import make_pods
from kproxy_nat.controlplane.slices import derive_slices, services_without_slices
from kproxy_nat.model.cluster import Cluster


@dataclass(frozen=True, slots=True)
class ControlPlaneOptions:
    """The ranges of the cluster, and how many Nodes to assume where the input has none."""

    allocation: AllocationOptions = field(default_factory=AllocationOptions)
    assume_nodes: int = 2


def complete_cluster(cluster: Cluster, options: ControlPlaneOptions) -> Derivation:
    """Fill in what the manifests leave open; what they say stands.

    Pods are made, and Nodes assumed, only where a Service with a selector has no EndpointSlice.
    """
    cluster.services, allocated = complete_services(cluster.services, options.allocation)
    if not services_without_slices(cluster.services, cluster.slices):
        return allocated
    cluster.pods, cluster.nodes, placed = make_pods(cluster, options.assume_nodes)
    slices, derived = derive_slices(cluster.services, cluster.pods, cluster.nodes, cluster.slices)
    cluster.slices = [*cluster.slices, *slices]
    parts = (allocated, placed, derived)
    return Derivation(
        [assumption for part in parts for assumption in part.assumptions],
        [problem for part in parts for problem in part.problems],
    )
