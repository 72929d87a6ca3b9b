"""Validation of Nodes and of the proxy's configuration."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.errors import Code
from kproxy_nat.model.checks import check_address, check_choice, check_cidr, check_meta, check_range
from kproxy_nat.model.config import KubeProxyConfiguration
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.names import INTERFACE_RULE, is_interface_name, shown
from kproxy_nat.model.node import Node
from kproxy_nat.net.addresses import AddressError, family_of, parse_cidr

NODE_IP_TYPES = ("InternalIP", "ExternalIP")
DETECT_LOCAL_MODES = ("", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
PROXY_MODES = ("", "iptables", "nftables", "ipvs")
PRIMARY = "primary"


def validate_node(node: Node) -> Iterator[Finding]:
    """Yield everything that is wrong with ``node``."""
    yield from check_meta(node.metadata, subdomain=True)
    if node.spec.pod_cidr:
        yield from check_cidr(node.spec.pod_cidr, ("spec", "podCIDR"))
    for position, text in enumerate(node.spec.pod_cidrs):
        yield from check_cidr(text, ("spec", "podCIDRs", position))
    for position, address in enumerate(node.status.addresses):
        if address.type in NODE_IP_TYPES:
            yield from check_address(address.address, ("status", "addresses", position, "address"))


def validate_config(config: KubeProxyConfiguration) -> Iterator[Finding]:
    """Yield everything that is wrong with a kube-proxy configuration."""
    yield from check_choice(config.mode, PROXY_MODES, ("mode",))
    yield from check_choice(config.detect_local_mode, DETECT_LOCAL_MODES, ("detectLocalMode",))
    if config.bind_address:
        yield from check_address(config.bind_address, ("bindAddress",))
    yield from _check_cluster_cidr(config.cluster_cidr)
    yield from _check_node_port_addresses(config.node_port_addresses)
    for field, bit in (
        ("iptables", config.iptables.masquerade_bit),
        ("nftables", config.nftables.masquerade_bit),
    ):
        if bit is not None:
            yield from check_range(bit, 0, 31, (field, "masqueradeBit"))
    yield from _check_detect_local(config)


def split_cidrs(text: str) -> list[str]:
    """Return the networks of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_cluster_cidr(text: str) -> Iterator[Finding]:
    families = set()
    for cidr in split_cidrs(text):
        yield from check_cidr(cidr, ("clusterCIDR",))
        try:
            family = family_of(parse_cidr(cidr))
        except AddressError:
            continue
        if family in families:
            message = f"clusterCIDR has a second {family} network, {cidr}"
            yield Finding(
                Code.FAMILY_MISMATCH, ("clusterCIDR",), message, "give at most one network of each family"
            )
        families.add(family)


def _check_node_port_addresses(addresses: list[str]) -> Iterator[Finding]:
    if PRIMARY in addresses:
        if len(addresses) > 1:
            message = f"{PRIMARY!r} cannot be mixed with networks"
            yield Finding(Code.INCONSISTENT, ("nodePortAddresses",), message, f"give {PRIMARY!r} or networks")
        return
    for position, text in enumerate(addresses):
        yield from check_cidr(text, ("nodePortAddresses", position))


def _check_detect_local(config: KubeProxyConfiguration) -> Iterator[Finding]:
    needed = {"BridgeInterface": "bridgeInterface", "InterfaceNamePrefix": "interfaceNamePrefix"}
    names = {
        "bridgeInterface": config.detect_local.bridge_interface,
        "interfaceNamePrefix": config.detect_local.interface_name_prefix,
    }
    wanted = needed.get(config.detect_local_mode)
    if wanted and not names[wanted]:
        message = f"detectLocalMode {config.detect_local_mode} needs detectLocal.{wanted}"
        yield Finding(Code.MISSING_FIELD, ("detectLocalMode",), message)
    for field, name in names.items():
        if name and not is_interface_name(name, prefix=field == "interfaceNamePrefix"):
            message = f"{field} {shown(name)} is not an interface name"
            yield Finding(Code.BAD_NAME, ("detectLocal", field), message, INTERFACE_RULE)
