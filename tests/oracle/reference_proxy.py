"""A second, independent statement of what kube-proxy 1.36 writes in iptables mode.

This is a test oracle.  It is written straight from a description of kube-proxy's behaviour, one section after
the other, with no cleverness and no regard for speed.  The section numbers in the comments are those of that
description.

It takes Kubernetes objects that are already parsed, and gives for each table and each chain that the
iptables-restore transaction of a full sync declares the rules as kube-proxy writes them after ``-A CHAIN``.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from dataclasses import dataclass, field
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LARGE_CLUSTER_THRESHOLD = 1000
LAST_RULE_COMMENT = '"kubernetes service nodeports; NOTE: this must be the last rule in this chain"'


@dataclass
class ReferenceRules:
    """table -> chain -> rule texts, for exactly the chains that the transaction declares."""

    chains: dict[str, dict[str, list[str]]]


# ----------------------------------------------------------------------------------------------------------
# Reading parsed objects: a missing value and an explicit null are the same thing.
# ----------------------------------------------------------------------------------------------------------


def get_dict(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key, empty when missing."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def get_list(parent: dict[str, Any], key: str) -> list[Any]:
    """The list under a key, empty when missing."""
    value = parent.get(key)
    return value if isinstance(value, list) else []


def get_text(parent: dict[str, Any], key: str) -> str:
    """The string under a key, empty when missing."""
    value = parent.get(key)
    return "" if value is None else str(value)


def get_number(parent: dict[str, Any], key: str, default: int) -> int:
    """The integer under a key."""
    value = parent.get(key)
    return default if value is None else int(value)


def get_flag(parent: dict[str, Any], key: str, default: bool) -> bool:
    """The boolean under a key."""
    value = parent.get(key)
    return default if value is None else bool(value)


# ----------------------------------------------------------------------------------------------------------
# 2.1 Lenient ("sloppy") address parsing as in Go: leading zeros are decimal, mapped IPv6 counts as IPv4.
# ----------------------------------------------------------------------------------------------------------

DECIMAL_DIGITS = "0123456789"
HEX_DIGITS = "0123456789abcdefABCDEF"


def parse_decimal(text: str, maximum: int) -> int | None:
    """A plain decimal number, leading zeros allowed; None if it is not one or is larger than maximum."""
    if text == "" or any(character not in DECIMAL_DIGITS for character in text):
        return None
    value = int(text)
    return value if value <= maximum else None


def parse_ipv4_number(text: str) -> int | None:
    """The 32-bit number of a dotted quad."""
    parts = text.split(".")
    if len(parts) != 4:
        return None
    number = 0
    for part in parts:
        octet = parse_decimal(part, 255)
        if octet is None:
            return None
        number = number * 256 + octet
    return number


def parse_ipv6_groups(text: str) -> list[int] | None:
    """The 16-bit groups of a piece of an IPv6 literal without "::"; the last may be a dotted quad."""
    if text == "":
        return []
    groups: list[int] = []
    pieces = text.split(":")
    for position, piece in enumerate(pieces):
        if "." in piece:
            if position != len(pieces) - 1:
                return None
            quad = parse_ipv4_number(piece)
            if quad is None:
                return None
            groups.append(quad >> 16)
            groups.append(quad & 0xFFFF)
            continue
        if piece == "" or any(character not in HEX_DIGITS for character in piece):
            return None
        group = int(piece, 16)
        if group > 0xFFFF:
            return None
        groups.append(group)
    return groups


def parse_ipv6_number(text: str) -> int | None:
    """The 128-bit number of an IPv6 literal (no zone)."""
    if "::" in text:
        head_text, tail_text = text.split("::", 1)
        if "::" in tail_text or "." in head_text:
            return None
        head = parse_ipv6_groups(head_text)
        tail = parse_ipv6_groups(tail_text)
        if head is None or tail is None or len(head) + len(tail) > 7:
            return None
        groups = head + [0] * (8 - len(head) - len(tail)) + tail
    else:
        plain = parse_ipv6_groups(text)
        if plain is None or len(plain) != 8:
            return None
        groups = plain
    number = 0
    for group in groups:
        number = number * 65536 + group
    return number


def is_mapped(number: int) -> bool:
    """Whether a 128-bit number is an IPv4-mapped IPv6 address (::ffff:0:0/96)."""
    return number >> 32 == 0xFFFF


def parse_ip(text: str) -> Address | None:
    """An address, leniently; None if it cannot be parsed."""
    if ":" not in text:
        number = parse_ipv4_number(text)
        return None if number is None else ipaddress.IPv4Address(number)
    number = parse_ipv6_number(text)
    if number is None:
        return None
    if is_mapped(number):
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return ipaddress.IPv6Address(number)


def parse_cidr(text: str) -> Network | None:
    """A CIDR, leniently, as its masked network; None if it cannot be parsed."""
    if "/" not in text:
        return None
    address_text, length_text = text.split("/", 1)
    if ":" not in address_text:
        number = parse_ipv4_number(address_text)
        length = parse_decimal(length_text, 32)
        if number is None or length is None:
            return None
        return ipaddress.IPv4Network((number, length), strict=False)
    number = parse_ipv6_number(address_text)
    length = parse_decimal(length_text, 128)
    if number is None or length is None:
        return None
    if is_mapped(number) and length >= 96:
        return ipaddress.IPv4Network((number & 0xFFFFFFFF, length - 96), strict=False)
    return ipaddress.IPv6Network((number, length), strict=False)


def family_of(value: Address | Network) -> str:
    """ "IPv4" or "IPv6"."""
    return "IPv4" if value.version == 4 else "IPv6"


def contains(network: Network, address: Address) -> bool:
    """Whether an address lies in a network (never across families)."""
    return network.version == address.version and address in network


def is_loopback(address: Address) -> bool:
    """127.0.0.0/8 or ::1."""
    return address.is_loopback


def cidrs_of_family(texts: list[str], family: str) -> list[Network]:
    """The CIDRs of one family in order; white space trimmed, blank and invalid ones ignored."""
    found: list[Network] = []
    for text in texts:
        cidr = parse_cidr(str(text).strip())
        if cidr is not None and family_of(cidr) == family:
            found.append(cidr)
    return found


# ----------------------------------------------------------------------------------------------------------
# 2.1 Services -> service ports
# ----------------------------------------------------------------------------------------------------------


@dataclass
class ServicePort:
    """One port of one Service, seen by the proxier of one family."""

    namespace: str
    service: str
    port_name: str
    protocol: str
    cluster_ip: Address
    port: int
    node_port: int
    load_balancer_vips: list[Address]
    external_ips: list[Address]
    source_ranges: list[Network]
    client_ip_affinity: bool
    affinity_seconds: int
    internal_local: bool
    external_local: bool
    health_check_node_port: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity of a service port."""
        return (self.namespace, self.service, self.port_name, self.protocol)

    @property
    def name_string(self) -> str:
        """namespace/name[:port]"""
        base = f"{self.namespace}/{self.service}"
        return f"{base}:{self.port_name}" if self.port_name != "" else base

    @property
    def proto(self) -> str:
        """The protocol as iptables spells it."""
        return self.protocol.lower()

    @property
    def externally_accessible(self) -> bool:
        """ExternallyAccessible of 2.1."""
        return self.node_port != 0 or len(self.load_balancer_vips) > 0 or len(self.external_ips) > 0

    @property
    def uses_cluster_endpoints(self) -> bool:
        """UsesClusterEndpoints of 2.1."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """UsesLocalEndpoints of 2.1."""
        return self.internal_local or (self.external_local and self.externally_accessible)


def service_is_watched(service: dict[str, Any]) -> bool:
    """1.2: label selector !service-proxy-name, field selector spec.clusterIP!=None."""
    labels = get_dict(get_dict(service, "metadata"), "labels")
    if "service.kubernetes.io/service-proxy-name" in labels:
        return False
    return get_text(get_dict(service, "spec"), "clusterIP") != "None"


def cluster_ip_of_family(spec: dict[str, Any], family: str) -> Address | None:
    """2.1 family lookup."""
    ip_families = get_list(spec, "ipFamilies")
    if len(ip_families) == 0:
        only = parse_ip(get_text(spec, "clusterIP"))
        return only if only is not None and family_of(only) == family else None
    cluster_ips = get_list(spec, "clusterIPs")
    for index, ip_family in enumerate(ip_families):
        if ip_family == family and index < len(cluster_ips):
            return parse_ip(str(cluster_ips[index]))
    return None


def addresses_of_family(texts: list[str], family: str) -> list[Address]:
    """The addresses of one family in order; unparsable ones are skipped."""
    found: list[Address] = []
    for text in texts:
        address = parse_ip(text)
        if address is not None and family_of(address) == family:
            found.append(address)
    return found


def service_ports_of(service: dict[str, Any], family: str, allow_external_ips: bool) -> list[ServicePort]:
    """2.1: the service ports of one Service for one family."""
    if not service_is_watched(service):
        return []
    metadata = get_dict(service, "metadata")
    spec = get_dict(service, "spec")
    service_type = get_text(spec, "type") or "ClusterIP"

    if get_text(spec, "clusterIP") in ("", "None"):
        return []
    if service_type == "ExternalName":
        return []
    cluster_ip = cluster_ip_of_family(spec, family)
    if cluster_ip is None:
        return []

    # externalIPs; the feature gate hides them, but "externally accessible by type" looks at the raw list.
    raw_external_ips = [str(text) for text in get_list(spec, "externalIPs")]
    external_ips = addresses_of_family(raw_external_ips, family) if allow_external_ips else []

    # loadBalancerSourceRanges: any /0 of this family empties the list of this family.
    source_ranges = cidrs_of_family(get_list(spec, "loadBalancerSourceRanges"), family)
    if any(cidr.prefixlen == 0 for cidr in source_ranges):
        source_ranges = []

    # load balancer VIPs: entries with an ip and with ipMode unset or VIP.
    vip_texts: list[str] = []
    for ingress in get_list(get_dict(get_dict(service, "status"), "loadBalancer"), "ingress"):
        if get_text(ingress, "ip") != "" and get_text(ingress, "ipMode") in ("", "VIP"):
            vip_texts.append(get_text(ingress, "ip"))
    vips = addresses_of_family(vip_texts, family)

    accessible_by_type = service_type in ("LoadBalancer", "NodePort") or (
        service_type == "ClusterIP" and len(raw_external_ips) > 0
    )
    external_local = accessible_by_type and get_text(spec, "externalTrafficPolicy") == "Local"
    internal_local = get_text(spec, "internalTrafficPolicy") == "Local"

    health_check_node_port = 0
    if service_type == "LoadBalancer" and external_local:
        health_check_node_port = get_number(spec, "healthCheckNodePort", 0)

    # 12.1: ClientIP without a timeout means 10800 seconds.
    client_ip_affinity = get_text(spec, "sessionAffinity") == "ClientIP"
    client_ip_config = get_dict(get_dict(spec, "sessionAffinityConfig"), "clientIP")
    affinity_seconds = get_number(client_ip_config, "timeoutSeconds", 10800)

    ports: list[ServicePort] = []
    for port in get_list(spec, "ports"):
        ports.append(
            ServicePort(
                namespace=get_text(metadata, "namespace"),
                service=get_text(metadata, "name"),
                port_name=get_text(port, "name"),
                protocol=get_text(port, "protocol") or "TCP",
                cluster_ip=cluster_ip,
                port=get_number(port, "port", 0),
                node_port=get_number(port, "nodePort", 0),
                load_balancer_vips=vips,
                external_ips=external_ips,
                source_ranges=source_ranges,
                client_ip_affinity=client_ip_affinity,
                affinity_seconds=affinity_seconds,
                internal_local=internal_local,
                external_local=external_local,
                health_check_node_port=health_check_node_port,
            )
        )
    return ports


# ----------------------------------------------------------------------------------------------------------
# 2.2 EndpointSlices -> endpoints
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Endpoint:
    """One endpoint of one service port."""

    ip: Address
    port: int
    is_local: bool
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: set[str]
    node_hints: set[str]

    @property
    def identity(self) -> str:
        """E of 2.2: ip:port or [ip]:port."""
        return f"{self.ip}:{self.port}" if self.ip.version == 4 else f"[{self.ip}]:{self.port}"


def sorted_by_identity(endpoints: list[Endpoint]) -> list[Endpoint]:
    """2.2: order by E as a plain byte string."""
    return sorted(endpoints, key=lambda endpoint: endpoint.identity.encode())


def read_endpoint(raw: dict[str, Any], port: int, node_name: str) -> Endpoint | None:
    """2.2: one endpoint of a slice with one of the slice's ports; None if it is to be skipped."""
    addresses = get_list(raw, "addresses")
    if len(addresses) == 0:
        return None
    ip = parse_ip(str(addresses[0]))
    if ip is None:
        return None
    conditions = get_dict(raw, "conditions")
    hints = get_dict(raw, "hints")
    return Endpoint(
        ip=ip,
        port=port,
        is_local=node_name != "" and raw.get("nodeName") == node_name,
        ready=get_flag(conditions, "ready", True),
        serving=get_flag(conditions, "serving", True),
        terminating=get_flag(conditions, "terminating", False),
        zone_hints={get_text(hint, "name") for hint in get_list(hints, "forZones")},
        node_hints={get_text(hint, "name") for hint in get_list(hints, "forNodes")},
    )


def endpoints_by_service_port(
    objects: list[dict[str, Any]], family: str, node_name: str
) -> dict[tuple[str, str, str, str], list[Endpoint]]:
    """2.2: all endpoints of one family, by service-port key, sorted."""
    # kube-proxy reads the slices of a Service in random order.  Where that matters the result is unspecified;
    # here the order is the one of the slice names.
    slices: list[tuple[str, str, str, dict[str, Any]]] = []
    for item in objects:
        if item.get("kind") != "EndpointSlice":
            continue
        metadata = get_dict(item, "metadata")
        labels = get_dict(metadata, "labels")
        if "service.kubernetes.io/headless" in labels:  # 1.2
            continue
        if item.get("addressType") != family:
            continue
        namespace = get_text(metadata, "namespace")
        name = get_text(metadata, "name")
        service_name = get_text(labels, "kubernetes.io/service-name")
        if service_name == "" or namespace == "" or name == "":
            continue
        slices.append((namespace, name, service_name, item))
    slices.sort(key=lambda entry: (entry[0].encode(), entry[1].encode()))

    by_identity: dict[tuple[str, str, str, str], dict[str, Endpoint]] = {}
    for namespace, _, service_name, item in slices:
        for port in get_list(item, "ports"):
            if port.get("name") is None:
                continue
            number = get_number(port, "port", 0)
            if number == 0:
                continue
            key = (namespace, service_name, get_text(port, "name"), get_text(port, "protocol") or "TCP")
            known = by_identity.setdefault(key, {})
            for raw in get_list(item, "endpoints"):
                endpoint = read_endpoint(raw, number, node_name)
                if endpoint is None:
                    continue
                # A later duplicate replaces an earlier one unless the later one is terminating.
                if endpoint.identity not in known or not endpoint.terminating:
                    known[endpoint.identity] = endpoint
    return {key: sorted_by_identity(list(known.values())) for key, known in by_identity.items()}


# ----------------------------------------------------------------------------------------------------------
# 2.3 Categorisation
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Categories:
    """Outputs of 2.3."""

    cluster: list[Endpoint]
    local: list[Endpoint]
    all_reachable: list[Endpoint]
    has_any: bool


def topology_mode(endpoints: list[Endpoint], node_name: str, zone: str) -> str:
    """2.3 topologyMode: "", "PreferSameNode" or "PreferSameZone"."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if len(ready) == 0:
        return ""
    all_have_node_hints = all(len(endpoint.node_hints) > 0 for endpoint in ready)
    if all_have_node_hints and any(node_name in endpoint.node_hints for endpoint in ready):
        return "PreferSameNode"
    all_have_zone_hints = all(len(endpoint.zone_hints) > 0 for endpoint in ready)
    if all_have_zone_hints and any(zone in endpoint.zone_hints for endpoint in ready):
        return "PreferSameZone"
    return ""


def matches_topology(endpoint: Endpoint, mode: str, node_name: str, zone: str) -> bool:
    """Whether an endpoint may be used in a topology mode."""
    if mode == "PreferSameNode":
        return node_name in endpoint.node_hints
    if mode == "PreferSameZone":
        return zone in endpoint.zone_hints
    return True


def categorise(port: ServicePort, endpoints: list[Endpoint], node_name: str, zone: str) -> Categories:
    """2.3, line by line."""
    if len(endpoints) == 0:
        return Categories([], [], [], False)

    cluster: list[Endpoint] = []
    local: list[Endpoint] = []
    has_any = False
    mode = ""
    if port.uses_cluster_endpoints:
        mode = topology_mode(endpoints, node_name, zone)
        cluster = [e for e in endpoints if e.ready and matches_topology(e, mode, node_name, zone)]
        if len(cluster) == 0:
            cluster = [e for e in endpoints if e.serving and e.terminating]
        if len(cluster) > 0:
            has_any = True

    if not port.uses_local_endpoints:
        return Categories(cluster, [], cluster, has_any)

    if any(e.ready or (e.serving and e.terminating) for e in endpoints):
        has_any = True
    terminating_fallback = False
    local = [e for e in endpoints if e.is_local and e.ready]
    if len(local) == 0:
        local = [e for e in endpoints if e.is_local and e.serving and e.terminating]
        terminating_fallback = len(local) > 0

    if not port.uses_cluster_endpoints:
        return Categories(cluster, local, local, has_any)
    if mode == "" and not terminating_fallback:
        return Categories(cluster, local, cluster, has_any)
    # Union by E; kube-proxy's order is unspecified, here it is sorted.
    union = {e.identity: e for e in cluster + local}
    return Categories(cluster, local, sorted_by_identity(list(union.values())), has_any)


# ----------------------------------------------------------------------------------------------------------
# 3.1 Names
# ----------------------------------------------------------------------------------------------------------


def short_hash(text: str) -> str:
    """The first 16 characters of the base32 of the SHA-256."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii")[:16]


def service_hash(port: ServicePort) -> str:
    """H, the same for the SVC, SVL, EXT and FW chains of a service port."""
    return short_hash(port.name_string + port.proto)


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    """Name of the chain of one endpoint."""
    return "KUBE-SEP-" + short_hash(port.name_string + port.proto + endpoint.identity)


def mark_text(masquerade_bit: int) -> str:
    """0x and 8 hexadecimal digits."""
    return f"0x{1 << masquerade_bit:08x}"


def probability_text(count: int) -> str:
    """1/n with ten decimals."""
    return f"{1.0 / count:.10f}"


# ----------------------------------------------------------------------------------------------------------
# 3.3, 3.7, 3.8, 10: settings of one family
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Settings:
    """What the configuration and the Node mean for one family."""

    family: str
    node_name: str
    zone: str
    node_ip: Address
    mark: str
    masquerade_all: bool
    if_local: str  # "" if there is no local detector (3.8)
    if_not_local: str
    match_all_node_ports: bool
    node_port_ips: list[Address]
    localhost_node_ports: bool
    tcp_be_liberal: bool
    nfacct: bool
    allow_external_ips: bool
    large_cluster: bool = field(default=False)


def own_node(objects: list[dict[str, Any]], node_name: str) -> dict[str, Any]:
    """The Node with the proxy's own name; empty if there is none."""
    for item in objects:
        if item.get("kind") == "Node" and get_text(get_dict(item, "metadata"), "name") == node_name:
            return item
    return {}


def node_ips(node: dict[str, Any], bind_address: str) -> dict[str, Address]:
    """10: one node IP per family."""
    result: dict[str, Address] = {
        "IPv4": ipaddress.IPv4Address("127.0.0.1"),
        "IPv6": ipaddress.IPv6Address("::1"),
    }
    # The InternalIPs come first, then the ExternalIPs; the first of each family counts.
    found: dict[str, Address] = {}
    for wanted in ("InternalIP", "ExternalIP"):
        for entry in get_list(get_dict(node, "status"), "addresses"):
            if get_text(entry, "type") != wanted:
                continue
            address = parse_ip(get_text(entry, "address"))
            if address is not None and family_of(address) not in found:
                found[family_of(address)] = address
    result.update(found)
    bind = parse_ip(bind_address)
    if bind is not None and not bind.is_unspecified:
        result[family_of(bind)] = bind
    return result


def node_port_cidrs(config: dict[str, Any], family: str, ips: dict[str, Address]) -> list[Network]:
    """3.7: the CIDRs of one family, or the zero CIDR if there is none of that family."""
    texts = [str(text) for text in get_list(config, "nodePortAddresses")]
    if texts == ["primary"]:
        texts = []
        if not is_loopback(ips["IPv4"]):
            texts.append(f"{ips['IPv4']}/32")
        if not is_loopback(ips["IPv6"]):
            texts.append(f"{ips['IPv6']}/128")
    cidrs = cidrs_of_family(texts, family)
    if len(cidrs) == 0:
        return [ipaddress.ip_network("0.0.0.0/0" if family == "IPv4" else "::/0")]
    return cidrs


def localhost_node_ports_effective(config: dict[str, Any], family: str, cidrs: list[Network]) -> bool:
    """3.3: true only for IPv4, if switched on, and if the node-port addresses contain loopback."""
    if family != "IPv4":
        return False
    if not get_flag(get_dict(config, "iptables"), "localhostNodePorts", True):
        return False
    start_of_loopback = ipaddress.IPv4Address("127.0.0.0")
    return any(is_loopback(cidr.network_address) or contains(cidr, start_of_loopback) for cidr in cidrs)


def interface_addresses(local_addresses: list[str], family: str) -> list[Address]:
    """The node's interface addresses of one family, loopback included."""
    found: list[Address] = []
    for text in ["127.0.0.1/8", "::1/128", *local_addresses]:
        address = parse_ip(text.split("/", 1)[0])
        if address is not None and family_of(address) == family and address not in found:
            found.append(address)
    return found


def local_detector(config: dict[str, Any], node: dict[str, Any], family: str) -> tuple[str, str]:
    """3.8: (IfLocal, IfNotLocal), two empty texts if there is no detector."""
    mode = get_text(config, "detectLocalMode") or "ClusterCIDR"
    detect_local = get_dict(config, "detectLocal")
    if mode == "BridgeInterface":
        bridge = get_text(detect_local, "bridgeInterface")
        return f"-i {bridge}", f"! -i {bridge}"
    if mode == "InterfaceNamePrefix":
        prefix = get_text(detect_local, "interfaceNamePrefix")
        return f"-i {prefix}+", f"! -i {prefix}+"
    if mode == "NodeCIDR":
        texts = [str(text) for text in get_list(get_dict(node, "spec"), "podCIDRs")]
    else:
        texts = get_text(config, "clusterCIDR").split(",")
    cidrs = cidrs_of_family(texts, family)
    if len(cidrs) == 0:
        return "", ""
    return f"-s {cidrs[0]}", f"! -s {cidrs[0]}"


def read_settings(
    objects: list[dict[str, Any]],
    family: str,
    node_name: str,
    config: dict[str, Any],
    local_addresses: list[str],
    nfacct: bool,
) -> Settings:
    """All settings of one family."""
    node = own_node(objects, node_name)
    labels = get_dict(get_dict(node, "metadata"), "labels")
    iptables = get_dict(config, "iptables")
    ips = node_ips(node, get_text(config, "bindAddress"))
    cidrs = node_port_cidrs(config, family, ips)
    localhost_node_ports = localhost_node_ports_effective(config, family, cidrs)
    match_all = any(cidr.prefixlen == 0 for cidr in cidrs)

    node_port_ips: list[Address] = []
    for address in interface_addresses(local_addresses, family):
        if not any(contains(cidr, address) for cidr in cidrs):
            continue
        if is_loopback(address) and not localhost_node_ports:
            continue
        node_port_ips.append(address)
    # kube-proxy's order is unspecified; here the text is sorted.
    node_port_ips.sort(key=lambda address: str(address).encode())

    if_local, if_not_local = local_detector(config, node, family)
    return Settings(
        family=family,
        node_name=node_name,
        zone=get_text(labels, "topology.kubernetes.io/zone"),
        node_ip=ips[family],
        mark=mark_text(get_number(iptables, "masqueradeBit", 14)),
        masquerade_all=get_flag(iptables, "masqueradeAll", False),
        if_local=if_local,
        if_not_local=if_not_local,
        match_all_node_ports=match_all,
        node_port_ips=node_port_ips,
        localhost_node_ports=localhost_node_ports,
        tcp_be_liberal=get_flag(get_dict(config, "conntrack"), "tcpBeLiberal", False),
        nfacct=nfacct,
        allow_external_ips=get_flag(get_dict(config, "featureGates"), "AllowServiceExternalIPs", True),
    )


# ----------------------------------------------------------------------------------------------------------
# 3.5 Rules per service port
# ----------------------------------------------------------------------------------------------------------


def load_balancing_rules(
    port: ServicePort, endpoints: list[Endpoint], recent_seconds: int | None, large_cluster: bool
) -> list[str]:
    """3.5 (9) and (10): the rules of an SVC or SVL chain that choose an endpoint."""
    rules: list[str] = []
    if recent_seconds is not None:
        for endpoint in endpoints:
            chain = endpoint_chain(port, endpoint)
            comment = f'-m comment --comment "{port.name_string} -> {endpoint.identity}" '
            if large_cluster:
                comment = ""
            rules.append(
                f"{comment}-m recent --name {chain} --rcheck --seconds {recent_seconds} --reap -j {chain}"
            )
    count = len(endpoints)
    for index, endpoint in enumerate(endpoints):
        chain = endpoint_chain(port, endpoint)
        comment = f'-m comment --comment "{port.name_string} -> {endpoint.identity}" '
        if large_cluster:
            comment = ""
        if index < count - 1:
            probability = probability_text(count - index)
            rules.append(f"{comment}-m statistic --mode random --probability {probability} -j {chain}")
        else:
            rules.append(f"{comment}-j {chain}")
    return rules


def endpoint_rules(port: ServicePort, endpoint: Endpoint, large_cluster: bool) -> list[str]:
    """3.5 (11): the rules of a SEP chain."""
    comment = f"-m comment --comment {port.name_string} "
    if large_cluster:
        comment = ""
    recent = ""
    if port.client_ip_affinity:
        recent = f"-m recent --name {endpoint_chain(port, endpoint)} --set "
    proto = port.proto
    return [
        f"{comment}-s {endpoint.ip} -j KUBE-MARK-MASQ",
        f"{comment}{recent}-m {proto} -p {proto} -j DNAT --to-destination {endpoint.identity}",
    ]


def write_service_port(  # noqa: PLR0915 - as the description has it, in one piece
    port: ServicePort,
    endpoints: list[Endpoint],
    settings: Settings,
    filter_table: dict[str, list[str]],
    nat_table: dict[str, list[str]],
) -> None:
    """3.5: everything that one service port adds."""
    categories = categorise(port, endpoints, settings.node_name, settings.zone)
    cluster = categories.cluster
    local = categories.local
    has_any = categories.has_any

    name = port.name_string
    proto = port.proto
    match_proto = f"-m {proto} -p {proto}"
    hashed = service_hash(port)
    svc = "KUBE-SVC-" + hashed
    svl = "KUBE-SVL-" + hashed
    ext = "KUBE-EXT-" + hashed
    fw = "KUBE-FW-" + hashed

    # 2.4
    internal_chain = svl if port.internal_local else svc
    has_internal = has_any and not (port.internal_local and len(local) == 0)
    external_policy_chain = svl if port.external_local else svc
    has_external = has_any and not (port.external_local and len(local) == 0)
    uses_ext = has_any and port.externally_accessible
    uses_svc = len(cluster) > 0 and port.uses_cluster_endpoints
    uses_svl = len(local) > 0 and port.uses_local_endpoints
    uses_fw = has_any and len(port.load_balancer_vips) > 0 and len(port.source_ranges) > 0
    if has_any:
        verdict_comment = f'-m comment --comment "{name} has no local endpoints"'
        verdict = "DROP"
    else:
        verdict_comment = f'-m comment --comment "{name} has no endpoints"'
        verdict = "REJECT"

    # Chain lines, in the order KEXT, KFW, KSVC, KSVL, KSEP.
    if uses_ext:
        nat_table[ext] = []
    if uses_fw:
        nat_table[fw] = []
    if uses_svc:
        nat_table[svc] = []
    if uses_svl:
        nat_table[svl] = []

    # (1) cluster IP
    to_cluster_ip = f"{match_proto} -d {port.cluster_ip} --dport {port.port}"
    if has_internal:
        nat_table["KUBE-SERVICES"].append(
            f'-m comment --comment "{name} cluster IP" {to_cluster_ip} -j {internal_chain}'
        )
    else:
        filter_table["KUBE-SERVICES"].append(f"{verdict_comment} {to_cluster_ip} -j {verdict}")

    # (2) external IPs
    for external_ip in port.external_ips:
        to_external_ip = f"{match_proto} -d {external_ip} --dport {port.port}"
        if has_any:
            nat_table["KUBE-SERVICES"].append(
                f'-m comment --comment "{name} external IP" {to_external_ip} -j {ext}'
            )
        if not has_external:
            filter_table["KUBE-EXTERNAL-SERVICES"].append(f"{verdict_comment} {to_external_ip} -j {verdict}")

    # (3) load balancer VIPs
    for vip in port.load_balancer_vips:
        to_vip = f"{match_proto} -d {vip} --dport {port.port}"
        if has_any:
            target = fw if uses_fw else ext
            nat_table["KUBE-SERVICES"].append(
                f'-m comment --comment "{name} loadbalancer IP" {to_vip} -j {target}'
            )
        if uses_fw:
            filter_table["KUBE-PROXY-FIREWALL"].append(
                f'-m comment --comment "{name} traffic not accepted by {fw}" {to_vip} -j DROP'
            )
    if not has_external:
        for vip in port.load_balancer_vips:
            to_vip = f"{match_proto} -d {vip} --dport {port.port}"
            filter_table["KUBE-EXTERNAL-SERVICES"].append(f"{verdict_comment} {to_vip} -j {verdict}")

    # (4) node port
    if port.node_port != 0:
        node_port = port.node_port
        if has_any:
            if settings.family == "IPv4" and settings.localhost_node_ports and settings.nfacct:
                nat_table["KUBE-NODEPORTS"].append(
                    f"-m comment --comment {name} {match_proto} -d 127.0.0.0/8 --dport {node_port}"
                    f" -m nfacct --nfacct-name localhost_nps_accepted_pkts -j {ext}"
                )
            nat_table["KUBE-NODEPORTS"].append(
                f"-m comment --comment {name} {match_proto} --dport {node_port} -j {ext}"
            )
        if not has_external:
            filter_table["KUBE-EXTERNAL-SERVICES"].append(
                f"{verdict_comment} -m addrtype --dst-type LOCAL {match_proto} --dport {node_port}"
                f" -j {verdict}"
            )

    # (5) health check node port
    if port.health_check_node_port != 0:
        filter_table["KUBE-NODEPORTS"].append(
            f'-m comment --comment "{name} health check node port" -m tcp -p tcp'
            f" --dport {port.health_check_node_port} -j ACCEPT"
        )

    # (6) masquerade rule at the head of the internal chain
    if has_internal:
        cluster_ip_comment = f'-m comment --comment "{name} cluster IP"'
        if settings.masquerade_all:
            nat_table[internal_chain].append(f"{cluster_ip_comment} {to_cluster_ip} -j KUBE-MARK-MASQ")
        elif settings.if_not_local != "":
            nat_table[internal_chain].append(
                f"{cluster_ip_comment} {to_cluster_ip} {settings.if_not_local} -j KUBE-MARK-MASQ"
            )

    # (7) external traffic
    if uses_ext:
        destinations = f"{name} external destinations"
        if not port.external_local:
            nat_table[ext].append(
                f'-m comment --comment "masquerade traffic for {destinations}" -j KUBE-MARK-MASQ'
            )
        else:
            if settings.if_local != "":
                nat_table[ext].append(
                    f'-m comment --comment "pod traffic for {destinations}" {settings.if_local} -j {svc}'
                )
            nat_table[ext].append(
                f'-m comment --comment "masquerade LOCAL traffic for {destinations}"'
                " -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
            )
            nat_table[ext].append(
                f'-m comment --comment "route LOCAL traffic for {destinations}"'
                f" -m addrtype --src-type LOCAL -j {svc}"
            )
        if has_external:
            nat_table[ext].append(f"-j {external_policy_chain}")

    # (8) source ranges
    if uses_fw:
        vip_comment = f'-m comment --comment "{name} loadbalancer IP"'
        node_is_allowed = False
        for cidr in port.source_ranges:
            nat_table[fw].append(f"{vip_comment} -s {cidr} -j {ext}")
            if contains(cidr, settings.node_ip):
                node_is_allowed = True
        if node_is_allowed:
            for vip in port.load_balancer_vips:
                nat_table[fw].append(f"{vip_comment} -s {vip} -j {ext}")
        nat_table[fw].append(
            f'-m comment --comment "other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL"'
        )

    # (9) and (10) endpoint selection
    recent_seconds = port.affinity_seconds if port.client_ip_affinity else None
    if uses_svc:
        nat_table[svc].extend(load_balancing_rules(port, cluster, recent_seconds, settings.large_cluster))
    if uses_svl:
        nat_table[svl].extend(load_balancing_rules(port, local, recent_seconds, settings.large_cluster))

    # (11) endpoints
    for endpoint in categories.all_reachable:
        nat_table[endpoint_chain(port, endpoint)] = endpoint_rules(port, endpoint, settings.large_cluster)


# ----------------------------------------------------------------------------------------------------------
# 3.4, 3.6, 3.7: the whole transaction
# ----------------------------------------------------------------------------------------------------------


def forward_rules(settings: Settings) -> list[str]:
    """3.6 KUBE-FORWARD."""
    rules: list[str] = []
    if not settings.tcp_be_liberal:
        counter = "-m nfacct --nfacct-name ct_state_invalid_dropped_pkts " if settings.nfacct else ""
        rules.append(f"-m conntrack --ctstate INVALID {counter}-j DROP")
    mark = settings.mark
    rules.append(f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT')
    rules.append(
        '-m comment --comment "kubernetes forwarding conntrack rule"'
        " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
    return rules


def node_port_jumps(settings: Settings) -> list[str]:
    """3.7: the last rules of nat KUBE-SERVICES."""
    comment = f"-m comment --comment {LAST_RULE_COMMENT}"
    if settings.match_all_node_ports:
        exclusion = ""
        if settings.family == "IPv6":
            exclusion = "! -d ::1/128 "
        elif not settings.localhost_node_ports:
            exclusion = "! -d 127.0.0.0/8 "
        return [f"{comment} -m addrtype --dst-type LOCAL {exclusion}-j KUBE-NODEPORTS"]
    return [f"{comment} -d {address} -j KUBE-NODEPORTS" for address in settings.node_port_ips]


def reference_rules(
    objects: list[dict[str, Any]],
    *,
    family: str,
    node_name: str,
    config: dict[str, Any],
    local_addresses: list[str],
    nfacct: bool,
) -> ReferenceRules:
    """What kube-proxy of one family declares and writes in a full sync.

    objects: Kubernetes objects (Node, Service and EndpointSlice; others are ignored).
    family: "IPv4" or "IPv6".
    config: a KubeProxyConfiguration v1alpha1.
    local_addresses: addresses of the node's interfaces, "IP" or "IP/length"; loopback always counts as well.
    nfacct: whether the two nfacct counters exist.
    """
    settings = read_settings(objects, family, node_name, config, local_addresses, nfacct)

    # The same key twice: the last one wins.
    ports: dict[tuple[str, str, str, str], ServicePort] = {}
    for item in objects:
        if item.get("kind") == "Service":
            for port in service_ports_of(item, family, settings.allow_external_ips):
                ports[port.key] = port
    endpoints = endpoints_by_service_port(objects, family, node_name)

    # 3.5 large-cluster mode: all endpoints, unready ones too, of all service ports of this family.
    total_endpoints = sum(len(endpoints.get(key, [])) for key in ports)
    settings.large_cluster = total_endpoints > LARGE_CLUSTER_THRESHOLD

    # 3.4 chains in the order of the text
    filter_table: dict[str, list[str]] = {
        "KUBE-SERVICES": [],
        "KUBE-EXTERNAL-SERVICES": [],
        "KUBE-FORWARD": [],
        "KUBE-NODEPORTS": [],
        "KUBE-PROXY-FIREWALL": [],
    }
    if family == "IPv4" and settings.localhost_node_ports:
        no_martians = (
            '-m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8'
        )
        no_martians += " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        filter_table["KUBE-FIREWALL"] = [no_martians]
    mark = settings.mark
    nat_table: dict[str, list[str]] = {
        "KUBE-SERVICES": [],
        "KUBE-NODEPORTS": [],
        "KUBE-POSTROUTING": [
            f"-m mark ! --mark {mark}/{mark} -j RETURN",
            f"-j MARK --xor-mark {mark}",
            '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        ],
        "KUBE-MARK-MASQ": [f"-j MARK --or-mark {mark}"],
    }

    for key in sorted(ports):
        write_service_port(ports[key], endpoints.get(key, []), settings, filter_table, nat_table)

    filter_table["KUBE-FORWARD"] = forward_rules(settings)
    nat_table["KUBE-SERVICES"].extend(node_port_jumps(settings))
    return ReferenceRules(chains={"filter": filter_table, "nat": nat_table})
