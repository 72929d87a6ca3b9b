"""Random clusters for tests: valid for an API server, but nasty.

random_cluster() mixes every feature that kube-proxy looks at.  What it never makes, because the result
would be unspecified or a conflict: two services with the same cluster IP, node port, VIP:port or external
IP:port, and duplicates of one endpoint of which kube-proxy would take a random one (all duplicates that are
not terminating are equal, and so are all that are).
"""

from __future__ import annotations

import ipaddress
import random
import string
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]

FAMILIES = ("IPv4", "IPv6")
ZONES = ("zone-a", "zone-b", "zone-c")
REMOTE_NODES = ("node2", "node3", "node10", "node11")

# A slice port without a name: kube-proxy skips it, but what an API server stores has "" there. The compiler
# applies that default, on purpose: its input is manifests. So such ports are given only to services where
# both readings come to the same; with True, this one difference shows.
NIL_NAME_BESIDE_UNNAMED_PORT = False


def chance(rng: random.Random, probability: float) -> bool:
    """True with a probability."""
    return rng.random() < probability


@dataclass
class Pools:
    """What is unique in a cluster."""

    rng: random.Random
    node_ports: list[int] = field(default_factory=list)
    cluster_counter: int = 0
    service_names: set[tuple[str, str]] = field(default_factory=set)
    slice_names: set[tuple[str, str]] = field(default_factory=set)
    used_ip_ports: set[tuple[str, int]] = field(default_factory=set)
    namespaces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Fill the pools."""
        self.node_ports = list(range(30000, 32768))
        self.rng.shuffle(self.node_ports)
        self.cluster_counter = self.rng.randrange(1, 50)
        self.namespaces = ["default", "ns", "ns-1", "ns1", "n" * 63, label(self.rng, 63)]

    def cluster_ip(self, family: str) -> str:
        """A fresh cluster IP."""
        self.cluster_counter += self.rng.randrange(1, 4)
        base = "10.96.0.0" if family == "IPv4" else "fd00:10:96::"
        return str(ipaddress.ip_address(base) + self.cluster_counter)

    def service_name(self) -> tuple[str, str]:
        """A fresh namespace and name."""
        while True:
            namespace = self.rng.choice(self.namespaces)
            kind = self.rng.randrange(4)
            if kind == 0:
                name = self.rng.choice(["a", "b", "web", "web-1", "web1", "web-10", "db", "x" * 63])
            elif kind == 1:
                name = label(self.rng, 63)
            else:
                name = label(self.rng, self.rng.randrange(1, 12))
            if (namespace, name) not in self.service_names:
                self.service_names.add((namespace, name))
                return namespace, name

    def slice_name(self, namespace: str, service: str) -> str:
        """A fresh name for a slice of a service."""
        while True:
            name = f"{service}-{label(self.rng, 5)}"
            if (namespace, name) not in self.slice_names:
                self.slice_names.add((namespace, name))
                return name

    def external_address(self, family: str, prefix: str, ports: list[int]) -> str:
        """A canonical address that no service uses yet with one of the ports (sharing an address is fine)."""
        while True:
            number = self.rng.randrange(1, 250)
            address = f"{prefix}{number}" if family == "IPv4" else f"{prefix}{number:x}"
            wanted = {(address, port) for port in ports}
            if not wanted & self.used_ip_ports:
                self.used_ip_ports |= wanted
                return address
            if chance(self.rng, 0.1):  # the small network is crowded: take a far one
                wide = self.rng.randrange(1 << 16)
                prefix = f"100.{wide >> 8}.{wide & 255}." if family == "IPv4" else f"2001:db8:{wide:x}::"


def label(rng: random.Random, length: int) -> str:
    """A random DNS label that starts with a letter."""
    if length == 1:
        return rng.choice(string.ascii_lowercase)
    inner = "".join(rng.choice(string.ascii_lowercase + string.digits + "-") for _ in range(length - 2))
    return rng.choice(string.ascii_lowercase) + inner + rng.choice(string.ascii_lowercase + string.digits)


def odd_spelling(rng: random.Random, address: str, mapped: bool = False) -> str:
    """Mostly the same text, sometimes another spelling of the same address that old API servers stored."""
    if not chance(rng, 0.12):
        return address
    if ":" in address:
        return rng.choice([address.upper(), ipaddress.IPv6Address(address).exploded])
    if mapped and chance(rng, 0.4):
        return "::ffff:" + address
    octets = address.split(".")
    position = rng.randrange(4)
    octets[position] = octets[position].zfill(3)
    return ".".join(octets)


# ----------------------------------------------------------------------------------------------------------
# Services
# ----------------------------------------------------------------------------------------------------------


def random_ports(rng: random.Random) -> list[Manifest]:
    """1 to 5 service ports; names unique if there are several, (protocol, port) unique."""
    count = rng.choice([1, 1, 1, 2, 2, 3, 5])
    ports: list[Manifest] = []
    seen: set[tuple[str, int]] = set()
    names: set[str] = set()
    while len(ports) < count:
        protocol = rng.choice(["TCP", "TCP", "TCP", "UDP", "UDP", "SCTP"])
        number = rng.choice([53, 80, 443, 8080, 1, 65535, rng.randrange(1, 65536)])
        if ports and chance(rng, 0.4):
            number = ports[-1]["port"]  # the same port with another protocol
        if (protocol, number) in seen:
            continue
        seen.add((protocol, number))
        port: Manifest = {"port": number}
        if protocol != "TCP" or chance(rng, 0.8):
            port["protocol"] = protocol
        if count > 1 or chance(rng, 0.6):
            name = rng.choice(
                ["http", "https", "dns", "dns-tcp", "p", "p80", "1p", label(rng, 63), label(rng, 8)]
            )
            if name in names:
                name = label(rng, 14)
            names.add(name)
            port["name"] = name
        elif chance(rng, 0.3):
            port["name"] = ""
        port["targetPort"] = rng.choice([number, 8080, "named"])
        if chance(rng, 0.1):
            port["appProtocol"] = "kubernetes.io/h2c"
        ports.append(port)
    return ports


def add_families(rng: random.Random, pools: Pools, spec: Manifest) -> list[str]:
    """Cluster IPs and families: single stack of either family or dual stack in either order."""
    kind = rng.choice(["4", "4", "6", "46", "46", "64", "old4", "old6", "prefer4", "prefer6"])
    families = {
        "4": ["IPv4"],
        "6": ["IPv6"],
        "46": ["IPv4", "IPv6"],
        "64": ["IPv6", "IPv4"],
        "old4": ["IPv4"],
        "old6": ["IPv6"],
        "prefer4": ["IPv4"],
        "prefer6": ["IPv6"],
    }[kind]
    cluster_ips = [pools.cluster_ip(family) for family in families]
    spec["clusterIP"] = cluster_ips[0]
    if kind.startswith("old"):  # before dual stack: only clusterIP
        return families
    spec["clusterIPs"] = cluster_ips
    spec["ipFamilies"] = list(families)
    if len(families) == 2:
        spec["ipFamilyPolicy"] = rng.choice(["PreferDualStack", "RequireDualStack"])
    else:
        spec["ipFamilyPolicy"] = "PreferDualStack" if kind.startswith("prefer") else "SingleStack"
    return families


def random_source_ranges(rng: random.Random) -> list[str]:
    """Source ranges of all sorts."""
    four = [
        "203.0.113.0/25",
        "203.0.113.77/25",  # host bits
        "203.0.113.000/025",  # leading zeros
        " 198.51.100.7/32",
        "198.51.100.0/24 ",
        "\t192.0.2.0/24",
        "192.168.0.0/16",  # contains the node
        "192.168.0.2/32",
        "192.168.000.002/32",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "128.0.0.0/1",
    ]
    six = [
        "2001:db8::/32",
        "2001:DB8:0:1::77/64",
        " fd00:192:168::/48",  # contains the node
        "fd00:192:168::2/128",
        "::1/128",
        "8000::/1",
    ]
    kind = rng.randrange(6)
    if kind == 0:
        ranges = rng.sample(four, rng.randrange(1, 4))
    elif kind == 1:
        ranges = rng.sample(six, rng.randrange(1, 4))
    else:
        ranges = rng.sample(four + six, rng.randrange(2, 7))
    if chance(rng, 0.2):
        ranges.insert(
            rng.randrange(len(ranges) + 1), rng.choice(["0.0.0.0/0", "::/0", "0.0.0.0/00", " 10.0.0.0/0"])
        )
    return ranges


def random_ingress(rng: random.Random, pools: Pools, families: list[str], ports: list[int]) -> list[Manifest]:
    """Load-balancer status: VIPs of both families, hostnames, ipMode."""
    ingress: list[Manifest] = []
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        if chance(rng, 0.15):
            ingress.append({"hostname": "lb.example.com"})
            continue
        family = rng.choice(families) if chance(rng, 0.8) else rng.choice(FAMILIES)
        prefix = "198.51.100." if family == "IPv4" else "2001:db8:1b::"
        address = odd_spelling(rng, pools.external_address(family, prefix, ports), mapped=True)
        entry: Manifest = {"ip": address}
        mode = rng.choice([None, "VIP", "VIP", "VIP", "Proxy"])
        if mode is not None:
            entry["ipMode"] = mode
        if chance(rng, 0.1):
            entry["hostname"] = "also.example.com"
        ingress.append(entry)
    return ingress


def random_service(rng: random.Random, pools: Pools) -> tuple[Manifest, list[str]]:  # noqa: PLR0915
    """A Service and the families for which it gets slices."""
    namespace, name = pools.service_name()
    metadata: Manifest = {"namespace": namespace, "name": name}
    spec: Manifest = {}
    service: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    if chance(rng, 0.1):
        metadata["labels"] = {"app": "x"}
    if chance(rng, 0.05):
        metadata.setdefault("labels", {})["service.kubernetes.io/service-proxy-name"] = rng.choice(
            ["other", ""]
        )
    if chance(rng, 0.05):
        metadata["annotations"] = {"service.beta.kubernetes.io/load-balancer-source-ranges": "192.0.2.0/24"}

    if chance(rng, 0.04):
        spec.update({"type": "ExternalName", "externalName": "db.example.com", "sessionAffinity": "None"})
        if chance(rng, 0.5):
            spec["ports"] = [{"port": 80, "protocol": "TCP", "targetPort": 80}]
        return service, ["IPv4"]

    ports = random_ports(rng)
    numbers = sorted({int(port["port"]) for port in ports})
    spec["ports"] = ports
    if chance(rng, 0.7):
        spec["selector"] = {"app": name}
    if chance(rng, 0.9):
        spec["internalTrafficPolicy"] = "Local" if chance(rng, 0.2) else "Cluster"
    if chance(rng, 0.25):
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {
            "clientIP": {"timeoutSeconds": rng.choice([1, 60, 600, 10800, 86400])}
        }
    elif chance(rng, 0.8):
        spec["sessionAffinity"] = "None"
    if chance(rng, 0.1):
        spec["publishNotReadyAddresses"] = True
    if chance(rng, 0.1):
        spec["trafficDistribution"] = rng.choice(["PreferClose", "PreferSameZone", "PreferSameNode"])

    if chance(rng, 0.05):
        spec.update({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]})
        spec.update({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"})
        return service, ["IPv4", "IPv6"]

    families = add_families(rng, pools, spec)
    service_type = rng.choice(["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"])
    if len(pools.node_ports) < 20:
        service_type = "ClusterIP"
    if service_type != "ClusterIP" or chance(rng, 0.8):
        spec["type"] = service_type

    if chance(rng, 0.3):
        external_ips: list[str] = []
        for _ in range(rng.randrange(1, 4)):
            family = rng.choice(FAMILIES)
            prefix = "203.0.113." if family == "IPv4" else "2001:db8:e::"
            external_ips.append(
                odd_spelling(rng, pools.external_address(family, prefix, numbers), mapped=True)
            )
        spec["externalIPs"] = external_ips

    with_node_ports = service_type == "NodePort"
    if service_type == "LoadBalancer":
        allocate = chance(rng, 0.7)
        if not allocate or chance(rng, 0.7):
            spec["allocateLoadBalancerNodePorts"] = allocate
        with_node_ports = allocate or chance(rng, 0.1)
        if chance(rng, 0.4):
            spec["loadBalancerSourceRanges"] = random_source_ranges(rng)
        if chance(rng, 0.9):
            service["status"] = {"loadBalancer": {"ingress": random_ingress(rng, pools, families, numbers)}}
        else:
            service["status"] = {"loadBalancer": {}}
    if with_node_ports:
        by_number: dict[int, int] = {}
        for port in ports:
            if port["port"] in by_number and chance(rng, 0.7):
                port["nodePort"] = by_number[port["port"]]  # same port, another protocol
            else:
                port["nodePort"] = pools.node_ports.pop()
            by_number[port["port"]] = port["nodePort"]

    if service_type != "ClusterIP" or "externalIPs" in spec:
        policy = "Local" if chance(rng, 0.4) else "Cluster"
        if policy == "Local" or chance(rng, 0.9):
            spec["externalTrafficPolicy"] = policy
        if policy == "Local" and service_type == "LoadBalancer":
            spec["healthCheckNodePort"] = pools.node_ports.pop()
    return service, families


# ----------------------------------------------------------------------------------------------------------
# EndpointSlices
# ----------------------------------------------------------------------------------------------------------


def endpoint_address(rng: random.Random, family: str) -> str:
    """A pod address; few enough that byte order and numeric order differ often."""
    subnet = rng.choice([0, 1, 2, 10])
    if family == "IPv4":
        last = rng.choice([1, 2, 9, 10, 11, 19, 100, rng.randrange(1, 255)])
        return f"10.244.{subnet}.{last}"
    return f"fd00:10:244:{subnet:x}::{rng.choice([1, 2, 9, 10, 16, rng.randrange(1, 65535)]):x}"


def random_conditions(rng: random.Random, terminating: bool) -> Manifest | None:
    """All combinations, absent and null included."""
    if not terminating and chance(rng, 0.1):
        return rng.choice([None, {}])
    conditions: Manifest = {}
    ready = rng.choice([True, True, True, False, None])
    if terminating:
        ready = rng.choice([False, False, False, True, None])
    conditions["ready"] = ready
    conditions["serving"] = rng.choice([True, True, False, None])
    conditions["terminating"] = True if terminating else rng.choice([False, False, None])
    for key in list(conditions):
        if conditions[key] is None and chance(rng, 0.6):
            del conditions[key]
    return conditions


def random_hints(rng: random.Random, style: str, node: str | None) -> Manifest | None:
    """Hints of one endpoint under the style of its service."""
    zones: list[str] = []
    nodes: list[str] = []
    if style in ("zones", "both") or (style == "partial" and chance(rng, 0.8)):
        zones = rng.sample(ZONES, rng.choice([1, 1, 2]))
    if style == "foreign-zones":
        zones = ["zone-z"]
    if style in ("nodes", "both") or (style == "partial" and chance(rng, 0.8)):
        nodes = [node if node is not None else "node2"]
        if chance(rng, 0.2):
            nodes = ["node2", "node3"]
    if style == "foreign-nodes":
        nodes = ["node2"]
        zones = rng.sample(ZONES, 1)
    hints: Manifest = {}
    if zones:
        hints["forZones"] = [{"name": zone} for zone in zones]
    if nodes:
        hints["forNodes"] = [{"name": name} for name in nodes]
    return hints or rng.choice([None, {}])


def random_variant(rng: random.Random, style: str, terminating: bool, mood: str) -> Manifest:
    """Everything about an endpoint but its address."""
    node = rng.choice([None, "node1", "node1", *REMOTE_NODES])
    conditions = random_conditions(rng, terminating)
    if mood == "remote" and node == "node1":
        node = "node2"
    if mood == "unready" and not terminating:
        conditions = {"ready": False, "serving": rng.choice([True, False])}
    if mood == "local" and chance(rng, 0.8):
        node = "node1"
    variant: Manifest = {}
    if conditions is not None or chance(rng, 0.3):
        variant["conditions"] = conditions
    if node is not None:
        variant["nodeName"] = node
    hints = random_hints(rng, style, node)
    if hints is not None:
        variant["hints"] = hints
    if chance(rng, 0.5):
        variant["zone"] = rng.choice(ZONES)
    return variant


def slice_ports(rng: random.Random, service_ports: list[Manifest]) -> list[Manifest]:
    """Ports of a slice: mostly those of the service, sometimes fewer, others, or half-empty ones."""
    ports: list[Manifest] = []
    unnamed = any(port.get("name", "") == "" for port in service_ports)
    for service_port in service_ports:
        if chance(rng, 0.07):
            continue
        number = rng.choice([8080, 8080, 8443, 53, 65535])
        port: Manifest = {"name": service_port.get("name", ""), "port": number}
        protocol = service_port.get("protocol", "TCP")
        if protocol != "TCP" or chance(rng, 0.9):
            port["protocol"] = protocol
        dice = rng.random()
        if dice < 0.03:
            port["name"] = "mismatch"
        elif dice < 0.06:
            port["protocol"] = rng.choice(["TCP", "UDP", "SCTP"])
        elif dice < 0.08:
            port["port"] = None
        elif dice < 0.12 and (not unnamed or NIL_NAME_BESIDE_UNNAMED_PORT):
            port["name"] = None
            if chance(rng, 0.5):
                del port["name"]
        ports.append(port)
    if chance(rng, 0.1):
        ports.append({"name": "metrics", "port": 9090, "protocol": "TCP"})
    unique: dict[str, Manifest] = {}
    for port in ports:
        unique.setdefault(port.get("name") or "", port)
    result = list(unique.values())
    rng.shuffle(result)
    return result


def make_slice(
    rng: random.Random, pools: Pools, namespace: str, service: str, family: str, ports: Any, endpoints: Any
) -> Manifest:
    """An EndpointSlice."""
    labels = {"kubernetes.io/service-name": service}
    if chance(rng, 0.5):
        labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": pools.slice_name(namespace, service), "labels": labels},
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    }


def random_slices(rng: random.Random, pools: Pools, service: Manifest, family: str) -> list[Manifest]:
    """The slices of one service and family."""
    namespace = str(service["metadata"]["namespace"])
    name = str(service["metadata"]["name"])
    service_ports: list[Manifest] = service["spec"].get("ports") or []
    if chance(rng, 0.08):
        return []
    style = rng.choice(["", "", "zones", "nodes", "both", "partial", "foreign-zones", "foreign-nodes"])
    mood = rng.choice(["", "", "", "remote", "unready", "local", "terminating"])

    # One non-terminating and one terminating variant per address: the order of slices never matters.
    count = rng.choice([0, 1, 1, 2, 3, 3, 5, 8, 13])
    variants: dict[str, dict[bool, Manifest]] = {}
    for _ in range(count):
        address = endpoint_address(rng, family)
        variants[address] = {flag: random_variant(rng, style, flag, mood) for flag in (False, True)}
    usual = {address: mood == "terminating" or chance(rng, 0.15) for address in variants}

    slices: list[Manifest] = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        endpoints: list[Manifest] = []
        for address, pair in variants.items():
            for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
                terminating = usual[address] if chance(rng, 0.9) else not usual[address]
                addresses = [odd_spelling(rng, address)]
                if chance(rng, 0.05):
                    addresses.append(endpoint_address(rng, family))
                endpoints.append({"addresses": addresses, **pair[terminating]})
        rng.shuffle(endpoints)
        listed = endpoints if endpoints or chance(rng, 0.5) else None
        made = make_slice(rng, pools, namespace, name, family, slice_ports(rng, service_ports), listed)
        if service["spec"].get("clusterIP") in ("None", None) or chance(rng, 0.02):
            made["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
        if chance(rng, 0.02):
            del made["metadata"]["labels"]["kubernetes.io/service-name"]
        if chance(rng, 0.02):
            made["ports"] = None
        slices.append(made)
    if chance(rng, 0.05):
        names = [{"addresses": ["pod.example.com"], "conditions": {"ready": True}}]
        slices.append(make_slice(rng, pools, namespace, name, "FQDN", slice_ports(rng, service_ports), names))
    return slices


def big_service(rng: random.Random, pools: Pools, endpoints: int) -> list[Manifest]:
    """A service with exactly that many endpoints in each family: unready ones and duplicates included."""
    namespace, name = pools.service_name()
    result: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": pools.cluster_ip("IPv4"),
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": rng.choice(["Cluster", "Local"]),
                "sessionAffinity": "None",
                "ports": [{"name": "big", "port": 80, "protocol": "TCP", "targetPort": 80}],
            },
        }
    ]
    spec = result[0]["spec"]
    spec["clusterIPs"] = [spec["clusterIP"], pools.cluster_ip("IPv6")]
    if chance(rng, 0.5):
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 300}}
    for family in FAMILIES:
        first = ipaddress.ip_address("10.244.100.0" if family == "IPv4" else "fd00:10:244:64::")
        made: list[Manifest] = []
        for index in range(endpoints):
            ready = not chance(rng, 0.3)
            node = rng.choice(["node1", "node2"])
            made.append({"addresses": [str(first + index)], "conditions": {"ready": ready}, "nodeName": node})
        made.extend(dict(entry) for entry in rng.sample(made, min(20, len(made))))
        for start in range(0, len(made), 100):
            port = {"name": "big", "port": 8080, "protocol": "TCP"}
            chunk = made[start : start + 100]
            result.append(make_slice(rng, pools, namespace, name, family, [port], chunk))
    return result


# ----------------------------------------------------------------------------------------------------------
# Nodes, configuration, the cluster
# ----------------------------------------------------------------------------------------------------------


def random_node(rng: random.Random) -> Manifest:
    """The node of the proxy."""
    node: Manifest = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1"},
        "spec": {},
        "status": {},
    }
    labels = {"kubernetes.io/hostname": "node1"}
    if chance(rng, 0.8):
        labels["topology.kubernetes.io/zone"] = rng.choice(ZONES)
    node["metadata"]["labels"] = labels
    pod_cidrs = rng.choice(
        [
            ["10.244.1.0/24", "fd00:10:244:1::/64"],
            ["fd00:10:244:1::/64", "10.244.1.0/24"],
            ["10.244.1.0/24"],
            ["fd00:10:244:1::/64"],
            [],
        ]
    )
    if pod_cidrs:
        node["spec"] = {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)}
    four = {"type": "InternalIP", "address": "192.168.0.2"}
    six = {"type": "InternalIP", "address": "fd00:192:168::2"}
    addresses = list(rng.choice([[four, six], [four, six], [six, four], [four], [six]]))
    if chance(rng, 0.3):
        families = {":" in entry["address"] for entry in addresses}
        outside = "2001:db8::200" if True in families else "203.0.113.254"
        addresses.append({"type": "ExternalIP", "address": outside})
    addresses.append({"type": "Hostname", "address": "node1"})
    node["status"] = {"addresses": addresses}
    return node


def random_config(rng: random.Random) -> Manifest:
    """A KubeProxyConfiguration."""
    config: Manifest = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    config["mode"] = "iptables"
    config["clusterCIDR"] = rng.choice(
        [
            "",
            "10.244.0.0/16",
            "10.244.0.0/16,fd00:10:244::/48",
            "10.244.0.0/16,fd00:10:244::/48",
            "fd00:10:244::/48,10.244.0.0/16",
            "fd00:10:244::/48",
            "10.244.77.1/16",
        ]
    )
    mode = rng.choice([None, "", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"])
    if mode is not None:
        config["detectLocalMode"] = mode
    if mode == "BridgeInterface":
        config["detectLocal"] = {"bridgeInterface": "cni0"}
    elif mode == "InterfaceNamePrefix":
        config["detectLocal"] = {"interfaceNamePrefix": rng.choice(["veth", "cali"])}
    elif chance(rng, 0.3):
        config["detectLocal"] = {"bridgeInterface": "", "interfaceNamePrefix": ""}
    node_port_addresses = rng.choice(
        [
            None,
            None,
            [],
            ["primary"],
            ["primary"],
            ["0.0.0.0/0"],
            ["::/0"],
            ["0.0.0.0/0", "::/0"],
            ["192.168.0.0/16"],
            ["192.168.0.77/24"],
            ["192.168.0.0/16", "192.168.0.0/24", "10.0.0.0/8"],
            ["192.168.0.0/16", "0.0.0.0/0"],
            ["fd00:192:168::/64"],
            ["fd00::/8", "192.168.7.0/24"],
            ["127.0.0.0/8"],
            ["127.0.0.1/32", "192.168.0.0/24"],
            ["126.0.0.0/7"],
            ["::1/128"],
            ["::1/128", "fd00::/8"],
            ["10.99.0.0/16"],
            ["172.16.0.0/12", "fd00:99::/32"],
        ]
    )
    if node_port_addresses is not None:
        config["nodePortAddresses"] = list(node_port_addresses)
    bind = rng.choice([None, None, "", "0.0.0.0", "::", "192.168.0.2", "fd00:192:168::2", "192.168.7.1"])
    if bind is not None:
        config["bindAddress"] = bind
    iptables: Manifest = {}
    if chance(rng, 0.5):
        iptables["masqueradeBit"] = rng.randrange(32)
    if chance(rng, 0.5):
        iptables["masqueradeAll"] = chance(rng, 0.4)
    if chance(rng, 0.5):
        iptables["localhostNodePorts"] = chance(rng, 0.5)
    if iptables or chance(rng, 0.5):
        config["iptables"] = iptables
    if chance(rng, 0.4):
        config["conntrack"] = {"tcpBeLiberal": chance(rng, 0.5)}
    if chance(rng, 0.3):
        config["featureGates"] = {"AllowServiceExternalIPs": chance(rng, 0.4)}
    return config


def random_local_addresses(rng: random.Random) -> list[str]:
    """Addresses of further interfaces."""
    candidates = [
        "192.168.7.1/24",
        "192.168.0.3/24",
        "172.31.0.1/24",
        "10.244.1.1/24",
        "10.99.0.9/16",
        "fd00:192:168::3/64",
        "fd00:99::1/64",
        "2001:db8:77::1",
        "172.17.0.1",
    ]
    return rng.sample(candidates, rng.randrange(0, 5))


def random_cluster(rng: random.Random, services: int) -> tuple[list[Manifest], Manifest, list[str]]:
    """Objects (with the Node "node1"), a KubeProxyConfiguration, and addresses of further interfaces.

    The node always has 192.168.0.2/24 and fd00:192:168::2/64 besides the returned addresses.
    """
    pools = Pools(rng)
    objects: list[Manifest] = [random_node(rng)]
    if chance(rng, 0.4):
        second: Manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2", "labels": {}}}
        second["metadata"]["labels"]["topology.kubernetes.io/zone"] = rng.choice(ZONES)
        second["spec"] = {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24", "fd00:10:244:2::/64"]}
        second["status"] = {"addresses": [{"type": "InternalIP", "address": "192.168.0.200"}]}
        objects.append(second)

    size = rng.random()
    at_threshold = size < 0.05
    for _ in range(services):
        service, families = random_service(rng, pools)
        objects.append(service)
        if at_threshold:
            continue  # no other endpoints: the total is exact
        for family in families:
            objects.extend(random_slices(rng, pools, service, family))
        for family in FAMILIES:  # slices of a family that the service does not have
            if family not in families and chance(rng, 0.15):
                objects.extend(random_slices(rng, pools, service, family))
    if at_threshold:
        objects.extend(big_service(rng, pools, rng.choice([1000, 1001])))
    elif size < 0.12:
        objects.extend(big_service(rng, pools, rng.randrange(300, 1300)))

    for _ in range(rng.randrange(0, 3)):  # slices of unknown services
        ghost: Manifest = {"metadata": {}, "spec": {"clusterIP": "10.96.0.1", "ports": random_ports(rng)}}
        ghost["metadata"]["namespace"], ghost["metadata"]["name"] = pools.service_name()
        objects.extend(random_slices(rng, pools, ghost, rng.choice(FAMILIES)))
    if chance(rng, 0.3):
        metadata = {"namespace": "default", "name": "kubernetes"}
        subsets = [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 1}]}]
        objects.append({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets})
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}})
    rng.shuffle(objects)
    return objects, random_config(rng), random_local_addresses(rng)
