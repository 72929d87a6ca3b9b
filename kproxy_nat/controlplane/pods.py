"""The Pods of a cluster: those of the input, completed, and those that workloads would make.

Goals, strongest first, and how they are met:

- What the input says stands. A Pod whose status has a phase is a cluster's own account and stays as it is; an
  address that a Pod has is given to no other.
- The same manifests give the same Pods, in any order. Names, Nodes and addresses come from hashes; where two
  Pods hash to the same host number, the first by namespace and name has it, and the other looks onwards
  (see :mod:`kproxy_nat.controlplane.pools`) and is reported.
- An object more moves no other Pod: each workload begins its round over the Nodes at a place of its own. Only
  where a Node is full do Pods go on to the next one.

The scheduler's other concerns (taints, affinity, resources) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kproxy_nat.controlplane.assumptions import Assumption, Derivation
from kproxy_nat.controlplane.node_networks import (
    ASSUMED_NODE_ROOM,
    MAX_ASSUMED_NODES,
    AssumedOrigin,
    NodeRoom,
    Rooms,
    assumed_nodes,
    named_node,
    node_rooms,
)
from kproxy_nat.controlplane.pools import stable_hash
from kproxy_nat.controlplane.seats import (
    Asker,
    Seat,
    asker_of_pod,
    asker_of_workload,
    assumption,
    needs_address,
    pods_of,
)
from kproxy_nat.controlplane.workload_pods import Maker, PodDraft, drafts, makers
from kproxy_nat.errors import Code, Origin, Problem, Severity
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.model.node import Node
from kproxy_nat.model.workloads import Pod
from kproxy_nat.net.addresses import parse_address


def make_pods(
    cluster: Cluster, assume_nodes: int, *, more_nodes: bool = False
) -> tuple[list[Sourced[Pod]], list[Sourced[Node]], Derivation]:
    """Return all Pods, by namespace and name, and all Nodes, by name, with what was assumed for them.

    ``assume_nodes`` Nodes are made where the input has none and there are Pods to be put on them. With
    ``more_nodes`` there are further ones for those that find no room on these.

    Raises:
        ValueError: ``assume_nodes`` is not between 1 and 254.
    """
    derivation = Derivation()
    makers_left = makers(cluster.workloads, cluster.pods)
    needed = _nodes_needed(cluster, makers_left) if more_nodes else 0
    count = max(assume_nodes, min(needed, MAX_ASSUMED_NODES))
    nodes = cluster.nodes or _assume_nodes(cluster, makers_left, count, derivation)
    regular = {node.value.metadata.name for node in assumed_nodes(assume_nodes)}
    nodes = sorted(nodes, key=lambda node: node.value.metadata.name)
    rooms = node_rooms([node.value for node in nodes])
    _hold_addresses(rooms, cluster.pods)
    spread = [rooms.by_name[node.value.metadata.name] for node in nodes if cluster.nodes or _takes_any(node)]
    askers = [
        *(asker_of_pod(pod) for pod in cluster.pods if is_open(pod.value)),
        *(asker_of_workload(maker, len(rooms.all)) for maker in makers_left),
    ]
    overflow: list[NodeRoom] = []
    if count > assume_nodes and not cluster.nodes:
        overflow = sorted((room for room in spread if room.name not in regular), key=lambda r: len(r.name))
        spread = [room for room in spread if room.name in regular]
    _Seating(rooms, spread, overflow, cluster.pods).seat_all(askers)
    _assign_addresses(askers)
    pods = [pod for pod in cluster.pods if not is_open(pod.value)]
    for asker in askers:
        pods.extend(pods_of(asker))
        if asker.pod is not None and not asker.seats:
            pods.append(Sourced(asker.pod, asker.origin))
    pods.sort(key=lambda pod: (pod.value.metadata.namespace, pod.value.metadata.name))
    _report(askers, rooms, pods, derivation)
    return pods, nodes, derivation


def is_open(pod: Pod) -> bool:
    """Tell whether a Pod was typed by hand: its status has no phase, which the API server always writes."""
    return not pod.status.phase


# --- Nodes


def _assume_nodes(
    cluster: Cluster, makers_left: list[Maker], count: int, derivation: Derivation
) -> list[Sourced[Node]]:
    """Return the Nodes of an input without any: complete ones if needed, and those that Pods name."""
    complete = assumed_nodes(count)
    names = {pod.value.spec.node_name for pod in cluster.pods if not pod.value.has_ended}
    names |= {maker.workload.spec.template.spec.node_name for maker in makers_left}
    any_node = any(is_open(pod.value) and not pod.value.spec.node_name for pod in cluster.pods) or any(
        maker.workload.kind == "DaemonSet" or _is_free_to_go(maker) for maker in makers_left
    )
    made = [node for node in complete if any_node or node.value.metadata.name in names]
    if made:
        derivation.assumptions.append(_nodes_assumption(made))
    known = {node.value.metadata.name for node in complete}
    return [*made, *(named_node(name) for name in names - known if name)]


def _nodes_needed(cluster: Cluster, makers_left: list[Maker]) -> int:
    """Return how many assumed Nodes have room for all Pods that may go anywhere."""
    free = sum(is_open(pod.value) and not pod.value.spec.node_name for pod in cluster.pods)
    daemons = 0
    for maker in makers_left:
        spec = maker.workload.spec.template.spec
        if maker.workload.kind == "DaemonSet":
            daemons += 1
        elif not spec.host_network and not spec.node_name:
            free += maker.missing
    return -(-free // max(ASSUMED_NODE_ROOM - daemons, 1))


def _is_free_to_go(maker: Maker) -> bool:
    return maker.missing > 0 and not maker.workload.spec.template.spec.node_name


def _takes_any(node: Sourced[Node]) -> bool:
    """Tell whether an assumed Node takes more than the Pods that name it."""
    return bool(node.value.zone)


def _nodes_assumption(nodes: list[Sourced[Node]]) -> Assumption:
    parts = []
    for source in (nodes[0], nodes[-1]) if len(nodes) > 1 else nodes:
        node = source.value
        addresses = ", ".join(address.address for address in node.status.addresses)
        networks = ", ".join(node.pod_cidrs)
        parts.append(f"{node.metadata.name} ({node.zone}, InternalIP {addresses}, podCIDRs {networks})")
    number = "1 Node" if len(nodes) == 1 else f"{len(nodes)} Nodes"
    between = " to " if len(nodes) > 2 else " and "
    return Assumption("Nodes", f"{number}: {between.join(parts)}", AssumedOrigin())


def _hold_addresses(rooms: Rooms, pods: Iterable[Sourced[Pod]]) -> None:
    for source in pods:
        meta = source.value.metadata
        for text in source.value.ips:
            owner = rooms.owner(parse_address(text))
            if owner:
                room, host = owner
                room.hold(host, (meta.namespace, meta.name))


# --- seats


class _Seating:
    """Puts Pods on Nodes."""

    def __init__(
        self, rooms: Rooms, spread: list[NodeRoom], overflow: list[NodeRoom], pods: Iterable[Sourced[Pod]]
    ) -> None:
        self.rooms = rooms
        self.spread = spread
        self.overflow = overflow
        self.spread_names = {room.name for room in spread}
        self.left = sum(room.room for room in spread)
        self.names: dict[str, set[str]] = {}
        for pod in pods:
            meta = pod.value.metadata
            self.names.setdefault(meta.namespace, set()).add(meta.name)

    def seat_all(self, askers: list[Asker]) -> None:
        """Seat everyone, those first that are bound to a Node; ``askers`` is sorted."""
        askers.sort(key=lambda asker: (asker.namespace, asker.subject))
        for asker in sorted(askers, key=lambda asker: not _is_bound(asker)):
            if asker.pod is not None:
                self._seat_pod(asker, asker.pod)
            elif asker.maker is not None:
                self._seat_workload(asker, asker.maker)

    def _seat_pod(self, asker: Asker, pod: Pod) -> None:
        room: NodeRoom | None = None
        if pod.spec.node_name:
            room = self.rooms.by_name.get(pod.spec.node_name)
        elif pod.ips:
            owner = self.rooms.owner(parse_address(pod.ips[0]))
            room = owner[0] if owner else None
        if room is None and not pod.spec.node_name:
            self._seat(asker, PodDraft(pod.metadata.name), stable_hash(asker.subject))
        elif room is not None:
            self._seat(asker, PodDraft(pod.metadata.name, room.name), 0)

    def _seat_workload(self, asker: Asker, maker: Maker) -> None:
        taken = self.names.setdefault(asker.namespace, set())
        start = stable_hash(asker.subject)
        for number, draft in enumerate(drafts(maker, list(self.rooms.by_name), taken)):
            if draft.node_name and draft.node_name not in self.rooms.by_name:
                break
            if not self._seat(asker, draft, start + draft.ordinal):
                if draft.node_name and maker.workload.kind == "DaemonSet":
                    continue
                asker.missing = asker.wanted - number
                break
            taken.add(draft.name)

    def _seat(self, asker: Asker, draft: PodDraft, place: int) -> bool:
        """Seat one Pod, on its Node or on the first with room from ``place`` on; tell whether it could be."""
        addressed = needs_address(asker)
        room = self._find(draft, place, addressed=addressed)
        if room is None:
            asker.missing += 1
            return False
        if addressed:
            room.room -= 1
            self.left -= room.name in self.spread_names
        asker.seats.append(Seat((asker.namespace, draft.name), room, draft))
        return True

    def _find(self, draft: PodDraft, place: int, *, addressed: bool) -> NodeRoom | None:
        if draft.node_name:
            room = self.rooms.by_name[draft.node_name]
            return room if room.room or not addressed else None
        if addressed and not self.left:
            return next((room for room in self.overflow if room.room), None)
        for step in range(len(self.spread)):
            room = self.spread[(place + step) % len(self.spread)]
            if room.room or not addressed:
                return room
        return None


def _is_bound(asker: Asker) -> bool:
    if asker.pod is not None:
        return bool(asker.pod.spec.node_name)
    maker = asker.maker
    if maker is None:
        return False
    return maker.workload.kind == "DaemonSet" or bool(maker.workload.spec.template.spec.node_name)


def _assign_addresses(askers: list[Asker]) -> None:
    """Give each seat its addresses: of its Node if it is on the Node's network, else of the pod networks."""
    by_room: dict[str, list[Seat]] = {}
    for asker in askers:
        for seat in asker.seats:
            if needs_address(asker):
                by_room.setdefault(seat.room.name, []).append(seat)
            elif not (asker.pod and asker.pod.ips):
                seat.ips = seat.room.host_ips
    for seats in by_room.values():
        seats.sort(key=lambda seat: seat.key)
        room = seats[0].room
        requests = [("/".join(seat.key), seat.key) for seat in seats]
        for seat, assigned in zip(seats, room.pool.assign(requests), strict=True):
            seat.assigned = assigned
            if assigned is not None:
                seat.ips = [network.address(assigned.value) for network in room.networks]


# --- reports


def _report(askers: list[Asker], rooms: Rooms, pods: list[Sourced[Pod]], derivation: Derivation) -> None:
    addressed = {seat.room.name for asker in askers for seat in asker.seats if seat.assigned}
    for room in rooms.all:
        if room.assumed_networks and room.name in addressed:
            networks = ", ".join(network.cidr for network in room.networks)
            subject = f"Node {room.name}"
            derivation.assumptions.append(Assumption(subject, f"pod networks {networks}", AssumedOrigin()))
    derivation.assumptions.extend(assumption(asker) for asker in askers if asker.seats)
    derivation.problems.extend(_too_many(asker) for asker in askers if asker.missing)
    derivation.problems.extend(_without_address(askers))
    derivation.problems.extend(_on_missing_nodes(askers, rooms, pods))


def _too_many(asker: Asker) -> Problem:
    had = asker.wanted - asker.missing
    message = f"{asker.wanted:,} Pods wanted, but the Nodes' pod networks have room for {had:,} of them only"
    if asker.wanted == 1:
        message = "the Nodes' pod networks have no room for it"
    location = asker.origin.locate(asker.path)
    hint = "add Nodes (--assume-nodes), or give them larger podCIDRs"
    return Problem(Code.TOO_MANY_PODS, message, Severity.ERROR, location, asker.subject, hint)


def _without_address(askers: Iterable[Asker]) -> Iterator[Problem]:
    """Warn of hostNetwork Pods on Nodes that do not tell their address."""
    for asker in askers:
        names = sorted(
            {seat.room.name for seat in asker.seats if asker.host_network and not seat.room.host_ips}
        )
        if names and not (asker.pod and asker.pod.ips):
            message = f"no addresses for hostNetwork: Node {', '.join(names[:3])} has no InternalIP"
            hint = "add status.addresses to the Node"
            yield _not_placed(message, asker.subject, asker.origin, hint)


def _on_missing_nodes(askers: list[Asker], rooms: Rooms, pods: list[Sourced[Pod]]) -> Iterator[Problem]:
    """Warn once of each Node that Pods name and that is not there."""
    counts: dict[str, list[tuple[str, Origin]]] = {}
    for pod in pods:
        name = pod.value.spec.node_name
        if name and name not in rooms.by_name and not pod.value.has_ended:
            meta = pod.value.metadata
            counts.setdefault(name, []).append((f"Pod {meta.namespace}/{meta.name}", pod.origin))
    for asker in askers:
        name = asker.maker.workload.spec.template.spec.node_name if asker.maker else ""
        if name and name not in rooms.by_name and asker.wanted:
            counts.setdefault(name, []).append((asker.subject, asker.origin))
    for name, found in sorted(counts.items()):
        subject, origin = found[0]
        others = f" (and {len(found) - 1:,} more on it)" if len(found) > 1 else ""
        message = f"Node {name} is not in the input, so its Pods are no endpoints{others}"
        yield _not_placed(message, subject, origin, "add the Node, or leave all Nodes out")


def _not_placed(message: str, subject: str, origin: Origin, hint: str) -> Problem:
    location = origin.locate(("spec",))
    return Problem(Code.POD_NOT_PLACED, message, Severity.WARNING, location, subject, hint)
