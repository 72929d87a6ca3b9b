"""API objects as structs, straight from a mapping: without text, and without validation."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kproxy_nat.errors import FieldPath, Location
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.config import KubeProxyConfiguration
from kproxy_nat.model.endpoints import EndpointSlice
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import Service
from tests.oracle.manifests import Manifest

T = TypeVar("T")


class NoOrigin:
    """The origin of an object that was never written down."""

    source = "nowhere"
    line = 1

    def locate(self, path: FieldPath) -> Location:
        """Return no place in particular, but name the field."""
        return Location(self.source, self.line, 0, ".".join(map(str, path)))


def sourced(manifest: Manifest, kind: type[T]) -> Sourced[T]:
    """Return ``manifest`` as a struct, with an origin; nulls count as absent."""
    return Sourced(msgspec.convert(_without_nulls(manifest), kind), NoOrigin())


def cluster_of_structs(*manifests: Manifest, config: Manifest | None = None) -> Cluster:
    """Return a cluster of Services, EndpointSlices and Nodes as they are, be they valid or not."""
    cluster = Cluster()
    for item in manifests:
        if item["kind"] == "Service":
            cluster.services.append(sourced(item, Service))
        elif item["kind"] == "EndpointSlice":
            cluster.slices.append(sourced(item, EndpointSlice))
        else:
            cluster.nodes.append(sourced(item, Node))
    if config is not None:
        cluster.configs.append(sourced(config, KubeProxyConfiguration))
    return cluster


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
