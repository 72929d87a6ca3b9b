"""Names for frontends that rules tell no Service of: those that another side knows them by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from kproxy_nat.recover.model import PortKey, RecoveredPort, Shares
from kproxy_nat.recover.nft_compact import frontend_key

Ports = Mapping[PortKey, RecoveredPort]

UNNAMED = "unnamed"
"""The namespace of Services whose names rules do not tell."""


def is_named(key: PortKey) -> bool:
    """Whether a port has the name of a Service; a frontend alone has its address instead."""
    return "/" in key.service


def named_after(ports: Ports, other: Ports) -> dict[PortKey, RecoveredPort]:
    """Return ports with their frontends joined under the names that ``other`` has for them, sorted."""
    left = dict(ports)
    for key, known in other.items():
        if is_named(key):
            found = [left.pop(place) for place in _frontends(known) if place in left]
            if found:
                left[key] = _joined(key, left.get(key), found)
    return {key: left[key] for key in sorted(left)}


def given_names(ports: Ports) -> tuple[dict[PortKey, RecoveredPort], list[RecoveredPort]]:
    """Return ports, under names made of their cluster IPs where they have none, and those that can have none.

    A frontend without a cluster IP is no Service: which one it is a further address of, rules do not tell.
    """
    named: dict[PortKey, RecoveredPort] = {}
    left_out = []
    for key, port in ports.items():
        if is_named(key):
            named[key] = port
        elif port.cluster_ip:
            service = f"at-{re.sub('[.:]+', '-', port.cluster_ip)}".rstrip("-")
            made = PortKey(f"{UNNAMED}/{service}:p{port.port}-{key.protocol.lower()}", key.protocol)
            named[made] = replace(port, key=made)
        else:
            left_out.append(port)
    return named, left_out


def _frontends(port: RecoveredPort) -> Iterator[PortKey]:
    """Yield what the frontends of a port would be called if they had no name."""
    for address in (port.cluster_ip, *port.addresses):
        if address:
            yield frontend_key(address, port.port, port.key.protocol)
    if port.node_port:
        yield frontend_key("", port.node_port, port.key.protocol)


def _joined(key: PortKey, named: RecoveredPort | None, frontends: list[RecoveredPort]) -> RecoveredPort:
    """Return one port of all its frontends; ``named`` is what stands under its name already: refusals."""
    parts = [*frontends, *([named] if named else [])]
    first = parts[0]
    cluster: Shares = _first(parts, "cluster")
    local: Shares = _first(parts, "local")
    return replace(
        first,
        key=key,
        cluster_ip=_first(parts, "cluster_ip"),
        port=_first(parts, "port"),
        addresses={address: kind for part in reversed(parts) for address, kind in part.addresses.items()},
        node_port=_first(parts, "node_port"),
        internal_policy=_first(parts, "internal_policy"),
        external_policy=_first(parts, "external_policy"),
        pods_are=_first(parts, "pods_are"),
        source_ranges=_first(parts, "source_ranges"),
        admits_node=any(part.admits_node for part in parts),
        masquerade=_first(parts, "masquerade"),
        cluster=cluster,
        local=local,
        internal_verdict=_first(parts, "internal_verdict"),
        external_verdict=_first(parts, "external_verdict"),
        rest=tuple(sorted({*(text for part in parts for text in part.rest), *_odd(parts, cluster, local)})),
        on_node=tuple(sorted({endpoint for part in parts for endpoint in part.on_node})),
    )


def _first(parts: list[RecoveredPort], name: str) -> Any:
    """Return the first value of a field that says something."""
    values = [getattr(part, name) for part in parts]
    return next((value for value in values if value), values[0])


def _odd(parts: list[RecoveredPort], cluster: Shares, local: Shares) -> Iterator[str]:
    """Yield the frontends that have other endpoints than the first one."""
    for part in parts:
        if (part.cluster and part.cluster != cluster) or (part.local and part.local != local):
            yield f"{part.key} has other endpoints than the rest of the Service"
