"""What the rules of one node show of a Service: less than its manifest says, but all that packets meet."""

from __future__ import annotations

from fractions import Fraction

import msgspec

from kproxy_nat.net.addresses import IpFamily

CLUSTER_IP = "cluster IP"
EXTERNAL_IP = "external IP"
LOAD_BALANCER_IP = "load balancer IP"
EXTERNAL_ADDRESS = "external address"
"""An external IP or load balancer IP: where all traffic is refused, rules do not tell which."""

CLUSTER = "Cluster"
LOCAL = "Local"
REJECT = "REJECT"
DROP = "DROP"

CUT = "..."
"""The end of a name in the comment of an element of nftables that has no room for all of it."""

Shares = dict[str, Fraction]
"""Endpoints as ``address:port``, in the order of the rules, each with its part of new connections."""


class PortKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """What identifies a service port in one family: ``namespace/name:port``, and the protocol."""

    service: str
    protocol: str

    @property
    def namespace_and_name(self) -> str:
        """The Service that the port belongs to."""
        return self.service.partition(":")[0]

    @property
    def is_named(self) -> bool:
        """Whether rules tell the Service; otherwise there is an address in the place of its name."""
        return "/" in self.service

    def __str__(self) -> str:
        """Return both as one text."""
        return f"{self.service}/{self.protocol}"


IPTABLES, NFTABLES = "iptables", "nftables"
KUBE_PROXY, COMPACT = "kube-proxy", "compact"


class RecoveredPort(msgspec.Struct, frozen=True):
    """A service port, as the rules of one family implement it.

    What the rules do not show has its empty value: a policy without any traffic that it could decide about,
    source ranges without endpoints. Rules of nftables show no health check, and of an address that is no
    cluster IP only with source ranges that it is a load balancer's; those of iptables show source ranges
    only where there are endpoints.

    Attributes:
        cluster_ip: empty if no rule mentions it.
        addresses: further addresses, each with its kind.
        node_port: 0 for none, as with ``health_check_node_port``.
        internal_policy: of traffic to the cluster IP: Cluster, Local or empty, as ``external_policy``.
        pods_are: the condition by which the external policy Local knows traffic of pods, if it does.
        source_ranges: which clients may use the load balancer's addresses; empty for all.
        admits_node: whether the load balancer's own addresses are admitted, as the node is in a range.
        affinity_seconds: 0 without session affinity.
        masquerade: the traffic to the cluster IP that is masqueraded: a condition, or "all", or nothing.
        cluster: endpoints of the policy Cluster.
        local: endpoints of the policy Local.
        internal_verdict: what happens to traffic to the cluster IP that has no endpoint.
        external_verdict: the same for traffic to the other addresses.
        rest: rules of the service port that are none of a Service, as text.
        mode: of the proxy, iptables or nftables.
        on_node: endpoints that the rules of nftables know to be on this node, sorted.
    """

    key: PortKey
    family: IpFamily
    cluster_ip: str = ""
    port: int = 0
    addresses: dict[str, str] = {}
    node_port: int = 0
    health_check_node_port: int = 0
    internal_policy: str = ""
    external_policy: str = ""
    pods_are: str = ""
    source_ranges: tuple[str, ...] = ()
    admits_node: bool = False
    affinity_seconds: int = 0
    masquerade: str = ""
    cluster: Shares = {}
    local: Shares = {}
    internal_verdict: str = ""
    external_verdict: str = ""
    rest: tuple[str, ...] = ()
    mode: str = IPTABLES
    on_node: tuple[str, ...] = ()

    @property
    def shows_source_ranges(self) -> bool:
        """Whether the rules would show source ranges, if there were any."""
        if self.mode == NFTABLES:
            return bool(self.addresses)
        return bool(self.endpoints) and LOAD_BALANCER_IP in self.addresses.values()

    @property
    def internal_endpoints(self) -> Shares:
        """The endpoints that serve the cluster IP."""
        return self.local if self.internal_policy == LOCAL else self.cluster

    @property
    def external_endpoints(self) -> Shares:
        """The endpoints that serve clients from outside."""
        return self.local if self.external_policy == LOCAL else self.cluster

    @property
    def endpoints(self) -> list[str]:
        """All endpoints, sorted."""
        return sorted(self.cluster.keys() | self.local.keys())


class NodeSettings(msgspec.Struct, frozen=True):
    """What the rules show of the proxy's options.

    Attributes:
        masquerade_mark: the packet mark for traffic to be masqueraded, 0 if there is no such rule.
        node_ports_on: the conditions on addresses that serve node ports; ``None`` where the rules do not show
            them, as those of the compact layout without node ports.
        guards_localhost: whether neighbours are kept from loopback addresses.
        drops_invalid: whether packets that conntrack calls INVALID are dropped.
        random_fully: whether masquerading draws ports at random.
        mode: of the proxy, iptables or nftables; empty if there are no rules of Services.
        layout: how the rules are arranged; empty where they do not show it, as those of nftables without a
            Service that has endpoints.
        cluster_ip_masquerade: in nftables mode, which traffic to all cluster IPs is masqueraded, as
            :attr:`RecoveredPort.masquerade`.
        masquerades_hairpin: whether what an endpoint sends to itself is masqueraded, as far as that is one
            rule for all of them.
        service_cidrs: networks in which traffic to addresses of no Service is dropped.
    """

    masquerade_mark: int = 0
    node_ports_on: tuple[str, ...] | None = ()
    guards_localhost: bool = False
    drops_invalid: bool = False
    random_fully: bool = False
    mode: str = ""
    layout: str = ""
    cluster_ip_masquerade: str = ""
    masquerades_hairpin: bool = False
    service_cidrs: tuple[str, ...] = ()

    def is_arranged_unlike(self, other: NodeSettings) -> bool:
        """Whether both are there, in different modes or layouts."""
        if not (self.mode and other.mode):
            return False
        layouts_differ = bool(self.layout and other.layout) and self.layout != other.layout
        return self.mode != other.mode or layouts_differ
