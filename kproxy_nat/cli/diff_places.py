"""The lines of manifests behind the differences of Services, and why endpoints came or went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec.structs import replace

from kproxy_nat.cli.node import LoadedNode
from kproxy_nat.diff.facts import Change, Fact, ServiceChange, Sign
from kproxy_nat.errors import FieldPath, Origin
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.endpoints import EndpointSlice, SliceEndpoint
from kproxy_nat.model.service import Service
from kproxy_nat.net.addresses import AddressError, parse_address

_LOCATED = 200
"""Of as many Services every line is looked up, which means to parse the object once more."""


class Manifests:
    """The objects of one side, by Service."""

    def __init__(self, node: LoadedNode | None) -> None:
        self.services: dict[str, Sourced[Service]] = {}
        self.slices: dict[str, list[Sourced[EndpointSlice]]] = defaultdict(list)
        for service in node.cluster.services if node else ():
            meta = service.value.metadata
            self.services[f"{meta.namespace}/{meta.name}"] = service
        for endpoint_slice in node.cluster.slices if node else ():
            name = f"{endpoint_slice.value.metadata.namespace}/{endpoint_slice.value.service_name}"
            self.slices[name].append(endpoint_slice)

    def service_place(self, service: str, field: str = "") -> str:
        """Return where a Service, or a field of it, stands; empty if it is not there."""
        found = self.services.get(service)
        if found is None:
            return ""
        return _place(found.origin, tuple(field.split(".")) if field else None)

    def find_endpoint(self, service: str, endpoint: str) -> tuple[str, SliceEndpoint] | None:
        """Return an endpoint of a Service, and where it stands."""
        address = endpoint.rpartition(":")[0].strip("[]")
        for sourced in self.slices.get(service, ()):
            for position, candidate in enumerate(sourced.value.endpoints or ()):
                if _is_at(candidate, address):
                    return _place(sourced.origin, ("endpoints", position)), candidate
        return None


def with_places(
    changes: Iterable[ServiceChange], old: LoadedNode | None, new: LoadedNode | None
) -> list[ServiceChange]:
    """Return the changes with the places in the manifests that they come from."""
    if old is None and new is None:
        return list(changes)
    before, after = Manifests(old), Manifests(new)
    return [
        _placed(change, before, after, in_detail=position < _LOCATED)
        for position, change in enumerate(changes)
    ]


def _placed(change: ServiceChange, old: Manifests, new: Manifests, *, in_detail: bool) -> ServiceChange:
    side = old if change.change is Change.REMOVED else new
    name = change.key.namespace_and_name
    place = side.service_place(name)
    if not in_detail:
        return replace(change, place=place)
    facts = tuple(_placed_fact(fact, name, old, new) for fact in change.facts)
    if change.change is not Change.MODIFIED:
        facts = tuple(replace(fact, place="") for fact in facts)
    return replace(change, place=place, facts=facts)


def _placed_fact(fact: Fact, service: str, old: Manifests, new: Manifests) -> Fact:
    if fact.endpoint:
        return _placed_endpoint(fact, service, old, new)
    if fact.field.startswith(("spec", "status", "metadata")):
        side = old if fact.sign is Sign.REMOVED else new
        return replace(fact, place=side.service_place(service, fact.field))
    return fact


def _placed_endpoint(fact: Fact, service: str, old: Manifests, new: Manifests) -> Fact:
    """Say where an endpoint stands; and if it is there on both sides, why it is used on one only."""
    before = old.find_endpoint(service, fact.endpoint)
    after = new.find_endpoint(service, fact.endpoint)
    if fact.sign is Sign.CHANGED:
        return fact
    if before is None or after is None:
        found = before if fact.sign is Sign.REMOVED else after
        return replace(fact, place=found[0] if found else "")
    reason = _why(before[1], after[1])
    if not reason:
        return replace(fact, place=before[0] if fact.sign is Sign.REMOVED else after[0])
    return replace(fact, text=f"{fact.text}: {reason}", place=after[0])


def _why(old: SliceEndpoint, new: SliceEndpoint) -> str:
    was, is_now = old.conditions, new.conditions
    if (was.terminating is True) != (is_now.terminating is True):
        return "it is terminating" if is_now.terminating else "it is not terminating any more"
    if (was.ready is False) != (is_now.ready is False):
        return "it is not ready any more" if is_now.ready is False else "it became ready"
    if old.hints != new.hints:
        return "its hints changed"
    if old.node_name != new.node_name:
        return f"it is on node {new.node_name}, no longer {old.node_name}"
    return ""


def _is_at(endpoint: SliceEndpoint, address: str) -> bool:
    try:
        return bool(endpoint.addresses) and parse_address(endpoint.addresses[0]) == address
    except AddressError:
        return False


def _place(origin: Origin, path: FieldPath | None) -> str:
    line = origin.locate(path).line if path is not None else origin.line
    return f"{origin.source}:{line}" if line else origin.source
