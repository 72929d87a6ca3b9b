"""Recovered service ports as API objects which compile to the rules that they were read from.

Rules tell less than manifests: which Node an endpoint is on shows only where a policy is Local, a policy only
where it decides about traffic. What they do not tell is left out, or filled with what makes the same rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover import model
from kproxy_nat.recover.model import PortKey, RecoveredPort

Manifest = dict[str, Any]
Ports = Mapping[PortKey, RecoveredPort]

NODE_NAME = "node"
OTHER_NODE = "another-node"
ZONE = "zone"
OTHER_ZONE = "another-zone"
UNSEEN = {IpFamily.IPV4: "192.0.2.1", IpFamily.IPV6: "2001:db8::1"}
"""Stands for an endpoint on another node that the rules show by what they drop (RFC 5737, RFC 3849)."""


def service_objects(families: Sequence[Ports]) -> list[Manifest]:
    """Return the Services and their EndpointSlices, sorted by namespace and name."""
    by_service: dict[tuple[str, str], list[RecoveredPort]] = defaultdict(list)
    for ports in families:
        for port in ports.values():
            namespace, _, name = port.key.namespace_and_name.removesuffix(model.CUT).partition("/")
            by_service[namespace, name.rstrip("-")].append(port)
    made: list[Manifest] = []
    for (namespace, name), found in sorted(by_service.items()):
        made.append(_service(namespace, name, found))
        made += _slices(namespace, name, found)
    return made


def needs_zone(families: Sequence[Ports]) -> bool:
    """Whether endpoints can only be told apart by hints, for which the Node must have a zone."""
    return any(_is_narrowed(port) for ports in families for port in ports.values())


def _service(namespace: str, name: str, ports: Sequence[RecoveredPort]) -> Manifest:
    addresses: dict[str, str] = {}
    for port in sorted(ports, key=lambda port: not port.admits_node):
        for address, kind in port.addresses.items():
            if addresses.get(address, model.EXTERNAL_ADDRESS) == model.EXTERNAL_ADDRESS:
                addresses[address] = kind
    vips = [address for address, kind in addresses.items() if kind == model.LOAD_BALANCER_IP]
    external = [address for address in addresses if address not in vips]
    cluster_ips = {port.family: port.cluster_ip for port in ports if port.cluster_ip}
    families = [family for family in IpFamily if family in cluster_ips]
    health_check = max(port.health_check_node_port for port in ports)
    spec: Manifest = {
        "type": _type(ports, balanced=bool(vips or health_check)),
        "clusterIP": cluster_ips[families[0]] if families else "",
        "clusterIPs": [cluster_ips[family] for family in families],
        "ipFamilies": [str(family) for family in families],
        "ports": _port_list(ports),
    }
    spec |= {"externalIPs": external} if external else {}
    spec |= _policies(ports)
    spec |= {"healthCheckNodePort": health_check} if health_check else {}
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    if vips:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": vip} for vip in vips]}}
    return made


def _type(ports: Iterable[RecoveredPort], *, balanced: bool) -> str:
    if balanced:
        return "LoadBalancer"
    return "NodePort" if any(port.node_port for port in ports) else "ClusterIP"


def _port_list(ports: Iterable[RecoveredPort]) -> list[Manifest]:
    listed: dict[PortKey, Manifest] = {}
    for port in ports:
        entry = listed.setdefault(port.key, {})
        name = port.key.service.removesuffix(model.CUT).partition(":")[2]
        entry |= {"name": name} if name else {}
        entry |= {"port": port.port, "protocol": port.key.protocol}
        entry |= {"nodePort": port.node_port} if port.node_port else {}
    return [listed[key] for key in sorted(listed)]


def _policies(ports: Sequence[RecoveredPort]) -> Manifest:
    """Return the fields that all ports of a Service share; any port may be the one that shows them."""
    fields: Manifest = {}
    ranges = [cidr for family in IpFamily for cidr in _source_ranges(ports, family)]
    seconds = max(port.affinity_seconds for port in ports)
    if any(port.internal_policy == model.LOCAL for port in ports):
        fields["internalTrafficPolicy"] = model.LOCAL
    if any(port.external_policy == model.LOCAL for port in ports):
        fields["externalTrafficPolicy"] = model.LOCAL
    if ranges:
        fields["loadBalancerSourceRanges"] = ranges
    if seconds:
        fields["sessionAffinity"] = "ClientIP"
        fields["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
    return fields


def _source_ranges(ports: Iterable[RecoveredPort], family: IpFamily) -> tuple[str, ...]:
    """Return the ranges of one family: all ports that show any show the same, in the same order."""
    shown = [port.source_ranges for port in ports if port.family is family]
    return max(shown, key=len, default=())


def _is_narrowed(port: RecoveredPort) -> bool:
    """Whether only some endpoints serve the policy Cluster, as with hints."""
    return bool(port.cluster) and bool(port.local.keys() - port.cluster.keys())


def _slices(namespace: str, service: str, ports: Sequence[RecoveredPort]) -> Iterator[Manifest]:
    """Yield slices: ports with the same addresses share one, unless they have the same name."""
    shared: dict[tuple[IpFamily, str, int], list[Manifest]] = defaultdict(list)
    contents: dict[tuple[IpFamily, str, int], list[Manifest]] = {}
    for port in ports:
        for number, endpoints in _by_number(port).items():
            entry = _slice_port(port.key, number)
            text = repr(endpoints)
            turn = 0
            while any(other["name"] == entry["name"] for other in shared[port.family, text, turn]):
                turn += 1
            shared[port.family, text, turn].append(entry)
            contents[port.family, text, turn] = endpoints
    used = [(place, entries) for place, entries in shared.items() if entries]
    for position, (place, entries) in enumerate(used, start=1):
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-{position}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": str(place[0]),
            "ports": entries,
            "endpoints": contents[place],
        }


def _slice_port(key: PortKey, number: int) -> Manifest:
    name = key.service.removesuffix(model.CUT).partition(":")[2]
    return {"name": name, "port": number, "protocol": key.protocol}


def _by_number(port: RecoveredPort) -> dict[int, list[Manifest]]:
    """Return the endpoints of a port by their port number."""
    found: dict[int, list[Manifest]] = defaultdict(list)
    narrowed = _is_narrowed(port)
    by_policy = model.LOCAL in (port.internal_policy, port.external_policy)
    for endpoint in port.endpoints:
        if not endpoint:
            continue
        address, _, number = endpoint.rpartition(":")
        entry: Manifest = {"addresses": [address.strip("[]")], "conditions": {"ready": True}}
        if by_policy or port.mode == model.NFTABLES:
            here = port.local if by_policy else port.on_node
            entry["nodeName"] = NODE_NAME if endpoint in here else OTHER_NODE
        if narrowed:
            zone = ZONE if endpoint in port.cluster else OTHER_ZONE
            entry["hints"] = {"forZones": [{"name": zone}]}
        found[int(number)].append(entry)
    if not found and model.DROP in (port.internal_verdict, port.external_verdict):
        unseen = {"addresses": [UNSEEN[port.family]], "conditions": {"ready": True}, "nodeName": OTHER_NODE}
        found[port.port] = [unseen]
    return found
