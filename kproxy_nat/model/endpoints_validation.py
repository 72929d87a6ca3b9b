"""Validation of EndpointSlices and Endpoints."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.checks import (
    PROTOCOLS,
    Findings,
    check_choice,
    check_destination,
    check_meta,
    check_port,
    check_port_name,
)
from kproxy_nat.model.endpoints import (
    EndpointHints,
    Endpoints,
    EndpointSlice,
    EndpointsPort,
    SliceEndpoint,
    SlicePort,
)
from kproxy_nat.model.finding import Finding
from kproxy_nat.net.addresses import IpFamily

ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_PORTS = 20000
MAX_HINTS = 8
"""What the API server takes at most: in a slice, and of an endpoint."""
_FAMILIES = {family.value: family for family in IpFamily}
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = rf"(?:10|172|192)\.{_OCTET}\.{_OCTET}\.{_OCTET}"
_ORDINARY = re.compile(rf"(?:{_ADDRESS}\n)*+{_ADDRESS}")
"""Addresses as nearly all endpoints have: one look at a whole slice instead of one at each address."""


def validate_slice(endpoint_slice: EndpointSlice) -> Iterator[Finding]:
    """Yield everything that is wrong with ``endpoint_slice``."""
    yield from check_meta(endpoint_slice.metadata, subdomain=True)
    yield from check_choice(endpoint_slice.address_type, ADDRESS_TYPES, ("addressType",))
    yield from _check_ports(tuple(endpoint_slice.ports or ()), ("ports",))
    yield from _check_limits(endpoint_slice)
    family = _FAMILIES.get(endpoint_slice.address_type)
    if family is not None:
        yield from _check_slice_addresses(endpoint_slice.endpoints or (), family)


def _check_limits(endpoint_slice: EndpointSlice) -> Iterator[Finding]:
    endpoints = endpoint_slice.endpoints or ()
    spread = "spread them over several slices"
    yield from _check_count("endpoints", len(endpoints), MAX_ENDPOINTS, ("endpoints",), spread)
    yield from _check_count("ports", len(endpoint_slice.ports or ()), MAX_PORTS, ("ports",), spread)
    for position, endpoint in enumerate(endpoints):
        if len(endpoint.addresses) > MAX_ADDRESSES:
            path: FieldPath = ("endpoints", position, "addresses")
            yield from _check_count("addresses", len(endpoint.addresses), MAX_ADDRESSES, path)
        if endpoint.hints is not None:
            yield from _check_hints(endpoint.hints, ("endpoints", position, "hints"))


def _check_hints(hints: EndpointHints, path: FieldPath) -> Iterator[Finding]:
    yield from _check_count("zones", len(hints.for_zones or ()), MAX_HINTS, (*path, "forZones"))
    yield from _check_count("nodes", len(hints.for_nodes or ()), MAX_HINTS, (*path, "forNodes"))


def _check_count(what: str, count: int, most: int, path: FieldPath, hint: str = "") -> Iterator[Finding]:
    if count > most:
        message = f"{count} {what} are more than the {most} that the API server takes"
        yield Finding(Code.OUT_OF_RANGE, path, message, hint)


def _check_slice_addresses(endpoints: Sequence[SliceEndpoint], family: IpFamily) -> Iterator[Finding]:
    addresses = [endpoint.addresses for endpoint in endpoints]
    if family is IpFamily.IPV4 and all(addresses) and _are_ordinary(list(itertools.chain(*addresses))):
        return
    for position, endpoint in enumerate(endpoints):
        if not endpoint.addresses:
            path: FieldPath = ("endpoints", position, "addresses")
            yield Finding(Code.MISSING_FIELD, path, "an endpoint has no address")
        for number, text in enumerate(endpoint.addresses):
            yield from check_destination(text, ("endpoints", position, "addresses", number), family)


def _are_ordinary(addresses: list[str]) -> bool:
    lines = "\n".join(addresses)
    return lines.count("\n") == len(addresses) - 1 and _ORDINARY.fullmatch(lines) is not None


@functools.lru_cache(maxsize=1024)
def _check_ports(ports: tuple[SlicePort | EndpointsPort, ...], path: FieldPath) -> Findings:
    """Check the ports of a slice or subset; remembered, since many slices have the same."""
    return tuple(_findings_of_ports(ports, path))


def _findings_of_ports(ports: Sequence[SlicePort | EndpointsPort], path: FieldPath) -> Iterator[Finding]:
    names: set[str] = set()
    for position, port in enumerate(ports):
        if port.port is not None:
            yield from check_port(port.port, (*path, position, "port"))
        yield from check_choice(port.protocol, PROTOCOLS, (*path, position, "protocol"))
        yield from check_port_name(port.name, (*path, position, "name"))
        if port.name in names:
            named = f"port name {port.name}" if port.name else "an unnamed port"
            yield Finding(Code.DUPLICATE_PORT, (*path, position), f"{named} is there twice")
        names.add(port.name)


def validate_endpoints(endpoints: Endpoints) -> Iterator[Finding]:
    """Yield everything that is wrong with an Endpoints object."""
    yield from check_meta(endpoints.metadata, subdomain=True)
    for position, subset in enumerate(endpoints.subsets or ()):
        path: FieldPath = ("subsets", position)
        yield from _check_ports(tuple(subset.ports or ()), (*path, "ports"))
        for field, addresses in (
            ("addresses", subset.addresses),
            ("notReadyAddresses", subset.not_ready_addresses),
        ):
            for number, address in enumerate(addresses or ()):
                yield from check_destination(address.ip, (*path, field, number, "ip"))
