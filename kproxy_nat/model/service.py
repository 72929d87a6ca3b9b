"""``v1`` Service."""

from __future__ import annotations

import msgspec

from kproxy_nat.model.base import ApiStruct, ObjectMeta

HEADLESS = "None"
SERVICE_PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"


class ServicePortSpec(ApiStruct, frozen=True, gc=False):
    """One entry of ``spec.ports``."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    node_port: int = 0
    app_protocol: str | None = None


class ClientIpConfig(ApiStruct, frozen=True, gc=False):
    """``spec.sessionAffinityConfig.clientIP``; the API server's default is three hours."""

    timeout_seconds: int = 10800


class SessionAffinityConfig(ApiStruct, frozen=True, gc=False):
    """``spec.sessionAffinityConfig``."""

    client_ip: ClientIpConfig = msgspec.field(name="clientIP", default=ClientIpConfig())


class ServiceSpec(ApiStruct, frozen=True, gc=False):
    """``spec``, with the API server's defaults. ``target_port`` and ``selector`` do not concern a proxy."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: list[str] = msgspec.field(name="clusterIPs", default_factory=list)
    ip_families: list[str] = []
    ports: list[ServicePortSpec] = []
    selector: dict[str, str] | None = None
    external_ips: list[str] = msgspec.field(name="externalIPs", default_factory=list)
    load_balancer_source_ranges: list[str] = []
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig = SessionAffinityConfig()
    internal_traffic_policy: str = "Cluster"
    external_traffic_policy: str = "Cluster"
    health_check_node_port: int = 0
    ip_family_policy: str = ""
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""
    allocate_load_balancer_node_ports: bool = True


class LoadBalancerIngress(ApiStruct, frozen=True, gc=False):
    """One entry of ``status.loadBalancer.ingress``."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = "VIP"


class LoadBalancerStatus(ApiStruct, frozen=True, gc=False):
    """``status.loadBalancer``."""

    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(ApiStruct, frozen=True, gc=False):
    """``status``."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(ApiStruct, frozen=True, gc=False):
    """A Service."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def is_headless(self) -> bool:
        """Whether the Service asked for no cluster IP."""
        return self.spec.cluster_ip == HEADLESS
