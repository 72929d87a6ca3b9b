"""Pods as the EndpointSlice controller looks at them, found by their labels."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from kproxy_nat.model.base import Sourced
from kproxy_nat.model.node import Node
from kproxy_nat.model.service import ServicePortSpec
from kproxy_nat.model.workloads import Container, Pod
from kproxy_nat.net.addresses import Address, IpFamily, family_of, parse_address

_MOST_LABELS_COMPARED = 2000
_SIDECAR = "Always"


@dataclass(slots=True, eq=False)
class Backend:
    """A Pod that can be an endpoint. ``addresses`` has those of each family, with a key to sort by."""

    pod: Pod
    node: Node | None
    serving: bool
    terminating: bool
    addresses: dict[IpFamily, tuple[bytes, list[Address]]]


class PodIndex:
    """The Pods that count: not ended, and with an address."""

    def __init__(self, pods: Iterable[Sourced[Pod]], nodes: Iterable[Sourced[Node]]) -> None:
        by_name = {node.value.metadata.name: node.value for node in nodes}
        self._in_namespace: dict[str, list[Backend]] = defaultdict(list)
        self._by_label: dict[tuple[str, str, str], list[Backend]] = defaultdict(list)
        self._unusable: dict[str, list[Pod]] = defaultdict(list)
        for source in pods:
            pod = source.value
            if pod.has_ended or not pod.ips:
                self._unusable[pod.metadata.namespace].append(pod)
                continue
            backend = _backend(pod, by_name.get(pod.spec.node_name))
            namespace = pod.metadata.namespace
            self._in_namespace[namespace].append(backend)
            for key, value in pod.metadata.labels.items():
                self._by_label[namespace, key, value].append(backend)

    def select(self, namespace: str, selector: Mapping[str, str]) -> list[Backend]:
        """Return the Pods of a namespace that have all labels of a selector that is not empty."""
        found = [self._by_label.get((namespace, key, value), []) for key, value in selector.items()]
        fewest = min(found, key=len)
        if len(found) == 1:
            return fewest
        wanted = selector.items()
        return [backend for backend in fewest if wanted <= backend.pod.metadata.labels.items()]

    def unusable(self, namespace: str, selector: Mapping[str, str]) -> int:
        """Return how many Pods have all labels of ``selector``, but do not count."""
        pods = self._unusable.get(namespace, [])
        return sum(selector.items() <= pod.metadata.labels.items() for pod in pods)

    def has_pods(self, namespace: str) -> bool:
        """Tell whether a namespace has any Pod that counts."""
        return namespace in self._in_namespace

    def namespaces_matching(self, selector: Mapping[str, str]) -> list[str]:
        """Return the namespaces in which Pods have all labels of ``selector``."""
        return sorted(namespace for namespace in self._in_namespace if self.select(namespace, selector))

    def nearest_labels(self, namespace: str, selector: Mapping[str, str]) -> list[str]:
        """Return labels, as ``key=value``, that Pods of a namespace have and that look like ``selector``."""
        labels = sorted({f"{key}={value}" for space, key, value in self._by_label if space == namespace})
        nearest: dict[str, None] = {}
        for key, value in selector.items():
            wanted = f"{key}={value}"
            if wanted in labels:
                continue
            close = difflib.get_close_matches(wanted, labels[:_MOST_LABELS_COMPARED], n=2)
            same_key = [label for label in labels if label.startswith(f"{key}=")]
            nearest.update(dict.fromkeys(close or same_key[:2]))
        return list(nearest)


def _backend(pod: Pod, node: Node | None) -> Backend:
    addresses: dict[IpFamily, tuple[bytes, list[Address]]] = {}
    for text in pod.ips:
        packed, address = _pack(text)
        family = family_of(address)
        if family in addresses:
            addresses[family][1].append(address)
        else:
            addresses[family] = (packed, [address])
    return Backend(pod, node, pod.is_ready, pod.metadata.deletion_timestamp is not None, addresses)


def _pack(text: str) -> tuple[bytes, Address]:
    """Return the bytes and the canonical text of an address, quickly where it is canonical IPv6 already."""
    if ":" in text and "." not in text:
        try:
            packed = inet_pton(AF_INET6, text)
        except OSError:
            pass
        else:
            if inet_ntop(AF_INET6, packed) == text:
                return packed, Address(text)
    address = parse_address(text)
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address), address


def target_port(port: ServicePortSpec, pod: Pod) -> int | None:
    """Return the number that a Service's port has in ``pod``; ``None`` if no container has its name."""
    target = port.target_port
    if not target:
        return port.port
    if isinstance(target, int):
        return target
    for container in listening_containers(pod):
        for candidate in container.ports:
            if candidate.name == target and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


def listening_containers(pod: Pod) -> list[Container]:
    """Return the containers whose ports count: the ordinary ones, then sidecars."""
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == _SIDECAR]
    return [*pod.spec.containers, *sidecars]
