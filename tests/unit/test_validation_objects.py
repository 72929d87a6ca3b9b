"""What the API server would refuse is refused here: code, place, message and hint of each finding."""

from __future__ import annotations

import pytest

from kproxy_nat.errors import Code
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from tests.unit.findings import (
    CIDR_HINT,
    HEADS,
    INTERFACE_RULE,
    LABEL_RULE,
    PROTOCOLS,
    REACHABLE,
    STANDING_HINTS,
    SUBDOMAIN_RULE,
    check,
    shown,
)


@pytest.mark.parametrize(
    "body, hint",
    [
        ("spec: {clusterIP: 10.0.0.1, ports: [{port: 0}]}", STANDING_HINTS[Code.PORT_RANGE]),
        ("spec: {clusterIP: web, ports: [{port: 1}]}", STANDING_HINTS[Code.BAD_ADDRESS]),
    ],
)
def test_each_code_has_its_advice(body: str, hint: str) -> None:
    (problem,) = load_texts([SourceText("x", f"{HEADS['Service']}{body}\n")]).problems
    assert problem.hint == hint


SERVICE = [
    (
        "clusterIP: 10.0.0.300",
        Code.BAD_ADDRESS,
        "4:19",
        "'10.0.0.300' is not an IP address: 300 is more than 255",
        "",
    ),
    ("clusterIP: web", Code.BAD_ADDRESS, "4:19", "'web' is not an IP address", ""),
    (
        "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]",
        Code.INCONSISTENT,
        "4:42",
        "clusterIPs begins with 10.0.0.2, but clusterIP is 10.0.0.1",
        "make the first of clusterIPs the same as clusterIP",
    ),
    (
        "clusterIP: 10.0.0.1, ipFamilies: [IPv6]",
        Code.FAMILY_MISMATCH,
        "4:19",
        "cluster IP 10.0.0.1 is IPv4, but ipFamilies says IPv6",
        "",
    ),
    (
        "clusterIPs: [10.0.0.1, 10.0.0.2]",
        Code.FAMILY_MISMATCH,
        "4:31",
        "clusterIPs has a second IPv4 address, 10.0.0.2",
        "",
    ),
    (
        'clusterIPs: ["fd00::1"], ipFamilies: [IPv4]',
        Code.FAMILY_MISMATCH,
        "4:21",
        "cluster IP fd00::1 is IPv6, but ipFamilies says IPv4",
        "",
    ),
    (
        "ipFamilies: [IPv5]",
        Code.UNSUPPORTED_VALUE,
        "4:21",
        "ipFamilies 'IPv5' is not supported",
        "use one of: IPv4, IPv6",
    ),
    ("ipFamilies: [IPv4, IPv4]", Code.INCONSISTENT, "4:8", "ipFamilies names a family twice", ""),
    (
        "type: nodeport",
        Code.UNSUPPORTED_VALUE,
        "4:14",
        "type 'nodeport' is not supported",
        "use one of: ClusterIP, NodePort, LoadBalancer, ExternalName",
    ),
    (
        "internalTrafficPolicy: local",
        Code.UNSUPPORTED_VALUE,
        "4:31",
        "internalTrafficPolicy 'local' is not supported",
        "use one of: Cluster, Local",
    ),
    (
        'internalTrafficPolicy: ""',
        Code.UNSUPPORTED_VALUE,
        "4:8",
        "internalTrafficPolicy '' is not supported",
        "use one of: Cluster, Local",
    ),
    (
        "sessionAffinity: Cookie",
        Code.UNSUPPORTED_VALUE,
        "4:25",
        "sessionAffinity 'Cookie' is not supported",
        "use one of: None, ClientIP",
    ),
    (
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
        Code.OUT_OF_RANGE,
        "4:86",
        "timeoutSeconds 86401 is not between 1 and 86400",
        "",
    ),
    (
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
        Code.OUT_OF_RANGE,
        "4:86",
        "timeoutSeconds 0 is not between 1 and 86400",
        "",
    ),
    ("externalIPs: [127.0.0.1]", Code.BAD_ADDRESS, "4:22", "127.0.0.1 is a loopback address", REACHABLE),
    ("externalIPs: [0.0.0.0]", Code.BAD_ADDRESS, "4:22", "0.0.0.0 is unspecified", REACHABLE),
    (
        "externalIPs: [169.254.1.1]",
        Code.BAD_ADDRESS,
        "4:22",
        "169.254.1.1 is a link-local address",
        REACHABLE,
    ),
    (
        "externalIPs: [224.0.0.5]",
        Code.BAD_ADDRESS,
        "4:22",
        "224.0.0.5 is a link-local multicast address",
        REACHABLE,
    ),
    ('externalIPs: ["fe80::1"]', Code.BAD_ADDRESS, "4:22", "fe80::1 is a link-local address", REACHABLE),
    (
        'externalIPs: ["::ffff:127.0.0.1"]',
        Code.BAD_ADDRESS,
        "4:22",
        "::ffff:127.0.0.1 is a loopback address",
        REACHABLE,
    ),
    ('externalIPs: ["0127.0.0.1"]', Code.BAD_ADDRESS, "4:22", "0127.0.0.1 is a loopback address", REACHABLE),
    ("externalIPs: [x]", Code.BAD_ADDRESS, "4:22", "'x' is not an IP address", ""),
    (
        "loadBalancerSourceRanges: [10.0.0.0/33]",
        Code.BAD_CIDR,
        "4:35",
        "'10.0.0.0/33' is not a CIDR: the prefix length must be 0 to 32",
        CIDR_HINT,
    ),
    (
        "healthCheckNodePort: 70000",
        Code.PORT_RANGE,
        "4:29",
        "healthCheckNodePort 70000 is not between 1 and 65535",
        "",
    ),
]


@pytest.mark.parametrize("fields, code, place, message, hint", SERVICE)
def test_service(fields: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("Service", f"spec: {{{fields}, ports: [{{port: 80}}]}}") == [(code, place, message, hint)]


@pytest.mark.parametrize("address", ["FE80::1", "FF02::1", "224.00.0.5", "169.0254.1.1"])
def test_an_address_of_special_use_is_refused_in_any_spelling(address: str) -> None:
    found = check("Service", f"spec: {{externalIPs: ['{address}'], ports: [{{port: 80}}]}}")
    assert [code for code, *_ in found] == [Code.BAD_ADDRESS]


PORTS = [
    ("[]", Code.MISSING_FIELD, "4:8", "spec.ports is missing or empty", "give the Service a port"),
    ("[{port: 0}]", Code.PORT_RANGE, "4:23", "port 0 is not between 1 and 65535", ""),
    ("[{port: 65536}]", Code.PORT_RANGE, "4:23", "port 65536 is not between 1 and 65535", ""),
    ("[{port: -1}]", Code.PORT_RANGE, "4:23", "port -1 is not between 1 and 65535", ""),
    (
        "[{port: 1, nodePort: 65536}]",
        Code.PORT_RANGE,
        "4:36",
        "nodePort 65536 is not between 1 and 65535",
        "",
    ),
    ("[{port: 1, nodePort: -1}]", Code.PORT_RANGE, "4:36", "nodePort -1 is not between 1 and 65535", ""),
    (
        "[{port: 1, protocol: tcp}]",
        Code.UNSUPPORTED_VALUE,
        "4:36",
        "protocol 'tcp' is not supported",
        PROTOCOLS,
    ),
    (
        "[{port: 1, protocol: ICMP}]",
        Code.UNSUPPORTED_VALUE,
        "4:36",
        "protocol 'ICMP' is not supported",
        PROTOCOLS,
    ),
    ("[{port: 1, name: HTTP}]", Code.BAD_NAME, "4:32", "port name 'HTTP' is not valid", LABEL_RULE),
    ("[{port: 1, name: a}, {port: 2, name: a}]", Code.DUPLICATE_PORT, "4:52", "name a is there twice", ""),
    (
        "[{port: 1, name: a}, {port: 1, name: b}]",
        Code.DUPLICATE_PORT,
        "4:43",
        "port 1/TCP is there twice",
        "",
    ),
    (
        "[{port: 1, name: a, nodePort: 30000}, {port: 2, name: b, nodePort: 30000}]",
        Code.DUPLICATE_PORT,
        "4:82",
        "nodePort 30000/TCP is there twice",
        "",
    ),
    (
        "[{port: 1}, {port: 2, name: b}]",
        Code.MISSING_FIELD,
        "4:16",
        "a port has no name, though there are several",
        "name each port: endpoints are joined to Service ports by name",
    ),
]


@pytest.mark.parametrize("ports, code, place, message, hint", PORTS)
def test_ports_of_a_service(ports: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("Service", f"spec: {{ports: {ports}}}") == [(code, place, message, hint)]


@pytest.mark.parametrize(
    "body",
    [
        "spec: {clusterIP: None}",
        "spec: {clusterIP: None, ports: []}",
        "spec: {type: ExternalName}",
        "spec: {ports: [{port: 1}]}",
        "spec: {clusterIP: 10.0.0.1, ports: [{port: 65535, protocol: SCTP, nodePort: 0}]}",
        "spec: {clusterIP: 010.0.0.1, ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]}",
        'spec: {clusterIPs: ["fd00::1", 10.0.0.1], ipFamilies: [IPv6, IPv4], ports: [{port: 1}]}',
        "spec: {clusterIP: 10.0.0.1, ports: [{port: 1}], loadBalancerSourceRanges: [' 10.0.0.0/8 ', '', ' ']}",  # noqa: E501
        "spec: {clusterIP: 10.0.0.1, ports: [{port: 1}], externalIPs: [239.1.1.1, 224.0.1.1]}",
        "spec: {ports: [{port: 1}], sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}",
        "spec: {ports: [{port: 1, targetPort: http}]}",
        "spec: {ports: [{port: 1, targetPort: 8080}]}\nstatus: {loadBalancer: {ingress: [{hostname: a.example}]}}",  # noqa: E501
        "spec: {ports: [{port: 1}]}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: Proxy}]}}",
    ],
)
def test_good_services(body: str) -> None:
    assert check("Service", body) == []


@pytest.mark.parametrize(
    "ingress, code, place, message, hint",
    [
        (
            "{ip: 192.0.2.256}",
            Code.BAD_ADDRESS,
            "5:40",
            "'192.0.2.256' is not an IP address: 256 is more than 255",
            "",
        ),
        (
            "{ip: 192.0.2.1, ipMode: vip}",
            Code.UNSUPPORTED_VALUE,
            "5:59",
            "ipMode 'vip' is not supported",
            "use one of: VIP, Proxy",
        ),
    ],
)
def test_load_balancer_status(ingress: str, code: Code, place: str, message: str, hint: str) -> None:
    body = f"spec: {{ports: [{{port: 1}}]}}\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}"
    assert check("Service", body) == [(code, place, message, hint)]


@pytest.mark.parametrize("addresses", ["[None, 10.0.0.1]", "[10.0.0.1, None]"])
def test_none_does_not_mix_with_addresses(addresses: str) -> None:
    found = check("Service", f"spec: {{clusterIPs: {addresses}, ports: [{{port: 1}}]}}")
    assert [code for code, *_ in found] == [Code.INCONSISTENT]


def test_more_than_two_cluster_ips() -> None:
    found = check("Service", 'spec: {clusterIPs: [10.0.0.1, "fd00::1", "fd00::2"], ports: [{port: 1}]}')
    assert [(code, message) for code, _, message, _ in found] == [
        (Code.INCONSISTENT, "clusterIPs has more than two addresses"),
        (Code.FAMILY_MISMATCH, "clusterIPs has a second IPv6 address, fd00::2"),
    ]


@pytest.mark.parametrize(
    "body, code, place, message, hint",
    [
        (
            "spec: {podCIDR: 10.0.0.0}",
            Code.BAD_CIDR,
            "4:17",
            "'10.0.0.0' is not a CIDR: the prefix length is missing",
            CIDR_HINT,
        ),
        (
            "spec: {podCIDRs: [x/8]}",
            Code.BAD_CIDR,
            "4:19",
            "'x/8' is not a CIDR: 'x' is not an IP address",
            CIDR_HINT,
        ),
        (
            "status: {addresses: [{type: InternalIP, address: node1}]}",
            Code.BAD_ADDRESS,
            "4:50",
            "'node1' is not an IP address",
            "",
        ),
    ],
)
def test_node(body: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("Node", body) == [(code, place, message, hint)]


def test_host_names_of_a_node_are_no_addresses() -> None:
    assert check("Node", "status: {addresses: [{type: Hostname, address: node1}]}") == []


CONFIG = [
    (
        "mode: userspace",
        Code.UNSUPPORTED_VALUE,
        "4:7",
        "mode 'userspace' is not supported",
        "use one of: iptables, nftables, ipvs",
    ),
    (
        "detectLocalMode: Bridge",
        Code.UNSUPPORTED_VALUE,
        "4:18",
        "detectLocalMode 'Bridge' is not supported",
        "use one of: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix",
    ),
    ("bindAddress: eth0", Code.BAD_ADDRESS, "4:14", "'eth0' is not an IP address", ""),
    (
        "clusterCIDR: 10.0.0.0",
        Code.BAD_CIDR,
        "4:14",
        "'10.0.0.0' is not a CIDR: the prefix length is missing",
        CIDR_HINT,
    ),
    (
        "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
        Code.FAMILY_MISMATCH,
        "4:14",
        "clusterCIDR has a second IPv4 network, 11.0.0.0/8",
        "give at most one network of each family",
    ),
    (
        "nodePortAddresses: [primary, 10.0.0.0/8]",
        Code.INCONSISTENT,
        "4:1",
        "'primary' cannot be mixed with networks",
        "give 'primary' or networks",
    ),
    (
        "nodePortAddresses: [10.0.0.1]",
        Code.BAD_CIDR,
        "4:21",
        "'10.0.0.1' is not a CIDR: the prefix length is missing",
        CIDR_HINT,
    ),
    (
        "iptables: {masqueradeBit: 32}",
        Code.OUT_OF_RANGE,
        "4:27",
        "masqueradeBit 32 is not between 0 and 31",
        "",
    ),
    (
        "nftables: {masqueradeBit: -1}",
        Code.OUT_OF_RANGE,
        "4:27",
        "masqueradeBit -1 is not between 0 and 31",
        "",
    ),
    (
        "detectLocalMode: BridgeInterface",
        Code.MISSING_FIELD,
        "4:18",
        "detectLocalMode BridgeInterface needs detectLocal.bridgeInterface",
        "",
    ),
    (
        "detectLocalMode: InterfaceNamePrefix",
        Code.MISSING_FIELD,
        "4:18",
        "detectLocalMode InterfaceNamePrefix needs detectLocal.interfaceNamePrefix",
        "",
    ),
    (
        "detectLocal: {bridgeInterface: 'br 0'}",
        Code.BAD_NAME,
        "4:32",
        "bridgeInterface 'br 0' is not an interface name",
        INTERFACE_RULE,
    ),
    (
        "detectLocal: {bridgeInterface: abcdefghijklmnop}",
        Code.BAD_NAME,
        "4:32",
        "bridgeInterface 'abcdefghijklmnop' is not an interface name",
        INTERFACE_RULE,
    ),
    (
        "detectLocal: {interfaceNamePrefix: abcdefghijklmno}",
        Code.BAD_NAME,
        "4:36",
        "interfaceNamePrefix 'abcdefghijklmno' is not an interface name",
        INTERFACE_RULE,
    ),
]


@pytest.mark.parametrize("body, code, place, message, hint", CONFIG)
def test_configuration(body: str, code: Code, place: str, message: str, hint: str) -> None:
    assert check("KubeProxyConfiguration", body) == [(code, place, message, hint)]


@pytest.mark.parametrize("kind", ["Service", "EndpointSlice", "Endpoints", "Node"])
def test_a_name_is_needed(kind: str) -> None:
    head = HEADS[kind].splitlines()
    body = {"Service": "spec: {ports: [{port: 1}]}\n", "EndpointSlice": "addressType: IPv4\n"}.get(kind, "")
    text = "\n".join([*head[:2], "metadata: {labels: {}}", body])
    problems = load_texts([SourceText("x", text)]).problems
    assert [shown(p) for p in problems] == [(Code.MISSING_FIELD, "3:1", "metadata.name is missing", "")]


def test_places_are_the_same_in_a_list_and_in_json() -> None:
    service = HEADS["Service"] + "spec: {ports: [{port: 0}]}\n"
    listed = "kind: List\nitems:\n- " + service.replace("\n", "\n  ").rstrip() + "\n"
    problems = load_texts([SourceText("x", "apiVersion: v1\n" + listed)]).problems
    assert [(p.code, str(p.location), p.location and p.location.text) for p in problems] == [
        (Code.PORT_RANGE, "x:7:25", "  spec: {ports: [{port: 0}]}")
    ]
    assert SUBDOMAIN_RULE != LABEL_RULE
