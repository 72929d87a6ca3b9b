"""``discovery.k8s.io/v1`` EndpointSlice and the older ``v1`` Endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from kproxy_nat.model.base import ApiStruct, ObjectMeta

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
HEADLESS_SERVICE_LABEL = "service.kubernetes.io/headless"
SKIP_MIRROR_LABEL = "endpointslice.kubernetes.io/skip-mirror"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
ENDPOINTS_MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
ENDPOINTS_CONTROLLER = "endpoint-controller"
SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
MIRRORING_CONTROLLER = "endpointslicemirroring-controller.k8s.io"


class EndpointConditions(ApiStruct, frozen=True, gc=False):
    """``conditions`` of an endpoint; absent ones are read as ready, serving and not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(ApiStruct, frozen=True, gc=False):
    """One entry of ``hints.forZones``."""

    name: str


class ForNode(ApiStruct, frozen=True, gc=False):
    """One entry of ``hints.forNodes``."""

    name: str


class EndpointHints(ApiStruct, frozen=True, gc=False):
    """``hints``: the zones and nodes that should use an endpoint."""

    for_zones: list[ForZone] | None = None
    for_nodes: list[ForNode] | None = None


class TargetRef(ApiStruct, frozen=True, gc=False):
    """``targetRef`` of an endpoint: the object behind it, a Pod."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class SliceEndpoint(ApiStruct, frozen=True, gc=False):
    """One entry of ``endpoints``. A proxy uses the first address only."""

    addresses: list[str]
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    hints: EndpointHints | None = None


class DerivedEndpoint(SliceEndpoint, frozen=True, gc=False):
    """A derived endpoint, with what no proxy looks at and is therefore not read from slices in manifests."""

    zone: str | None = None
    hostname: str | None = None
    target_ref: TargetRef | None = None


class SlicePort(ApiStruct, frozen=True, gc=False):
    """One entry of ``ports``. The name, not the number, joins it to a Service's port."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None


class EndpointSlice(ApiStruct, frozen=True, gc=False):
    """An EndpointSlice."""

    metadata: ObjectMeta
    address_type: str
    endpoints: Sequence[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None

    @property
    def service_name(self) -> str:
        """The Service that this slice belongs to, or an empty text."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")


class EndpointAddress(ApiStruct, frozen=True, gc=False):
    """One address of a subset of Endpoints."""

    ip: str
    node_name: str | None = None
    hostname: str | None = None
    target_ref: TargetRef | None = None


class EndpointsPort(ApiStruct, frozen=True, gc=False):
    """One port of a subset of Endpoints."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None


class EndpointSubset(ApiStruct, frozen=True, gc=False):
    """Addresses that share the same ports."""

    addresses: list[EndpointAddress] | None = None
    not_ready_addresses: list[EndpointAddress] | None = None
    ports: list[EndpointsPort] | None = None


class Endpoints(ApiStruct, frozen=True, gc=False):
    """An Endpoints object, deprecated in favour of EndpointSlices (KEP-4974)."""

    metadata: ObjectMeta
    subsets: list[EndpointSubset] | None = None
