"""``kubeproxy.config.k8s.io/v1alpha1`` KubeProxyConfiguration: the fields that change rules."""

from __future__ import annotations

import msgspec

from kproxy_nat.model.base import ApiStruct

FIELDS_WITHOUT_EFFECT = frozenset(
    """apiVersion kind metadata bindAddressHardFail clientConnection configSyncPeriod enableProfiling
    healthzBindAddress ipvs logging metricsBindAddress minSyncPeriod oomScoreAdj portRange
    showHiddenMetricsForVersion syncPeriod udpIdleTimeout windowsRunAsService winkernel""".split()
)
"""Valid top-level fields that no rule depends on; any other unknown field is a mistake worth a warning."""


class DetectLocalConfig(ApiStruct, frozen=True, gc=False):
    """``detectLocal``: parameters of the interface modes of ``detectLocalMode``."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""


class IptablesConfig(ApiStruct, frozen=True, gc=False):
    """``iptables``: options of that mode."""

    masquerade_bit: int | None = None
    masquerade_all: bool = False
    localhost_node_ports: bool | None = None


class NftablesConfig(ApiStruct, frozen=True, gc=False):
    """``nftables``: options of that mode."""

    masquerade_bit: int | None = None
    masquerade_all: bool = False


class ConntrackConfig(ApiStruct, frozen=True, gc=False):
    """``conntrack``: whether packets out of the TCP window count as INVALID."""

    tcp_be_liberal: bool = False


class KubeProxyConfiguration(ApiStruct, frozen=True, gc=False):
    """The configuration file of kube-proxy."""

    mode: str = ""
    hostname_override: str = ""
    bind_address: str = ""
    cluster_cidr: str = msgspec.field(name="clusterCIDR", default="")
    detect_local_mode: str = ""
    detect_local: DetectLocalConfig = DetectLocalConfig()
    node_port_addresses: list[str] = []
    iptables: IptablesConfig = IptablesConfig()
    nftables: NftablesConfig = NftablesConfig()
    conntrack: ConntrackConfig = ConntrackConfig()
    feature_gates: dict[str, bool] = {}


KNOWN_FIELDS = frozenset(KubeProxyConfiguration.__struct_encode_fields__) | FIELDS_WITHOUT_EFFECT

KNOWN_NESTED_FIELDS = {
    "iptables": frozenset((*IptablesConfig.__struct_encode_fields__, "syncPeriod", "minSyncPeriod")),
    "nftables": frozenset((*NftablesConfig.__struct_encode_fields__, "syncPeriod", "minSyncPeriod")),
    "detectLocal": frozenset((*DetectLocalConfig.__struct_encode_fields__, "clusterCIDRs")),
    "conntrack": frozenset(
        (
            *ConntrackConfig.__struct_encode_fields__,
            *("maxPerCore", "min", "tcpEstablishedTimeout"),
            *("tcpCloseWaitTimeout", "udpTimeout", "udpStreamTimeout"),
        )
    ),
}
"""The fields of the parts that rules depend on, those without effect included."""
