"""The cluster in which packets are sent: two nodes, endpoints on both, a pod without a server, two clients.

The rules under test are those of ``node1``. ``node2`` only forwards.
"""

from __future__ import annotations

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.servers import Listener
from kproxy_nat.lab.topology import Host, Node, Topology
from kproxy_nat.net.addresses import Address, Cidr, IpFamily, parse_address, parse_cidr

TARGET_PORT = 8080
CROWD = 16
"""So many addresses the client has, to come as different clients."""


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(parse_address, texts))


def networks(*texts: str) -> tuple[Cidr, ...]:
    return tuple(map(parse_cidr, texts))


FABRIC = Host("fabric", addresses("192.168.0.1", "fd00:192:168::1"))
POD_A = Host("pod-a", addresses("10.180.0.21", "fd00:10:180::21"))
POD_B = Host("pod-b", addresses("10.180.0.22", "fd00:10:180::22"))
VISITOR = Host("visitor", addresses("10.180.0.99", "fd00:10:180::99"))
POD_FAR = Host("pod-far", addresses("10.180.1.34", "fd00:10:180:1::34"))
CLIENT = Host(
    "client",
    addresses(
        *(f"198.51.100.{number}" for number in range(1, CROWD + 1)),
        *(f"fd00:198::{number:x}" for number in range(1, CROWD + 1)),
    ),
)
STRANGER = Host("stranger", addresses("192.0.2.9", "fd00:192:2::9"))
NODE = Node(
    "node1",
    addresses("192.168.0.2", "fd00:192:168::2"),
    pods=(POD_A, POD_B, VISITOR),
    networks=networks("10.96.0.0/12", "203.0.113.0/24", "fd00:10:96::/112", "fd00:203::/64"),
)
FAR_NODE = Node("node2", addresses("192.168.0.3", "fd00:192:168::3"), pods=(POD_FAR,))

TOPOLOGY = Topology(FABRIC, (NODE, FAR_NODE), (CLIENT, STRANGER))
ENDPOINTS = (POD_A, POD_B, POD_FAR)
LOCAL_ENDPOINTS = (POD_A, POD_B)
LISTENERS = [Listener(pod, transport, TARGET_PORT) for pod in ENDPOINTS for transport in Transport]

CLUSTER_IP = {
    IpFamily.IPV4: parse_address("10.96.12.34"),
    IpFamily.IPV6: parse_address("fd00:10:96::1234"),
}
LOAD_BALANCER_IP = {
    IpFamily.IPV4: parse_address("203.0.113.10"),
    IpFamily.IPV6: parse_address("fd00:203::10"),
}
EXTERNAL_IP = {
    IpFamily.IPV4: parse_address("203.0.113.20"),
    IpFamily.IPV6: parse_address("fd00:203::20"),
}
LOOPBACK = {IpFamily.IPV4: parse_address("127.0.0.1"), IpFamily.IPV6: parse_address("::1")}
