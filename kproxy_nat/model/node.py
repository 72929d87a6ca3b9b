"""``v1`` Node, as far as a proxy looks at it."""

from __future__ import annotations

import msgspec

from kproxy_nat.model.base import ApiStruct, ObjectMeta

ZONE_LABEL = "topology.kubernetes.io/zone"


class NodeSpec(ApiStruct, frozen=True, gc=False):
    """``spec``."""

    pod_cidr: str = msgspec.field(name="podCIDR", default="")
    pod_cidrs: list[str] = msgspec.field(name="podCIDRs", default_factory=list)


class NodeAddress(ApiStruct, frozen=True, gc=False):
    """One entry of ``status.addresses``; ``type`` is InternalIP, ExternalIP, Hostname, ..."""

    type: str
    address: str


class NodeCondition(ApiStruct, frozen=True, gc=False):
    """One entry of ``status.conditions``."""

    type: str
    status: str = ""


class NodeStatus(ApiStruct, frozen=True, gc=False):
    """``status``."""

    addresses: list[NodeAddress] = []
    allocatable: dict[str, str | int | float] = {}
    conditions: list[NodeCondition] = []


class Node(ApiStruct, frozen=True, gc=False):
    """A Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def zone(self) -> str:
        """The zone label's value, or an empty text."""
        return self.metadata.labels.get(ZONE_LABEL, "")

    @property
    def pod_cidrs(self) -> list[str]:
        """The pod networks, from the field of either age."""
        return self.spec.pod_cidrs or ([self.spec.pod_cidr] if self.spec.pod_cidr else [])
