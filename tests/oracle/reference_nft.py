"""A second, independent statement of what kube-proxy 1.36 writes in nftables mode.

Like ``reference_proxy``, from which it takes how objects are read and endpoints are chosen, it is written
straight from a description of kube-proxy's behaviour (section 4), with no cleverness: it returns the lines of
the transaction, put together as text.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from tests.oracle.reference_proxy import (
    Address,
    Endpoint,
    Network,
    ServicePort,
    categorise,
    cidrs_of_family,
    contains,
    endpoints_by_service_port,
    get_dict,
    get_flag,
    get_list,
    get_number,
    get_text,
    interface_addresses,
    is_loopback,
    node_ips,
    own_node,
    service_ports_of,
)

BASE_CHAINS = """filter-prerouting-pre-dnat filter prerouting -110
filter-output-pre-dnat filter output -110
filter-input filter input 0
filter-forward filter forward 0
filter-output filter output 0
nat-prerouting nat prerouting -100
nat-output nat output -100
nat-postrouting nat postrouting 100"""

JUMPS = """filter-input ct state new jump nodeport-endpoints-check
filter-input ct state new jump service-endpoints-check
filter-forward ct state new jump service-endpoints-check
filter-output ct state new jump service-endpoints-check
filter-prerouting-pre-dnat ct state new jump firewall-check
filter-output-pre-dnat ct state new jump firewall-check
nat-output jump services
nat-prerouting jump services
nat-postrouting jump masquerading
filter-forward ct state new jump cluster-ips-check
filter-output ct state new jump cluster-ips-check"""

SERVICE_KEY = "IP daddr . meta l4proto . th dport"
NODE_PORT_KEY = "meta l4proto . th dport"
LONGEST_COMMENT = 128


@dataclass
class NftSettings:
    """What the configuration and the Node mean for one family."""

    family: str
    word: str  # ip or ip6
    node_name: str
    zone: str
    node_ip: Address
    mark: str
    masquerade_all: bool
    if_local: str
    if_not_local: str
    match_all_node_ports: bool
    node_port_ips: list[Address]
    service_cidrs: list[Network]


def short_name(text: str) -> str:
    """4.1: eight characters of the hash, then the name; at most 240 characters."""
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    name = digest[:8] + "-" + text
    if len(name) > 240:
        name = name[:237] + "..."
    return name


def detector(config: dict[str, Any], node: dict[str, Any], family: str, word: str) -> tuple[str, str]:
    """3.8, in nft's words."""
    mode = get_text(config, "detectLocalMode") or "ClusterCIDR"
    detect_local = get_dict(config, "detectLocal")
    if mode == "BridgeInterface":
        bridge = get_text(detect_local, "bridgeInterface")
        return f"iifname {bridge}", f"iifname != {bridge}"
    if mode == "InterfaceNamePrefix":
        prefix = get_text(detect_local, "interfaceNamePrefix")
        return f"iifname {prefix}*", f"iifname != {prefix}*"
    if mode == "NodeCIDR":
        texts = [str(text) for text in get_list(get_dict(node, "spec"), "podCIDRs")]
    else:
        texts = get_text(config, "clusterCIDR").split(",")
    cidrs = cidrs_of_family(texts, family)
    if not cidrs:
        return "", ""
    return f"{word} saddr {cidrs[0]}", f"{word} saddr != {cidrs[0]}"


def read_nft_settings(
    objects: list[dict[str, Any]],
    family: str,
    node_name: str,
    config: dict[str, Any],
    local_addresses: list[str],
    service_cidrs: list[str],
) -> NftSettings:
    """Read all settings of one family."""
    node = own_node(objects, node_name)
    word = "ip" if family == "IPv4" else "ip6"
    section = get_dict(config, "nftables")
    ips = node_ips(node, get_text(config, "bindAddress"))
    texts = [str(text) for text in get_list(config, "nodePortAddresses")]
    if texts in ([], ["primary"]):
        texts = [f"{ip}/{ip.max_prefixlen}" for ip in ips.values() if not is_loopback(ip)]
    cidrs = cidrs_of_family(texts, family)
    match_all = not cidrs or any(cidr.prefixlen == 0 for cidr in cidrs)
    own = [
        address
        for address in interface_addresses(local_addresses, family)
        if not is_loopback(address) and any(contains(cidr, address) for cidr in cidrs)
    ]
    if_local, if_not_local = detector(config, node, family, word)
    return NftSettings(
        family=family,
        word=word,
        node_name=node_name,
        zone=get_text(get_dict(get_dict(node, "metadata"), "labels"), "topology.kubernetes.io/zone"),
        node_ip=ips[family],
        mark=f"0x{1 << get_number(section, 'masqueradeBit', 14):08x}",
        masquerade_all=get_flag(section, "masqueradeAll", False),
        if_local=if_local,
        if_not_local=if_not_local,
        match_all_node_ports=match_all,
        node_port_ips=own,
        service_cidrs=cidrs_of_family(service_cidrs, family),
    )


class Script:
    """Lines of a transaction; ``IP`` stands for the family's word in what is given to it."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.lines: list[str] = []
        self.known_chains: set[str] = set()
        self.known_elements: set[str] = set()

    def say(self, verb: str, rest: str) -> None:
        """Write one command; what follows the verb and kind is for the table kube-proxy."""
        self.lines.append(f"{verb} {self.word} kube-proxy {rest}".rstrip())

    def chain(self, name: str, properties: str = "") -> None:
        """Write add and flush, once."""
        if name not in self.known_chains:
            self.known_chains.add(name)
            self.say("add chain", f"{name} {properties}")
            self.say("flush chain", name)

    def rule(self, chain: str, text: str) -> None:
        """Write a rule."""
        words = [self.word if piece == "IP" else piece for piece in text.split(" ")]
        self.say("add rule", f"{chain} {' '.join(words)}")

    def container(self, kind: str, name: str, type_text: str, comment: str) -> None:
        """Write a set or map."""
        address = "ipv4_addr" if self.word == "ip" else "ipv6_addr"
        types = type_text.replace("ADDRESS", address)
        self.say(f"add {kind}", f'{name} {{ type {types} ; comment "{comment}" ; }}')

    def element(self, container: str, text: str) -> None:
        """Write an element, once."""
        line = f"{container} {{ {text} }}"
        if line not in self.known_elements:
            self.known_elements.add(line)
            self.say("add element", line)


def write_setup(  # noqa: PLR0915 - as the description has it, in one piece
    script: Script, settings: NftSettings
) -> None:
    """4.3, line by line."""
    say, rule, mark = script.say, script.rule, settings.mark
    script.lines.append(f'add table {settings.word} kube-proxy {{ comment "rules for kube-proxy" ; }}')
    for row in BASE_CHAINS.splitlines():
        say("add chain", row.split()[0])
        say("delete chain", row.split()[0])
    for row in BASE_CHAINS.splitlines():
        name, kind, hook, priority = row.split()
        script.chain(name, f"{{ type {kind} hook {hook} priority {priority} ; }}")
    for row in JUMPS.splitlines():
        source, text = row.split(" ", 1)
        script.chain(text.split()[-1])
        rule(source, text)

    key = "ADDRESS . inet_proto . inet_service"
    script.container("set", "hairpin-connections", f"ADDRESS . {key}", "service hairpin connections")
    rule("masquerading", f"mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random")
    hairpin = "IP saddr . IP daddr . meta l4proto . th dport @hairpin-connections"
    rule("masquerading", f"ct status dnat {hairpin} masquerade fully-random")

    script.container("set", "cluster-ips", "ADDRESS", "Active ClusterIPs")
    invalid = 'comment "Reject traffic to invalid ports of ClusterIPs"'
    rule("cluster-ips-check", f"IP daddr @cluster-ips reject {invalid}")
    if settings.service_cidrs:
        cidrs = " , ".join(sorted(str(cidr) for cidr in settings.service_cidrs))
        unallocated = 'comment "Drop traffic to unallocated ClusterIPs"'
        rule("cluster-ips-check", f"IP daddr {{ {cidrs} }} drop {unallocated}")

    script.container("set", "nodeport-ips", "ADDRESS", "IPs that accept NodePort traffic")
    if settings.match_all_node_ports:
        say("delete set", "nodeport-ips")
    else:
        say("flush set", "nodeport-ips")
        for address in sorted(settings.node_port_ips):
            script.element("nodeport-ips", str(address))

    purpose = "vmap to drop or reject packets to"
    script.container(
        "map", "no-endpoint-services", f"{key} : verdict", f"{purpose} services with no endpoints"
    )
    nodeports = f"{purpose} service nodeports with no endpoints"
    script.container("map", "no-endpoint-nodeports", "inet_proto . inet_service : verdict", nodeports)
    helper = 'comment "helper for @no-endpoint-services / @no-endpoint-nodeports"'
    script.chain("reject-chain", f"{{ {helper} ; }}")
    rule("reject-chain", "reject")
    rule("service-endpoints-check", f"{SERVICE_KEY} vmap @no-endpoint-services")
    loopback = "127.0.0.0/8" if settings.word == "ip" else "::1"
    accepted = f"IP daddr != {loopback}" if settings.match_all_node_ports else "IP daddr @nodeport-ips"
    rule("nodeport-endpoints-check", f"{accepted} {NODE_PORT_KEY} vmap @no-endpoint-nodeports")

    firewall = "destinations that are subject to LoadBalancerSourceRanges"
    script.container("map", "firewall-ips", f"{key} : verdict", firewall)
    rule("firewall-check", f"{SERVICE_KEY} vmap @firewall-ips")
    traffic = "ClusterIP, ExternalIP and LoadBalancer IP traffic"
    script.container("map", "service-ips", f"{key} : verdict", traffic)
    script.container("map", "service-nodeports", "inet_proto . inet_service : verdict", "NodePort traffic")
    if settings.masquerade_all:
        rule(
            "services",
            f'IP daddr @cluster-ips mark set mark or {mark} comment "masquerade all clusterIP traffic"',
        )
    elif settings.if_not_local:
        comment = 'comment "masquerade clusterIP traffic from outside cluster"'
        rule("services", f"IP daddr @cluster-ips {settings.if_not_local} mark set mark or {mark} {comment}")
    rule("services", f"{SERVICE_KEY} vmap @service-ips")
    local = "fib daddr type local " if settings.match_all_node_ports else ""
    rule("services", f"{local}{accepted} {NODE_PORT_KEY} vmap @service-nodeports")


def write_port(  # noqa: PLR0915 - as the description has it, in one piece
    script: Script, port: ServicePort, endpoints: list[Endpoint], settings: NftSettings
) -> None:
    """4.4: everything that one service port adds; the letters are those of the description."""
    chosen = categorise(port, endpoints, settings.node_name, settings.zone)
    text = f"{port.namespace}/{port.service}/{port.proto}/{port.port_name}"
    base = short_name(text)
    service, local, external, firewall = (
        f"{kind}-{base}" for kind in ("service", "local", "external", "firewall")
    )
    has_internal = chosen.has_any and not (port.internal_local and not chosen.local)
    has_external = chosen.has_any and not (port.external_local and not chosen.local)
    verdict = "drop" if chosen.has_any else "goto reject-chain"
    comment = port.name_string
    if len(comment) > LONGEST_COMMENT:
        comment = comment[:125] + "..."
    protocol = port.proto

    def endpoint_name(endpoint: Endpoint) -> str:
        return short_name(f"{text}__{str(endpoint.ip).replace(':', '.')}/{endpoint.port}")

    for endpoint in chosen.all_reachable:  # (a)
        if port.client_ip_affinity:
            script.chain("endpoint-" + endpoint_name(endpoint))
        if endpoint.is_local:
            hairpin = f"{endpoint.ip} . {endpoint.ip} . {protocol} . {endpoint.port}"
            script.element("hairpin-connections", hairpin)

    if chosen.cluster and port.uses_cluster_endpoints:  # (b)
        script.chain(service)
    if chosen.local and port.uses_local_endpoints:
        script.chain(local)
    uses_external = chosen.has_any and port.externally_accessible
    if uses_external:
        script.chain(external)

    cluster_ip = f"{port.cluster_ip} . {protocol} . {port.port}"  # (c)
    script.element("cluster-ips", str(port.cluster_ip))
    if has_internal:
        target = local if port.internal_local else service
        script.element("service-ips", f"{cluster_ip} : goto {target}")
    else:
        script.element("no-endpoint-services", f'{cluster_ip} comment "{comment}" : {verdict}')
    for external_ip in port.external_ips:
        place = f"{external_ip} . {protocol} . {port.port}"
        if chosen.has_any:
            script.element("service-ips", f"{place} : goto {external}")
        if not has_external:
            script.element("no-endpoint-services", f'{place} comment "{comment}" : {verdict}')

    uses_firewall = bool(port.load_balancer_vips) and bool(port.source_ranges)  # (d)
    if uses_firewall:
        script.chain(firewall)
    for vip in port.load_balancer_vips:
        place = f"{vip} . {protocol} . {port.port}"
        if chosen.has_any:
            script.element("service-ips", f"{place} : goto {external}")
        if uses_firewall:
            script.element("firewall-ips", f"{place} : goto {firewall}")
    if not has_external:
        for vip in port.load_balancer_vips:
            place = f"{vip} . {protocol} . {port.port}"
            script.element("no-endpoint-services", f'{place} comment "{comment}" : {verdict}')

    if port.node_port:  # (e)
        place = f"{protocol} . {port.node_port}"
        if chosen.has_any:
            script.element("service-nodeports", f"{place} : goto {external}")
        if not has_external:
            script.element("no-endpoint-nodeports", f'{place} comment "{comment}" : {verdict}')

    if uses_external:  # (f)
        mark = f"mark set mark or {settings.mark}"
        if not port.external_local:
            script.rule(external, f'{mark} comment "masquerade"')
        else:
            if settings.if_local:
                short_cut = 'comment "short-circuit pod traffic"'
                script.rule(external, f"{settings.if_local} goto {service} {short_cut}")
            script.rule(external, f'fib saddr type local {mark} comment "masquerade local traffic"')
            short_cut = 'comment "short-circuit local traffic"'
            script.rule(external, f"fib saddr type local goto {service} {short_cut}")
        if has_external:
            script.rule(external, f"goto {local if port.external_local else service}")

    if uses_firewall:  # (g)
        admitted = [str(cidr) for cidr in port.source_ranges]
        if any(contains(cidr, settings.node_ip) for cidr in port.source_ranges):
            admitted += [str(vip) for vip in port.load_balancer_vips]
        script.rule(firewall, f"IP saddr != {{ {' , '.join(admitted)} }} drop")

    policies = []
    if chosen.cluster and port.uses_cluster_endpoints:
        policies.append((service, chosen.cluster))
    if chosen.local and port.uses_local_endpoints:
        policies.append((local, chosen.local))
    if not port.client_ip_affinity:  # (i)
        for chain, members in policies:
            slots = " , ".join(f"{slot} : {e.ip} . {e.port}" for slot, e in enumerate(members))
            draw = f"numgen random mod {len(members)} map {{ {slots} }}"
            script.rule(chain, f"meta l4proto {protocol} dnat IP addr . port to {draw}")
        return
    for endpoint in chosen.all_reachable:  # (h)
        address = "ipv4_addr" if settings.word == "ip" else "ipv6_addr"
        properties = f"type {address} ; flags dynamic,timeout ; timeout {port.affinity_seconds}s ;"
        script.say("add set", f"affinity-{endpoint_name(endpoint)} {{ {properties} }}")
    for chain, members in policies:  # (j)
        names = [endpoint_name(endpoint) for endpoint in members]
        for name in names:
            script.rule(chain, f"IP saddr @affinity-{name} goto endpoint-{name}")
        slots = " , ".join(f"{slot} : goto endpoint-{name}" for slot, name in enumerate(names))
        script.rule(chain, f"numgen random mod {len(names)} vmap {{ {slots} }}")
    for endpoint in chosen.all_reachable:
        chain = "endpoint-" + endpoint_name(endpoint)
        script.rule(chain, f"update @affinity-{endpoint_name(endpoint)} {{ IP saddr }}")
        script.rule(chain, f"meta l4proto {protocol} dnat to {endpoint.identity}")


def reference_nft_script(
    objects: list[dict[str, Any]],
    *,
    family: str,
    node_name: str,
    config: dict[str, Any],
    local_addresses: list[str],
    service_cidrs: list[str],
) -> str:
    """Return what kube-proxy of one family hands to ``nft -f -`` in its first full sync."""
    settings = read_nft_settings(objects, family, node_name, config, local_addresses, service_cidrs)
    allow_external_ips = get_flag(get_dict(config, "featureGates"), "AllowServiceExternalIPs", True)
    ports: dict[tuple[str, str, str, str], ServicePort] = {}
    for item in objects:
        if item.get("kind") == "Service":
            for port in service_ports_of(item, family, allow_external_ips):
                ports[port.key] = port
    endpoints = endpoints_by_service_port(objects, family, node_name)
    script = Script(settings.word)
    write_setup(script, settings)
    for key in sorted(ports):
        write_port(script, ports[key], endpoints.get(key, []), settings)
    return "\n".join(script.lines) + "\n"
