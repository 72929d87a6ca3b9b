"""Pods on their way: who asks for them, where they are put, and what is told about that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from kproxy_nat.controlplane.assumptions import Assumption
from kproxy_nat.controlplane.node_networks import NodeRoom, PodHolder
from kproxy_nat.controlplane.pools import Assigned
from kproxy_nat.controlplane.workload_pods import Maker, PodDraft, labels_of, owner_reference
from kproxy_nat.errors import FieldPath, Origin
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.workloads import (
    READY,
    OwnerReference,
    Pod,
    PodCondition,
    PodIp,
    PodMeta,
    PodStatus,
    Workload,
)
from kproxy_nat.net.addresses import Address

RUNNING = "Running"
MOST_LISTED = 4
"""How many Pods of one workload are told by name; ``kproxy-nat endpoints`` shows all."""


@dataclass(slots=True)
class Asker:
    """A workload, or a Pod typed by hand, for which seats are asked. ``missing`` counts those not had."""

    subject: str
    origin: Origin
    path: FieldPath
    namespace: str
    wanted: int
    host_network: bool
    maker: Maker | None = None
    pod: Pod | None = None
    missing: int = 0
    seats: list[Seat] = field(default_factory=list)


@dataclass(slots=True)
class Seat:
    """One Pod's place: on a Node, with a host number unless it has its addresses from elsewhere."""

    key: PodHolder
    room: NodeRoom
    draft: PodDraft
    assigned: Assigned[PodHolder] | None = None
    ips: list[Address] = field(default_factory=list)


def asker_of_workload(maker: Maker, node_count: int) -> Asker:
    """Return the asker that a workload is."""
    workload = maker.workload
    meta, spec = workload.metadata, workload.spec
    daemons = workload.kind == "DaemonSet"
    return Asker(
        subject=f"{workload.kind} {meta.namespace}/{meta.name}",
        origin=maker.source.origin,
        path=("metadata", "name") if daemons else ("spec", "replicas"),
        namespace=meta.namespace,
        wanted=node_count - len(maker.pods) if daemons else maker.missing,
        host_network=spec.template.spec.host_network,
        maker=maker,
    )


def asker_of_pod(source: Sourced[Pod]) -> Asker:
    """Return the asker that a Pod typed by hand is."""
    pod = source.value
    subject = f"Pod {pod.metadata.namespace}/{pod.metadata.name}"
    path = ("metadata", "name")
    return Asker(subject, source.origin, path, pod.metadata.namespace, 1, pod.spec.host_network, pod=pod)


def needs_address(asker: Asker) -> bool:
    """Tell whether the asker's Pods get addresses of pod networks."""
    return not asker.host_network and not (asker.pod and asker.pod.ips)


def pods_of(asker: Asker) -> list[Sourced[Pod]]:
    """Return the Pods of an asker whose seats have their addresses."""
    if asker.pod is not None:
        return [Sourced(_completed(asker.pod, seat), asker.origin) for seat in asker.seats]
    assert asker.maker is not None
    workload = asker.maker.workload
    owners = [owner_reference(workload)]
    return [Sourced(_made(workload, seat, owners), asker.origin) for seat in asker.seats]


_RUNNING_CONDITIONS = [PodCondition(READY, "True")]


def _made(workload: Workload, seat: Seat, owners: list[OwnerReference]) -> Pod:
    template = workload.spec.template
    name = seat.draft.name
    meta = PodMeta(
        name,
        workload.metadata.namespace,
        labels_of(workload, seat.draft),
        template.metadata.annotations,
        owners,
    )
    spec = msgspec.structs.replace(template.spec, node_name=seat.room.name)
    if workload.kind == "StatefulSet":
        spec = msgspec.structs.replace(spec, hostname=name, subdomain=workload.spec.service_name)
    return Pod(meta, spec, _status(seat.ips))


def _status(ips: Sequence[str]) -> PodStatus:
    first = ips[0] if ips else ""
    return PodStatus(RUNNING, first, [PodIp(ip) for ip in ips], _RUNNING_CONDITIONS)


def _completed(pod: Pod, seat: Seat) -> Pod:
    """Return a Pod typed by hand with what it leaves open."""
    status = _status(pod.ips or seat.ips)
    conditions = pod.status.conditions
    if any(condition.type == READY for condition in conditions):
        status = msgspec.structs.replace(status, conditions=conditions)
    elif conditions:
        status = msgspec.structs.replace(status, conditions=[*conditions, *_RUNNING_CONDITIONS])
    spec = msgspec.structs.replace(pod.spec, node_name=seat.room.name)
    return Pod(pod.metadata, spec, status)


def assumption(asker: Asker) -> Assumption:
    """Tell what was assumed for an asker that has seats."""
    text = _completion_text(asker) if asker.pod is not None else _pods_text(asker.seats)
    moved = [seat for seat in asker.seats if seat.assigned and seat.assigned.taken_by]
    if moved:
        text += f"; second choice: {_listed([_moved_text(seat) for seat in moved])}"
    return Assumption(asker.subject, text, asker.origin)


def _pods_text(seats: Sequence[Seat]) -> str:
    number = "1 Pod" if len(seats) == 1 else f"{len(seats):,} Pods"
    return f"{number}: {_listed([_seat_text(seat) for seat in seats])}"


def _seat_text(seat: Seat) -> str:
    addresses = f" ({', '.join(seat.ips)})" if seat.ips else ""
    return f"{seat.draft.name} on {seat.room.name}{addresses}"


def _moved_text(seat: Seat) -> str:
    assert seat.assigned is not None
    assert seat.assigned.taken_by is not None
    usual = ", ".join(network.address(seat.assigned.usual) for network in seat.room.networks)
    return f"{seat.draft.name} (the first, {usual}, is that of Pod {'/'.join(seat.assigned.taken_by)})"


def _completion_text(asker: Asker) -> str:
    (seat,) = asker.seats
    assert asker.pod is not None
    parts = ["Running"]
    if not any(condition.type == READY for condition in asker.pod.status.conditions):
        parts.append("Ready")
    if not asker.pod.spec.node_name:
        parts.append(f"on {seat.room.name}")
    if seat.ips:
        parts.append(f"podIPs {', '.join(seat.ips)}")
    return ", ".join(parts)


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_LISTED
    return ", ".join(texts[:MOST_LISTED]) + (f", and {more:,} more" if more > 0 else "")
