"""Packets that ask everything of a view's rules: all kinds of senders to each frontend, and beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kproxy_nat.net.addresses import Address, IpFamily, address_value
from kproxy_nat.proxy.options import LocalCidr, LocalInterface, LocalInterfacePrefix, NodeOptions
from kproxy_nat.proxy.view import NodeView, ServiceView
from tests.semantics.interpreter import NEW, Packet

PROTOCOLS = ("tcp", "udp", "sctp")
NOWHERE = {IpFamily.IPV4: Address("192.0.2.254"), IpFamily.IPV6: Address("2001:db8:ffff::254")}
POD = {IpFamily.IPV4: Address("10.180.255.77"), IpFamily.IPV6: Address("fd00:10:180::ff77")}

Target = tuple[int, str, int]
Sender = tuple[int, str]
"""An address, and the interface that packets from it come in by; none for the node's own."""


def local_addresses(view: NodeView, extra: Iterable[Address] = ()) -> frozenset[int]:
    """Return the node's addresses of the view's family."""
    given = (*view.options.local_addresses, *extra)
    return frozenset(address_value(a) for a in given if (":" in a) == (view.family is IpFamily.IPV6))


def targets(view: NodeView, service: ServiceView, local: frozenset[int]) -> Iterator[Target]:
    """Yield every frontend of a service port, the ports beside it, and another protocol."""
    port = service.port
    other = PROTOCOLS[(PROTOCOLS.index(port.protocol) + 1) % len(PROTOCOLS)]
    addresses = (port.cluster_ip, *port.external_ips, *port.load_balancer_vips)
    for address in map(address_value, addresses):
        for number in (port.port, port.port - 1, port.port + 1, port.node_port):
            if 0 < number < 65536:
                yield address, port.protocol, number
        yield address ^ 1, port.protocol, port.port
        yield address, other, port.port
    for number in filter(None, (port.node_port, port.health_check_node_port)):
        for address in (*local, address_value(NOWHERE[view.family])):
            yield address, port.protocol, number
        for protocol, beside in ((other, number), (port.protocol, number + 1), ("tcp", number)):
            yield from ((address, protocol, beside) for address in local if beside < 65536)
    for endpoint in service.endpoints.reachable[:1]:
        yield address_value(endpoint.address), port.protocol, endpoint.port


def senders(view: NodeView, service: ServiceView, local: frozenset[int]) -> Iterator[Sender]:
    """Yield pods, endpoints, the node, and outsiders in and beside the source ranges."""
    inside, outside = interfaces(view.options, view.family)
    family = view.family
    yield pod_address(view), inside
    reachable = service.endpoints.reachable
    for endpoint in (*reachable[:1], *reachable[-1:]):
        yield address_value(endpoint.address), inside
    yield from ((address, "") for address in sorted(local))
    yield address_value(NOWHERE[family]), outside
    yield address_value(NOWHERE[family]), inside
    yield pod_address(view), outside
    for network in service.port.source_ranges:
        base = address_value(Address(network.partition("/")[0]))
        yield base | 1, outside
    for vip in service.port.load_balancer_vips[:1]:
        yield address_value(vip), outside


def pod_address(view: NodeView) -> int:
    """Return an address in the pods' network, where the view knows one."""
    detector = view.options.detectors.get(view.family)
    if isinstance(detector, LocalCidr):
        return address_value(Address(detector.cidr.partition("/")[0])) | 77
    return address_value(POD[view.family])


def interfaces(options: NodeOptions, family: IpFamily) -> tuple[str, str]:
    """Return an interface of pods and one of others."""
    detector = options.detectors.get(family)
    if isinstance(detector, LocalInterface):
        return detector.name, "eth0"
    if isinstance(detector, LocalInterfacePrefix):
        return f"{detector.prefix}12", "eth0"
    return "veth1", "eth0"


def packets(view: NodeView, service: ServiceView, local: frozenset[int]) -> Iterator[Packet]:
    """Yield the first packets of flows from every sender to every target."""
    pairs = itertools.product(
        dict.fromkeys(senders(view, service, local)), dict.fromkeys(targets(view, service, local))
    )
    for (source, interface), (destination, protocol, port) in pairs:
        # The kernel takes no packet from outside with an address of its own as the source.
        own = source in local
        yield Packet(source, destination, protocol, port, "" if own else interface)


def other_packets(packet: Packet, bit: int) -> Iterator[Packet]:
    """Yield the same packet in other states, marked already, and as part of a translated flow."""
    yield replace(packet, mark=bit)
    yield replace(packet, mark=bit | 1)
    for mark in (0, bit):
        for state, translated in itertools.product(("ESTABLISHED", "RELATED"), (False, True)):
            yield replace(packet, state=state, mark=mark, translated=translated)
        # Such packets belong to no connection, and so to no translated one.
        yield replace(packet, state="INVALID", mark=mark)
        yield replace(packet, state="UNTRACKED", mark=mark)
    assert packet.state == NEW
