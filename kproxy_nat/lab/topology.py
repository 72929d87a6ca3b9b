"""What a lab consists of: nodes with pods behind them and clients, around a fabric that routes between them.

::

    client ──┐
    client ──┤          ┌── pod
             fabric ── node ── pod
               └─────── node ── pod

Every line is a pair of virtual interfaces between two network namespaces, and everything is routed; there is
no bridge. So a pod that reaches itself by way of its Service goes out to its node and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kproxy_nat.net.addresses import Address, Cidr, IpFamily, family_of


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one interface upwards: a pod, a client, or the fabric.

    Attributes:
        name: unique within the lab; part of the namespace's name.
        addresses: of one family or of both, as many as wanted.
    """

    name: str
    addresses: tuple[Address, ...]

    def address(self, family: IpFamily) -> Address:
        """Return the first address of ``family``.

        Raises:
            LookupError: it has none.
        """
        found = next(of_family(self.addresses, family), None)
        if found is None:
            raise LookupError(f"{self.name} has no {family} address")
        return found


@dataclass(frozen=True, slots=True)
class Node(Host):
    """A namespace that forwards, with pods behind it.

    Attributes:
        pods: reach everything by way of the node.
        networks: what the fabric brings to this node besides its own and its pods' addresses: the
            Services' networks, addresses of load balancers, external IPs.
    """

    pods: tuple[Host, ...] = ()
    networks: tuple[Cidr, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab.

    The fabric knows the way to every address, as a network does that routes pods (without encapsulation).
    It takes part in no Service: it sends what is for a virtual IP to the node that has it in ``networks``.
    """

    fabric: Host
    nodes: tuple[Node, ...]
    clients: tuple[Host, ...] = ()

    def hosts(self) -> Iterator[Host]:
        """Yield every host, routers before what is behind them."""
        yield self.fabric
        yield from self.clients
        for node in self.nodes:
            yield node
            yield from node.pods


def of_family(addresses: tuple[Address, ...], family: IpFamily) -> Iterator[Address]:
    """Yield the addresses of ``family``."""
    return (address for address in addresses if family_of(address) is family)
