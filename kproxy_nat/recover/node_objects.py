"""The Node and the proxy's configuration with which recovered Services compile to the same rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from kproxy_nat.net.addresses import Address, Cidr, IpFamily, cidr_contains, is_loopback, parse_address
from kproxy_nat.proxy.options import LOOPBACK
from kproxy_nat.recover import model
from kproxy_nat.recover.model import NodeSettings, RecoveredPort
from kproxy_nat.recover.objects import NODE_NAME, UNSEEN, ZONE, Manifest, Ports

_EVERY_LOCAL_ADDRESS = "--dst-type LOCAL"
_HOST = re.compile(r"-d (\S+)/(?:32|128)")
_DEFAULT_MARK = 1 << 14
_EVERYWHERE = {IpFamily.IPV4: "0.0.0.0/0", IpFamily.IPV6: "::/0"}
_NOWHERE = {IpFamily.IPV4: "192.0.2.255/32", IpFamily.IPV6: "2001:db8::ffff/128"}
"""A network that no node has an address in, to serve node ports nowhere."""


def node_object(families: Mapping[IpFamily, tuple[Ports, NodeSettings]], *, zone: bool) -> Manifest:
    """Return a Node with the addresses and the zone that the rules imply."""
    addresses: list[str] = []
    for family, (ports, settings) in families.items():
        serving = [a for a in _node_port_hosts(settings) if not is_loopback(a)]
        addresses += dict.fromkeys([*_node_ip(family, ports.values(), serving), *serving])
    metadata: Manifest = {"name": NODE_NAME}
    if zone:
        metadata["labels"] = {"topology.kubernetes.io/zone": ZONE}
    made: Manifest = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
    if addresses:
        made["status"] = {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}
    return made


def configuration_object(families: Mapping[IpFamily, tuple[Ports, NodeSettings]]) -> Manifest:
    """Return the proxy's configuration."""
    mode = next((s.mode for _, s in families.values() if s.mode), model.IPTABLES)
    made: Manifest = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
    }
    made |= _detection(families)
    addresses = [cidr for f, (_, settings) in families.items() for cidr in _node_port_addresses(f, settings)]
    made |= {"nodePortAddresses": addresses} if addresses else {}
    section = _section(families, mode)
    made |= {mode: section} if section else {}
    if mode == model.NFTABLES:
        return made
    if not any(settings.drops_invalid for _, settings in families.values()):
        made["conntrack"] = {"tcpBeLiberal": True}
    return made


def _section(families: Mapping[IpFamily, tuple[Ports, NodeSettings]], mode: str) -> dict[str, Any]:
    """Return the options of one mode."""
    fields: dict[str, Any] = {}
    marks = {settings.masquerade_mark for _, settings in families.values()} - {0, _DEFAULT_MARK}
    if marks:
        fields["masqueradeBit"] = max(marks).bit_length() - 1
    if "all" in _masqueraded(families):
        fields["masqueradeAll"] = True
    four = families.get(IpFamily.IPV4)
    if mode == model.IPTABLES and four is not None and not four[1].guards_localhost:
        fields["localhostNodePorts"] = False
    return fields


def _masqueraded(families: Mapping[IpFamily, tuple[Ports, NodeSettings]]) -> list[str]:
    """Return the conditions under which traffic to cluster IPs is masqueraded."""
    found = [settings.cluster_ip_masquerade for _, settings in families.values()]
    return [*found, *(port.masquerade for ports, _ in families.values() for port in ports.values())]


def _detection(families: Mapping[IpFamily, tuple[Ports, NodeSettings]]) -> Manifest:
    """Return how traffic of pods is told from other traffic."""
    found = [condition.removeprefix("! ") for condition in _masqueraded(families)]
    found += [port.pods_are for ports, _ in families.values() for port in ports.values()]
    conditions = [condition for condition in dict.fromkeys(found) if condition not in ("", "all")]
    interfaces = [c.removeprefix("-i ") for c in conditions if c.startswith("-i ")]
    if interfaces and interfaces[0].endswith("+"):
        prefix = {"interfaceNamePrefix": interfaces[0].removesuffix("+")}
        return {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": prefix}
    if interfaces:
        return {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": interfaces[0]}}
    cidrs = [c.removeprefix("-s ") for c in conditions if c.startswith("-s ")]
    return {"clusterCIDR": ",".join(cidrs)} if cidrs else {}


def _node_port_addresses(family: IpFamily, settings: NodeSettings) -> list[str]:
    if settings.node_ports_on is None:
        return []
    if any(_EVERY_LOCAL_ADDRESS in condition for condition in settings.node_ports_on):
        # In iptables mode this is the default.
        return [_EVERYWHERE[family]] if settings.mode == model.NFTABLES else []
    hosts = [f"{address}/{family.bits}" for address in _node_port_hosts(settings)]
    return hosts or [_NOWHERE[family]]


def _node_port_hosts(settings: NodeSettings) -> list[Address]:
    found = (_HOST.fullmatch(condition) for condition in settings.node_ports_on or ())
    return [parse_address(host[1]) for host in found if host]


def _node_ip(family: IpFamily, ports: Iterable[RecoveredPort], serving: Sequence[Address]) -> list[Address]:
    """Return an address that is in the source ranges which admit the node, and in no others."""
    guarded = [
        port
        for port in ports
        if port.source_ranges
        and model.LOAD_BALANCER_IP in port.addresses.values()
        and port.shows_source_ranges
    ]
    if not serving and all(_is_admitted(port, LOOPBACK[family]) == port.admits_node for port in guarded):
        return []
    candidates = [*serving, Address(UNSEEN[family]), *_range_addresses(guarded)]
    fitting = (a for a in candidates if all(_is_admitted(port, a) == port.admits_node for port in guarded))
    return [next(fitting, candidates[0])]


def _range_addresses(ports: Iterable[RecoveredPort]) -> Iterator[Address]:
    for port in ports:
        for cidr in port.source_ranges:
            network = ip_network(cidr)
            last = network[-2] if network.num_addresses > 2 else network[0]
            yield from (Address(str(network[0])), Address(str(last)))


def _is_admitted(port: RecoveredPort, address: Address) -> bool:
    return any(cidr_contains(Cidr(cidr), address) for cidr in port.source_ranges)
