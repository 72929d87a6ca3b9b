"""The options of one node's proxy: configuration, command line and Node object, brought together."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kproxy_nat.errors import Code, InvalidInputError, Location, Problem, Severity
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.config import KubeProxyConfiguration
from kproxy_nat.model.node import Node
from kproxy_nat.model.node_validation import NODE_IP_TYPES, PRIMARY, split_cidrs
from kproxy_nat.net.addresses import (
    Address,
    Cidr,
    IpFamily,
    address_value,
    cidr_contains,
    family_of,
    host_network,
    is_loopback,
    parse_address,
    parse_cidr,
    prefix_length,
)

LOOPBACK = {IpFamily.IPV4: Address("127.0.0.1"), IpFamily.IPV6: Address("::1")}
EVERYTHING = {IpFamily.IPV4: Cidr("0.0.0.0/0"), IpFamily.IPV6: Cidr("::/0")}
DEFAULT_MASQUERADE_BIT = 14

T = TypeVar("T")


class ProxyMode(enum.StrEnum):
    """The mode of the proxy: whose rules it writes, and with whose defaults."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True)
class LocalCidr:
    """Traffic from this pod network counts as the cluster's own."""

    cidr: Cidr


@dataclass(frozen=True, slots=True)
class LocalInterface:
    """Traffic that enters through this interface counts as the cluster's own."""

    name: str


@dataclass(frozen=True, slots=True)
class LocalInterfacePrefix:
    """Traffic that enters through an interface of this name prefix counts as the cluster's own."""

    prefix: str


LocalDetector = LocalCidr | LocalInterface | LocalInterfacePrefix


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Everything besides Services and endpoints that changes a node's rules, resolved."""

    node_name: str
    zone: str
    node_ips: Mapping[IpFamily, Address]
    local_addresses: tuple[Address, ...]
    detectors: Mapping[IpFamily, LocalDetector]
    node_port_addresses: Mapping[IpFamily, tuple[Cidr, ...]]
    localhost_node_ports: bool
    masquerade_all: bool
    masquerade_bit: int
    nfacct: bool
    tcp_be_liberal: bool
    external_ips: bool
    mode: ProxyMode = ProxyMode.IPTABLES
    service_cidrs: tuple[Cidr, ...] = ()

    def serves_localhost(self, family: IpFamily) -> bool:
        """Whether NodePorts are served on loopback addresses: IPv4 only, and only where asked for."""
        return self.localhost_node_ports and family is IpFamily.IPV4

    def service_cidrs_of(self, family: IpFamily) -> list[Cidr]:
        """Return the networks of cluster IPs that are known in ``family``, in a fixed order."""
        return sorted(cidr for cidr in self.service_cidrs if family_of(cidr) is family)

    def node_ip(self, family: IpFamily) -> Address:
        """Return the node's address of ``family``; the loopback address where it has none."""
        return self.node_ips.get(family, LOOPBACK[family])

    def node_port_destinations(self, family: IpFamily) -> tuple[Address, ...] | None:
        """Return the local addresses that accept NodePort traffic, sorted; ``None`` when all do."""
        cidrs = self.node_port_addresses[family]
        if any(prefix_length(cidr) == 0 for cidr in cidrs):
            return None
        chosen = {
            address
            for address in self.local_addresses
            if any(cidr_contains(cidr, address) for cidr in cidrs)
            and (self.serves_localhost(family) or not is_loopback(address))
        }
        return tuple(sorted(chosen, key=address_value))


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says; ``None`` and empty mean that it says nothing."""

    node_name: str | None = None
    zone: str | None = None
    node_ips: Sequence[Address] = ()
    local_addresses: Sequence[Address] = ()
    cluster_cidrs: Sequence[Cidr] = ()
    detect_local_mode: str | None = None
    bridge_interface: str | None = None
    interface_name_prefix: str | None = None
    node_port_addresses: Sequence[str] = ()
    masquerade_all: bool | None = None
    masquerade_bit: int | None = None
    localhost_node_ports: bool | None = None
    nfacct: bool | None = None
    nfacct_available: bool = False
    tcp_be_liberal: bool | None = None
    mode: ProxyMode | None = None
    service_cidrs: Sequence[Cidr] = ()


def resolve_options(cluster: Cluster, overrides: Overrides) -> NodeOptions:
    """Bring together command line (first), configuration (second) and Node object (last).

    Raises: InvalidInputError: the node is not there or not the only one; two configurations; contradictory
    options.
    """
    config = _only_config(cluster.configs)
    node_name, node = _choose_node(
        cluster.nodes, overrides.node_name or config.hostname_override.strip().lower()
    )
    mode = _proxy_mode(config, overrides.mode)
    _refuse_of_other_mode(overrides, mode)
    section = config.nftables if mode is ProxyMode.NFTABLES else config.iptables
    node_ips = _node_ips(node, config, overrides)
    node_port_addresses = _node_port_addresses(config, overrides, node_ips, mode)
    return NodeOptions(
        node_name=node_name,
        zone=_first(overrides.zone, node.zone if node else None, ""),
        node_ips=node_ips,
        local_addresses=_local_addresses(node, overrides),
        detectors=_detectors(config, overrides, node),
        node_port_addresses=node_port_addresses,
        localhost_node_ports=_serves_localhost(config, overrides, node_port_addresses[IpFamily.IPV4], mode),
        masquerade_all=_first(overrides.masquerade_all, section.masquerade_all, False),
        masquerade_bit=_first(overrides.masquerade_bit, section.masquerade_bit, DEFAULT_MASQUERADE_BIT),
        nfacct=_first(overrides.nfacct, overrides.nfacct_available and mode is ProxyMode.IPTABLES),
        tcp_be_liberal=_first(overrides.tcp_be_liberal, False) or config.conntrack.tcp_be_liberal,
        external_ips=config.feature_gates.get("AllowServiceExternalIPs", True),
        mode=mode,
        service_cidrs=tuple(overrides.service_cidrs),
    )


def _proxy_mode(config: KubeProxyConfiguration, wanted: ProxyMode | None) -> ProxyMode:
    """Return the mode that is wanted, else the configuration's, which has been checked, else iptables."""
    return wanted or ProxyMode(config.mode or ProxyMode.IPTABLES)


def _first(*candidates: T | None) -> T:
    return next(candidate for candidate in candidates if candidate is not None)


def _only_config(configs: Sequence[Sourced[KubeProxyConfiguration]]) -> KubeProxyConfiguration:
    if not configs:
        return KubeProxyConfiguration()
    if len(configs) > 1:
        first, second = configs[0].origin, configs[1].origin
        raise InvalidInputError(
            Problem(
                Code.CONFIG_AMBIGUOUS,
                f"a second KubeProxyConfiguration; the first is at {first.source}:{first.line}",
                location=second.locate(("kind",)),
                hint="keep one of them, or name one with --config",
            )
        )
    return configs[0].value


def _choose_node(nodes: Sequence[Sourced[Node]], wanted: str) -> tuple[str, Node | None]:
    by_name = {node.value.metadata.name: node.value for node in nodes}
    listed = ", ".join(sorted(by_name))
    if wanted:
        if by_name and wanted not in by_name:
            message = f"the input has no Node {wanted}"
            raise InvalidInputError(
                Problem(Code.NODE_NOT_FOUND, message, hint=f"give --node one of: {listed}")
            )
        return wanted, by_name.get(wanted)
    if len(by_name) > 1:
        message = f"the input has {len(by_name)} Nodes, and rules are one node's view"
        raise InvalidInputError(Problem(Code.NODE_AMBIGUOUS, message, hint=f"give --node one of: {listed}"))
    return next(iter(by_name.items()), ("", None))


def _node_ips(
    node: Node | None, config: KubeProxyConfiguration, overrides: Overrides
) -> dict[IpFamily, Address]:
    """Choose one address of each family: command line, bindAddress, InternalIPs, ExternalIPs."""
    candidates = list(overrides.node_ips)
    if config.bind_address:
        bind = parse_address(config.bind_address)
        candidates += [bind] if address_value(bind) else []
    candidates += _status_addresses(node)
    chosen: dict[IpFamily, Address] = {}
    for address in candidates:
        chosen.setdefault(family_of(address), address)
    return chosen


def _status_addresses(node: Node | None) -> list[Address]:
    return [
        parse_address(address.address)
        for wanted in NODE_IP_TYPES
        for address in (node.status.addresses if node else ())
        if address.type == wanted
    ]


def _local_addresses(node: Node | None, overrides: Overrides) -> tuple[Address, ...]:
    given = overrides.local_addresses or [*overrides.node_ips, *_status_addresses(node)]
    return tuple(dict.fromkeys((*given, *LOOPBACK.values())))


def _node_port_addresses(
    config: KubeProxyConfiguration,
    overrides: Overrides,
    node_ips: Mapping[IpFamily, Address],
    mode: ProxyMode,
) -> dict[IpFamily, tuple[Cidr, ...]]:
    """Return the networks whose addresses serve NodePorts; a family without any serves them everywhere.

    Where nothing is said, iptables mode serves them everywhere, nftables mode at the node's own addresses.
    """
    default = [PRIMARY] if mode is ProxyMode.NFTABLES else []
    given = overrides.node_port_addresses or config.node_port_addresses or default
    if list(given) == [PRIMARY]:
        cidrs = [host_network(address) for address in node_ips.values() if not is_loopback(address)]
    else:
        cidrs = [parse_cidr(text) for text in given]
    return {
        family: tuple(cidr for cidr in cidrs if family_of(cidr) is family) or (EVERYTHING[family],)
        for family in IpFamily
    }


def _refuse_of_other_mode(overrides: Overrides, mode: ProxyMode) -> None:
    given = {"--localhost-node-ports": overrides.localhost_node_ports, "--nfacct": overrides.nfacct}
    for option, value in given.items():
        if value and mode is not ProxyMode.IPTABLES:
            message = f"it goes with mode {ProxyMode.IPTABLES}, but the mode is {mode}"
            raise InvalidInputError(Problem(Code.BAD_OPTION, message, location=Location(option)))


def _serves_localhost(
    config: KubeProxyConfiguration, overrides: Overrides, cidrs: Sequence[Cidr], mode: ProxyMode
) -> bool:
    """Tell whether NodePorts are served on loopback; nftables mode never does."""
    wanted = _first(overrides.localhost_node_ports, config.iptables.localhost_node_ports, True)
    return mode is ProxyMode.IPTABLES and wanted and _contains_loopback(cidrs)


def _contains_loopback(cidrs: Sequence[Cidr]) -> bool:
    return any(cidr.startswith("127.") or cidr_contains(cidr, Address("127.0.0.0")) for cidr in cidrs)


def _detectors(
    config: KubeProxyConfiguration, overrides: Overrides, node: Node | None
) -> dict[IpFamily, LocalDetector]:
    mode = overrides.detect_local_mode or config.detect_local_mode or "ClusterCIDR"
    interface = overrides.bridge_interface or config.detect_local.bridge_interface
    prefix = overrides.interface_name_prefix or config.detect_local.interface_name_prefix
    _refuse_unused(overrides.bridge_interface, mode, "BridgeInterface", "--bridge-interface")
    _refuse_unused(overrides.interface_name_prefix, mode, "InterfaceNamePrefix", "--interface-name-prefix")
    if mode == "BridgeInterface":
        name = _needed(interface, mode, "--bridge-interface")
        return dict.fromkeys(IpFamily, LocalInterface(name))
    if mode == "InterfaceNamePrefix":
        name = _needed(prefix, mode, "--interface-name-prefix")
        return dict.fromkeys(IpFamily, LocalInterfacePrefix(name))
    if mode == "NodeCIDR":
        cidrs = [parse_cidr(text) for text in (node.pod_cidrs if node else ())]
    else:
        cidrs = list(overrides.cluster_cidrs) or [
            parse_cidr(text) for text in split_cidrs(config.cluster_cidr)
        ]
    detectors: dict[IpFamily, LocalDetector] = {}
    for cidr in cidrs:
        detectors.setdefault(family_of(cidr), LocalCidr(cidr))
    return detectors


def _refuse_unused(value: str | None, mode: str, wanted: str, option: str) -> None:
    if value and mode != wanted:
        message = f"it goes with --detect-local-mode {wanted}, but the mode is {mode}"
        raise InvalidInputError(Problem(Code.BAD_OPTION, message, location=Location(option)))


def _needed(value: str, mode: str, option: str) -> str:
    if not value:
        message = f"detect-local mode {mode} needs {option}"
        raise InvalidInputError(Problem(Code.BAD_OPTION, message, location=Location("--detect-local-mode")))
    return value


def doubts(cluster: Cluster, options: NodeOptions, overrides: Overrides) -> list[Problem]:
    """Warn of what the options leave out, though the rules depend on it."""
    problems = [*_doubt_without_node(cluster, options)]
    config = _only_config(cluster.configs)
    mode = overrides.detect_local_mode or config.detect_local_mode
    if mode == "NodeCIDR" and not options.detectors:
        message = (
            "detect-local mode NodeCIDR, but the Node has no podCIDRs: no traffic counts as the cluster's own"
        )
        hint = "add the Node with its podCIDRs; kube-proxy would wait for them"
        problems.append(Problem(Code.NODE_NOT_FOUND, message, Severity.WARNING, hint=hint))
    return problems


def _doubt_without_node(cluster: Cluster, options: NodeOptions) -> list[Problem]:
    if options.node_name:
        return []
    local = [
        service.value.metadata
        for service in cluster.services
        if "Local" in (service.value.spec.internal_traffic_policy, service.value.spec.external_traffic_policy)
    ]
    if not local:
        return []
    message = f"no node is given, so no endpoint counts as local ({len(local)} Services have a policy Local)"
    hint = "give --node NAME, or add the Node to the manifests"
    return [Problem(Code.NODE_NOT_FOUND, message, Severity.WARNING, hint=hint)]
