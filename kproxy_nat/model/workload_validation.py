"""Validation of Pods and of the workloads that make them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.checks import PROTOCOLS, check_address, check_choice, check_meta, check_port
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.names import (
    LABEL_RULE,
    SUBDOMAIN_RULE,
    is_dns_label,
    is_dns_subdomain,
    readable,
    shown,
)
from kproxy_nat.model.workloads import PHASES, Container, Pod, PodSpec, Workload
from kproxy_nat.net.addresses import AddressError, IpFamily, family_of, parse_address

MAX_REPLICAS = 100_000
"""More than a cluster holds: Kubernetes is built for 150,000 Pods in all."""

_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", re.ASCII)
PORT_NAME_RULE = "use at most 15 of the characters a-z, 0-9 and single '-', with at least one letter"


def validate_pod(pod: Pod) -> Iterator[Finding]:
    """Yield everything that is wrong with ``pod``."""
    yield from check_meta(pod.metadata, subdomain=True)
    yield from _check_spec(pod.spec, ("spec",))
    yield from check_choice(pod.status.phase, PHASES, ("status", "phase"))
    yield from _check_ips(pod)


def validate_workload(workload: Workload) -> Iterator[Finding]:
    """Yield everything that is wrong with a Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    yield from check_meta(workload.metadata, subdomain=True)
    yield from _check_replicas(workload.spec.replicas)
    yield from _check_selector(workload)
    yield from _check_spec(workload.spec.template.spec, ("spec", "template", "spec"))
    if workload.spec.ordinals.start < 0:
        message = f"ordinals.start {workload.spec.ordinals.start} is negative"
        yield Finding(Code.OUT_OF_RANGE, ("spec", "ordinals", "start"), message)


def is_port_name(text: str) -> bool:
    """Tell whether ``text`` is a name that a container's port may have (IANA service name)."""
    return len(text) <= 15 and _PORT_NAME.fullmatch(text) is not None


def _check_replicas(replicas: int) -> Iterator[Finding]:
    path = ("spec", "replicas")
    if replicas < 0:
        yield Finding(Code.OUT_OF_RANGE, path, f"replicas {replicas} is negative", "use 0 for no Pods")
    elif replicas > MAX_REPLICAS:
        message = (
            f"replicas {replicas:,} is more than the {MAX_REPLICAS:,} Pods that are made for one workload"
        )
        yield Finding(Code.OUT_OF_RANGE, path, message, "is it a typing error?")


def _check_selector(workload: Workload) -> Iterator[Finding]:
    labels = workload.spec.template.metadata.labels
    for key, value in workload.spec.selector.match_labels.items():
        if labels.get(key) != value:
            message = f"the selector asks for {readable(f'{key}={value}')}, which the template's labels lack"
            path = ("spec", "selector", "matchLabels", key)
            yield Finding(Code.INCONSISTENT, path, message, "make selector and template labels the same")


def _check_spec(spec: PodSpec, path: FieldPath) -> Iterator[Finding]:
    if spec.node_name and not is_dns_subdomain(spec.node_name):
        message = f"nodeName {shown(spec.node_name)} is not valid"
        yield Finding(Code.BAD_NAME, (*path, "nodeName"), message, SUBDOMAIN_RULE)
    for field, text in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if text and not is_dns_label(text):
            yield Finding(Code.BAD_NAME, (*path, field), f"{field} {shown(text)} is not valid", LABEL_RULE)
    yield from _check_containers(spec.containers, (*path, "containers"))
    yield from _check_containers(spec.init_containers, (*path, "initContainers"))


def _check_containers(containers: Sequence[Container], path: FieldPath) -> Iterator[Finding]:
    for position, container in enumerate(containers):
        yield from _check_ports(container, (*path, position, "ports"))


def _check_ports(container: Container, path: FieldPath) -> Iterator[Finding]:
    names: set[str] = set()
    for position, port in enumerate(container.ports):
        here = (*path, position)
        yield from check_port(port.container_port, (*here, "containerPort"), "containerPort")
        yield from check_choice(port.protocol, PROTOCOLS, (*here, "protocol"))
        if not port.name:
            continue
        if not is_port_name(port.name):
            message = f"port name {shown(port.name)} is not valid"
            yield Finding(Code.BAD_NAME, (*here, "name"), message, PORT_NAME_RULE)
        if port.name in names:
            message = f"port name {readable(port.name)} is there twice"
            yield Finding(Code.DUPLICATE_PORT, (*here, "name"), message)
        names.add(port.name)


def _check_ips(pod: Pod) -> Iterator[Finding]:
    status = pod.status
    if status.pod_ip:
        yield from check_address(status.pod_ip, ("status", "podIP"))
    if status.pod_ip and status.pod_ips and status.pod_ips[0].ip != status.pod_ip:
        first = readable(status.pod_ips[0].ip)
        message = f"podIPs begins with {first}, but podIP is {readable(status.pod_ip)}"
        hint = "make the first of podIPs the same as podIP"
        yield Finding(Code.INCONSISTENT, ("status", "podIPs", 0, "ip"), message, hint)
    families: set[IpFamily] = set()
    for position, entry in enumerate(status.pod_ips):
        path = ("status", "podIPs", position, "ip")
        yield from check_address(entry.ip, path)
        try:
            family = family_of(parse_address(entry.ip))
        except AddressError:
            continue
        if family in families:
            yield Finding(Code.FAMILY_MISMATCH, path, f"podIPs has a second {family} address, {entry.ip}")
        families.add(family)
