"""UDP flows in a real connection tracking table: the stale ones are deleted, and they alone."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kproxy_nat.apply import conntrack
from kproxy_nat.apply.conntrack import UdpFlow, delete_flows, read_udp_flows, remove_stale_flows
from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.proxy.udp_flows import UdpServices
from tests.kernel.netns import requires_kernel
from tests.patience import patient

pytestmark = [pytest.mark.kernel, requires_kernel]

TIMEOUT = patient(5)
"""Seconds for a datagram within one namespace."""


@dataclass
class Node:
    """A namespace that holds a client, two endpoints and a node's address, with real rules and sockets."""

    namespace: Namespace
    family: IpFamily
    client: Address
    vip: Address
    node: Address
    first: Address
    second: Address
    sockets: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        six = self.family is IpFamily.IPV6
        self.iptables = "ip6tables" if six else "iptables"
        self.run("ip", "link", "set", "lo", "up")
        for address in (self.client, self.node, self.first, self.second):
            # Without nodad an address of IPv6 is tentative until a worker of the kernel has seen to it.
            self.run("ip", "addr", "add", f"{address}/{self.family.bits}", "dev", "lo", *(["nodad"] * six))
        for line in ("add name kpn0 type veth peer name kpn1", "set kpn0 up", "set kpn1 up"):
            self.run("ip", "link", *line.split())
        self.run("ip", "-6" if six else "-4", "route", "add", self.vip, "dev", "kpn0")
        self.run("ip", "neigh", "add", self.vip, "lladdr", "02:00:00:00:00:01", "dev", "kpn0")
        self.servers = {self.bound(address, 5353): address for address in (self.first, self.second)}

    def run(self, *words: str) -> None:
        argv = ["ip", "netns", "exec", self.namespace.label, *words]
        subprocess.run(argv, check=True, capture_output=True, text=True)

    def bound(self, address: Address, port: int = 0) -> socket.socket:
        """Return a UDP socket inside."""
        family = socket.AF_INET6 if self.family is IpFamily.IPV6 else socket.AF_INET
        made = self.namespace.run(socket.socket, family, socket.SOCK_DGRAM)
        self.sockets.append(made)
        made.settimeout(TIMEOUT)
        made.bind((address, port))
        return made

    def lead_to(self, endpoint: Address) -> None:
        """Let the service's address and node port lead to an endpoint, as of the next flow."""
        target = ("-j", "DNAT", "--to-destination", join_host_port(endpoint, 5353))
        udp = (self.iptables, "-t", "nat", "-A", "OUTPUT", "-p", "udp")
        self.run(self.iptables, "-t", "nat", "-F", "OUTPUT")
        self.run(*udp, "-d", self.vip, "--dport", "53", *target)
        self.run(*udp, "-d", self.node, "--dport", "30053", *target)

    def ask(self, client: socket.socket, address: Address, port: int) -> Address:
        """Send a datagram, and return the endpoint that received and answered it."""
        client.sendto(b"question", (address, port))
        (server,), _, _ = select.select(list(self.servers), [], [], TIMEOUT)
        _, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        answer, sender = client.recvfrom(100)
        assert (answer, sender[:2]) == (b"answer", (address, port))
        return self.servers[server]

    def text(self, client: socket.socket, address: Address, port: int, endpoint: Address) -> str:
        """Return how such a flow prints."""
        source = join_host_port(self.client, client.getsockname()[1])
        was = join_host_port(endpoint, 5353 if endpoint != address else port)
        return f"UDP {source} -> {join_host_port(address, port)} (was {was})"

    def flows(self) -> set[str]:
        return {str(flow) for flow in self.namespace.run(read_udp_flows, self.family)}

    def remove(self, services: UdpServices) -> set[str]:
        """Remove stale flows, and return them as they print; nothing may fail."""
        removal = self.namespace.run(remove_stale_flows, services, self.family)
        assert removal.problems == ()
        return {str(flow) for flow in removal.flows}

    def services(self, *endpoints: Address) -> UdpServices:
        """Return the service with these endpoints."""
        listed = tuple(join_host_port(endpoint, 5353) for endpoint in endpoints)
        return UdpServices({join_host_port(self.vip, 53): listed}, {30053: listed})

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()


ADDRESSES = {
    IpFamily.IPV4: ("10.1.0.2", "10.96.0.10", "192.168.0.2", "10.180.0.4", "10.180.0.5"),
    IpFamily.IPV6: ("fd00:1::2", "fd00:96::a", "fd00:192::2", "fd00:180::4", "fd00:180::5"),
}


@pytest.fixture(params=list(IpFamily))
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    name = f"kpn-conntrack-{os.getpid()}"
    try:
        with open_namespace(name, create=True) as namespace:
            client, vip, own, first, second = map(Address, ADDRESSES[request.param])
            made = Node(namespace, request.param, client, vip, own, first, second)
            yield made
            made.close()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_flows_to_an_endpoint_that_is_gone(node: Node) -> None:
    old, new = node.bound(node.client), node.bound(node.client)
    node.lead_to(node.first)
    assert node.ask(old, node.vip, 53) == node.ask(old, node.node, 30053) == node.first
    node.lead_to(node.second)
    assert node.ask(new, node.vip, 53) == node.ask(new, node.node, 30053) == node.second
    assert node.ask(old, node.vip, 53) == node.first  # So it would be for ever.
    assert node.remove(node.services(node.second)) == {
        node.text(old, node.vip, 53, node.first),
        node.text(old, node.node, 30053, node.first),
    }
    kept = {node.text(new, node.vip, 53, node.second), node.text(new, node.node, 30053, node.second)}
    assert node.flows() == kept
    assert node.ask(old, node.vip, 53) == node.ask(old, node.node, 30053) == node.second
    assert node.remove(node.services(node.second)) == set()


def test_flows_to_endpoints_that_serve_and_to_what_is_no_service(node: Node) -> None:
    client = node.bound(node.client)
    node.lead_to(node.first)
    node.ask(client, node.vip, 53)
    node.lead_to(node.second)
    node.ask(client, node.node, 30053)
    node.ask(client, node.first, 5353)
    before = node.flows()
    assert len(before) == 3
    assert node.remove(node.services(node.first, node.second)) == set()
    elsewhere = join_host_port(node.vip, 54)
    assert node.remove(UdpServices({elsewhere: ("nobody",)}, {30054: ("nobody",)})) == set()
    assert node.flows() == before


def test_a_flow_from_before_there_were_rules(node: Node) -> None:
    """Its first packet was led nowhere, and without the rules' help all later ones would be, too."""
    client = node.bound(node.client)
    node.run(node.iptables, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
    client.sendto(b"too early", (node.vip, 53))
    node.lead_to(node.first)
    assert node.remove(node.services(node.first)) == {node.text(client, node.vip, 53, node.vip)}
    assert node.ask(client, node.vip, 53) == node.first


def test_tcp_is_left_alone_and_not_even_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = conntrack._answers
    read: list[bytes] = []

    def answers_and_tell(netlink: socket.socket) -> Iterator[bytes]:
        for message in answers(netlink):
            read.append(message)
            yield message

    monkeypatch.setattr(conntrack, "_answers", answers_and_tell)
    target = ("-j", "DNAT", "--to-destination", join_host_port(node.first, 5353))
    node.run(node.iptables, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", node.vip, *target)
    family = socket.AF_INET6 if node.family is IpFamily.IPV6 else socket.AF_INET
    with (
        node.namespace.run(socket.socket, family, socket.SOCK_STREAM) as server,
        node.namespace.run(socket.socket, family, socket.SOCK_STREAM) as client,
    ):
        server.bind((node.first, 5353))
        server.listen()
        client.connect((node.vip, 53))
        accepted, _ = server.accept()
        with accepted:
            assert node.flows() == set()
            assert node.remove(node.services(node.second)) == set()
            assert read == []
            client.sendall(b"still there")
            assert accepted.recv(100) == b"still there"


@pytest.mark.parametrize("zone", [("--zone", "5"), ("--zone-orig", "5")])
def test_a_flow_in_a_zone(node: Node, zone: tuple[str, str]) -> None:
    node.run(node.iptables, "-t", "raw", "-A", "OUTPUT", "-d", node.vip, "-j", "CT", *zone)
    node.lead_to(node.first)
    client = node.bound(node.client)
    client.sendto(b"question", (node.vip, 53))
    assert node.remove(node.services(node.second)) == {node.text(client, node.vip, 53, node.first)}
    assert node.flows() == set()


def test_a_flow_that_took_the_place_of_a_stale_one_is_not_deleted(node: Node) -> None:
    """Often in the same memory, where the kernel gives it the same id."""
    client = node.bound(node.client)
    for stale, new in (node.first, node.second), (node.second, node.first):
        node.lead_to(stale)
        node.ask(client, node.vip, 53)
        flows = node.namespace.run(read_udp_flows, node.family)
        node.lead_to(new)
        for _ in range(16):
            node.namespace.run(deleted, node, node.namespace.run(read_udp_flows, node.family))
            assert node.namespace.run(deleted, node, flows) == 0
            node.ask(client, node.vip, 53)
            assert node.namespace.run(deleted, node, flows) == 0
        assert node.flows() == {node.text(client, node.vip, 53, new)}
        node.namespace.run(deleted, node, node.namespace.run(read_udp_flows, node.family))


def deleted(node: Node, flows: list[UdpFlow]) -> int:
    return len(list(delete_flows(flows, node.family)))


def test_thousands(node: Node) -> None:
    """A dump of several hundred datagrams; every second flow is to a node port without that endpoint."""
    client = node.bound(node.client)
    node.lead_to(node.first)
    limit = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    ports = range(20000, 20000 + min(10000, limit // 4 * 2))
    for port in ports:
        client.sendto(b"", (node.node, port))
    assert len(node.flows()) == len(ports)
    even: dict[int, tuple[str, ...]] = dict.fromkeys(ports[::2], ("somebody else",))
    assert len(node.remove(UdpServices({}, even))) == len(even)
    left = node.namespace.run(read_udp_flows, node.family)
    assert {flow.destination_port for flow in left} == set(ports[1::2])


def test_the_other_family_is_left_alone(node: Node) -> None:
    client = node.bound(node.client)
    node.lead_to(node.first)
    node.ask(client, node.vip, 53)
    other = node.family.other
    assert node.namespace.run(read_udp_flows, other) == []
    assert node.namespace.run(remove_stale_flows, node.services(node.second), other).flows == ()
    assert len(node.flows()) == 1


def test_without_privilege(node: Node) -> None:
    script = """
from kproxy_nat.apply.conntrack import remove_stale_flows
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.udp_flows import UdpServices
removal = remove_stale_flows(UdpServices({"10.96.0.10:53": ("10.180.0.4:53",)}), IpFamily.IPV4)
(problem,) = removal.problems
assert problem.message == "cannot read the conntrack table: Operation not permitted", problem
"""
    without = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    node.run(*without, sys.executable, "-c", script)
