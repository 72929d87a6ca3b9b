"""A lab built whole or not at all, and gone without a trace afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice

from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.lab import links
from kproxy_nat.lab.topology import Host, Node, Topology, of_family
from kproxy_nat.net.addresses import Address, Cidr, IpFamily, host_network


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is there: its description, and its namespaces by the hosts' names."""

    topology: Topology
    namespaces: Mapping[str, Namespace]

    def of(self, host: Host) -> Namespace:
        """Return the namespace of a host."""
        return self.namespaces[host.name]


@contextmanager
def build(topology: Topology, prefix: str | None = None) -> Iterator[Lab]:
    """Build a lab that lasts as long as the context.

    Its namespaces are called ``prefix-host``, so that ``ip netns exec`` finds them. Without a prefix there is
    one that no other lab has.

    Raises:
        ApplyError: the kernel refuses something, or a namespace of such a name is there already.
    """
    prefix = prefix or f"lab-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        names = {host.name: f"{prefix}-{host.name}" for host in topology.hosts()}
        namespaces = {host: _make_namespace(name, stack) for host, name in names.items()}
        lab = Lab(topology, namespaces)
        _wire(lab)
        yield lab


def _make_namespace(name: str, stack: ExitStack) -> Namespace:
    """Create a namespace that is removed when the stack unwinds; never take one that is there."""
    from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

    try:
        netns.create(name)
    except FileExistsError:
        hint = f"if nobody uses it any more: ip netns delete {name}"
        raise ApplyError(Problem(Code.NOT_PERMITTED, f"there is a namespace {name}", hint=hint)) from None
    except OSError as error:
        _remove_namespace(name)
        message = f"cannot create namespace {name}: {error.strerror}"
        raise ApplyError(Problem(Code.NOT_PERMITTED, message, hint="run as root")) from None
    stack.callback(_remove_namespace, name)
    return stack.enter_context(open_namespace(name))


def _remove_namespace(name: str) -> None:
    """Remove a namespace, if somebody has not done so."""
    from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

    with suppress(OSError):
        netns.remove(name)


def _wire(lab: Lab) -> None:
    topology = lab.topology
    for host in topology.hosts():
        routes = host is topology.fabric or isinstance(host, Node)
        lab.of(host).run(links.write_settings, links.ROUTER_SETTINGS if routes else links.HOST_SETTINGS)
        lab.of(host).run(links.start_loopback, topology.fabric.addresses if host is topology.fabric else ())
    for number, client in enumerate(topology.clients):
        _join(lab, topology.fabric, client, f"client{number}", ())
    for number, node in enumerate(topology.nodes):
        pods = tuple(host_network(address) for pod in node.pods for address in pod.addresses)
        _join(lab, topology.fabric, node, f"node{number}", (*node.networks, *pods))
        for pod_number, pod in enumerate(node.pods):
            _join(lab, node, pod, f"veth{pod_number}", ())


def _join(lab: Lab, router: Host, host: Host, link: str, beyond: tuple[Cidr, ...]) -> None:
    """Connect a host to its router by a link of that name, and route both ways."""
    lab.of(router).run(links.add_link, link, lab.of(host).label)
    lab.of(host).run(links.start_uplink, host.addresses, _gateways(router, host))
    lab.of(router).run(links.add_routes, link, host.addresses, beyond)


def _gateways(router: Host, host: Host) -> Iterator[Address]:
    """Yield the gateway of each family that the host has."""
    if any(of_family(host.addresses, IpFamily.IPV6)):
        yield links.GATEWAY
    if any(of_family(host.addresses, IpFamily.IPV4)):
        yield from islice(of_family(router.addresses, IpFamily.IPV4), 1)
