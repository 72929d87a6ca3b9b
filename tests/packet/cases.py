"""What the tests of several modules have in common: who asks, over which transport, and for what."""

from __future__ import annotations

import pytest

from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Target
from kproxy_nat.net.addresses import IpFamily
from tests.packet.manifests import NODE_PORT, PORT
from tests.packet.world import CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER_IP, NODE
from tests.patience import patient

ENOUGH = 60
"""Questions after which each of three endpoints was met: all but once in 10^10 runs."""

BRIEFLY = patient(0.5)
"""Seconds of waiting where nothing is to come."""

TCP = Transport.TCP

by_transport = pytest.mark.parametrize("transport", Transport)


def by_host(*hosts: Host) -> pytest.MarkDecorator:
    """Let each of the hosts be ``who`` asks."""
    return pytest.mark.parametrize("who", hosts, ids=[host.name for host in hosts])


def cluster_ip(family: IpFamily, transport: Transport = TCP) -> Target:
    return Target(transport, CLUSTER_IP[family], PORT)


def node_port(family: IpFamily, transport: Transport = TCP) -> Target:
    return Target(transport, NODE.address(family), NODE_PORT)


def load_balancer(family: IpFamily, transport: Transport = TCP) -> Target:
    return Target(transport, LOAD_BALANCER_IP[family], PORT)


def external_ip(family: IpFamily, transport: Transport = TCP) -> Target:
    return Target(transport, EXTERNAL_IP[family], PORT)
