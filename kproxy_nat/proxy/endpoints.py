"""Endpoints of service ports, collected from EndpointSlices."""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from kproxy_nat.model.base import Sourced
from kproxy_nat.model.endpoints import (
    HEADLESS_SERVICE_LABEL,
    EndpointHints,
    EndpointSlice,
    SlicePort,
)
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port, parse_address
from kproxy_nat.proxy.ports import ServicePortName

NO_HINTS: frozenset[str] = frozenset()


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of a service port. ``text`` is ``address:port``, which identifies and orders endpoints."""

    text: str
    address: Address
    port: int
    is_local: bool
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: frozenset[str] = NO_HINTS
    node_hints: frozenset[str] = NO_HINTS


EndpointsByPort = dict[ServicePortName, list[Endpoint]]


def collect_endpoints(
    slices: Iterable[Sourced[EndpointSlice]],
    family: IpFamily,
    node_name: str,
    wanted: Container[ServicePortName],
) -> EndpointsByPort:
    """Return the endpoints of each service port in ``wanted``, sorted by their text as plain bytes.

    Slices are joined to service ports by Service name, port name and protocol, never by number.
    """
    offers: dict[ServicePortName, list[tuple[EndpointSlice, int]]] = {}
    for sourced in slices:
        endpoint_slice = sourced.value
        if endpoint_slice.address_type == family and _belongs_to_proxy(endpoint_slice):
            for port in endpoint_slice.ports or ():
                name = _service_port_name(endpoint_slice, port)
                if port.port and name in wanted:
                    offers.setdefault(name, []).append((endpoint_slice, port.port))
    return {name: _join_offers(offered, node_name) for name, offered in offers.items()}


def _join_offers(offered: list[tuple[EndpointSlice, int]], node_name: str) -> list[Endpoint]:
    """Return the endpoints of the slices of one service port, whatever the order of these."""
    offered.sort(key=lambda offer: offer[0].metadata.name)
    by_text: dict[str, Endpoint] = {}
    for endpoint_slice, port in offered:
        _add_endpoints(by_text, endpoint_slice, port, node_name)
    return [by_text[text] for text in sorted(by_text)]


def _belongs_to_proxy(endpoint_slice: EndpointSlice) -> bool:
    return bool(endpoint_slice.service_name) and HEADLESS_SERVICE_LABEL not in endpoint_slice.metadata.labels


def _service_port_name(endpoint_slice: EndpointSlice, port: SlicePort) -> ServicePortName:
    namespace = endpoint_slice.metadata.namespace
    return ServicePortName(namespace, endpoint_slice.service_name, port.name, port.protocol)


def _add_endpoints(
    by_text: dict[str, Endpoint], endpoint_slice: EndpointSlice, port: int, node_name: str
) -> None:
    """Add a slice's endpoints; where one is there already, one that is not terminating prevails."""
    for source in endpoint_slice.endpoints or ():
        if not source.addresses:
            continue
        address = parse_address(source.addresses[0])
        text = join_host_port(address, port)
        conditions = source.conditions
        if conditions.terminating is True and text in by_text:
            continue
        zones, nodes = _hints(source.hints) if source.hints else (NO_HINTS, NO_HINTS)
        by_text[text] = Endpoint(
            text,
            address,
            port,
            source.node_name == node_name and node_name != "",
            conditions.ready is not False,
            conditions.serving is not False,
            conditions.terminating is True,
            zones,
            nodes,
        )


def _hints(hints: EndpointHints) -> tuple[frozenset[str], frozenset[str]]:
    zones = frozenset(zone.name for zone in hints.for_zones or ())
    nodes = frozenset(node.name for node in hints.for_nodes or ())
    return zones, nodes
