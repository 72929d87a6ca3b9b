"""``v1`` Pod and the workloads that make Pods, as far as endpoints come from them."""

from __future__ import annotations

import msgspec

from kproxy_nat.model.base import ApiStruct, ObjectMeta

READY = "Ready"
ENDED_PHASES = ("Succeeded", "Failed")
PHASES = ("", "Pending", "Running", *ENDED_PHASES, "Unknown")
"""An empty phase is that of a Pod typed by hand; the API server always writes one."""


class ContainerPort(ApiStruct, frozen=True, gc=False):
    """One entry of a container's ``ports``."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(ApiStruct, frozen=True, gc=False):
    """A container. An init container with ``restartPolicy`` Always is a sidecar."""

    name: str = ""
    ports: list[ContainerPort] = []
    restart_policy: str = ""


class PodSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a Pod."""

    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    containers: list[Container] = []
    init_containers: list[Container] = []


class PodIp(ApiStruct, frozen=True, gc=False):
    """One entry of ``status.podIPs``."""

    ip: str


class PodCondition(ApiStruct, frozen=True, gc=False):
    """One entry of ``status.conditions``."""

    type: str
    status: str = ""


class PodStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of a Pod. A Pod typed by hand has none."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[PodIp] = msgspec.field(name="podIPs", default_factory=list)
    conditions: list[PodCondition] = []


class OwnerReference(ApiStruct, frozen=True, gc=False):
    """One entry of ``metadata.ownerReferences``."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool = False


class OwnedMeta(ObjectMeta, frozen=True, gc=False):
    """``metadata`` of an object that another one may have made."""

    owner_references: list[OwnerReference] = []


class PodMeta(OwnedMeta, frozen=True, gc=False):
    """``metadata`` of a Pod: a deletion timestamp means that it is terminating."""

    deletion_timestamp: str | None = None


class Pod(ApiStruct, frozen=True, gc=False):
    """A Pod."""

    metadata: PodMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ips(self) -> list[str]:
        """The addresses, from the field of either age."""
        return [entry.ip for entry in self.status.pod_ips] or (
            [self.status.pod_ip] if self.status.pod_ip else []
        )

    @property
    def has_ended(self) -> bool:
        """Whether all its containers are done for good."""
        return self.status.phase in ENDED_PHASES

    @property
    def is_ready(self) -> bool:
        """Whether its condition Ready is True; without that condition it is not."""
        for condition in self.status.conditions:
            if condition.type == READY:
                return condition.status == "True"
        return False


class PodTemplateMeta(ApiStruct, frozen=True, gc=False):
    """``metadata`` of a Pod template."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(ApiStruct, frozen=True, gc=False):
    """``spec.template`` of a workload."""

    metadata: PodTemplateMeta = PodTemplateMeta()
    spec: PodSpec = PodSpec()


class LabelSelector(ApiStruct, frozen=True, gc=False):
    """``spec.selector`` of a workload, as far as it is compared with the template."""

    match_labels: dict[str, str] = {}


class Ordinals(ApiStruct, frozen=True, gc=False):
    """``spec.ordinals`` of a StatefulSet."""

    start: int = 0


class WorkloadSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a workload; a DaemonSet has no replicas, a StatefulSet alone has the last two fields."""

    template: PodTemplate
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    service_name: str = ""
    ordinals: Ordinals = Ordinals()


class Workload(ApiStruct, frozen=True, gc=False):
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet; ``kind`` tells which."""

    metadata: OwnedMeta
    spec: WorkloadSpec
    kind: str = ""


class Deployment(Workload, frozen=True, gc=False):
    """A Deployment, also as an item of a list that leaves the kind out."""

    kind: str = "Deployment"


class ReplicaSet(Workload, frozen=True, gc=False):
    """A ReplicaSet, also as an item of a list that leaves the kind out."""

    kind: str = "ReplicaSet"


class StatefulSet(Workload, frozen=True, gc=False):
    """A StatefulSet, also as an item of a list that leaves the kind out."""

    kind: str = "StatefulSet"


class DaemonSet(Workload, frozen=True, gc=False):
    """A DaemonSet, also as an item of a list that leaves the kind out."""

    kind: str = "DaemonSet"
