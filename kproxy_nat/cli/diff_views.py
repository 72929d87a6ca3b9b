"""The parts of two views that differ, so that only these are compiled."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

import msgspec

from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.selection import Selection
from kproxy_nat.proxy.view import NodeView, ServiceView


def views_of(old: Side, new: Side, family: IpFamily) -> tuple[NodeView | None, NodeView | None]:
    """Return the views of both sides; of a side with nothing, the other's without Services."""
    before, after = old.view(family), new.view(family)
    if before is None and old.is_empty and after is not None:
        before = NodeView(family, after.options, [], 0)
    if after is None and new.is_empty and before is not None:
        after = NodeView(family, before.options, [], 0)
    return before, after


def changed_part(old: NodeView, new: NodeView) -> tuple[NodeView, NodeView]:
    """Return the views without the Services whose rules are the same in both."""
    if old.options != new.options or old.is_large_cluster != new.is_large_cluster:
        return old, new
    before = {view.port.name: view for view in old.services}
    same = {
        view.port.name
        for view in new.services
        if (known := before.get(view.port.name)) is not None and _same_rules(known, view)
    }
    return (
        replace(old, services=[view for view in old.services if view.port.name not in same]),
        replace(new, services=[view for view in new.services if view.port.name not in same]),
    )


def sharing(part: NodeView, whole: NodeView, other_part: NodeView, layout: Layout) -> NodeView:
    """Return a part of a view with those Services of the whole that share something with a changed one.

    An address, a node port or an endpoint on the node is one element of a set, whoever wants it to be there.
    Of unchanged ones that share chains or maps, one shows that these are there.
    """
    changed = {view.port.name for view in (*part.services, *other_part.services)}
    touched = set(_shared_elements([*part.services, *other_part.services]))
    shown: set[Hashable] = {None}
    services = []
    for view in whole.services:
        shared = layout.shared_by(view, whole)
        is_changed = view.port.name in changed
        if is_changed or shared not in shown or not touched.isdisjoint(_shared_elements([view])):
            services.append(view)
        if not is_changed:
            shown.add(shared)
    return replace(part, services=services)


def one_of_each(chosen: Selection) -> Selection:
    """Return one endpoint of each kind."""
    cluster, local = chosen.cluster[:1], chosen.local[:1]
    reachable = list({endpoint.text: endpoint for endpoint in (*cluster, *local)}.values())
    return Selection(cluster, local, reachable, chosen.any_usable)


def _shared_elements(services: Iterable[ServiceView]) -> Iterable[object]:
    for view in services:
        port = view.port
        yield from (port.cluster_ip, *port.external_ips, *port.load_balancer_vips)
        if port.node_port:
            yield port.node_port
        yield from (endpoint.text for endpoint in view.endpoints.reachable if endpoint.is_local)


def _same_rules(old: ServiceView, new: ServiceView) -> bool:
    """Whether two views of a service port make the same rules; where it was read from is not in them."""
    if msgspec.structs.astuple(old.port)[:-1] != msgspec.structs.astuple(new.port)[:-1]:
        return False
    before, after = old.endpoints, new.endpoints
    if before == after:
        return True
    return before.any_usable == after.any_usable and all(
        [(e.text, e.is_local) for e in mine] == [(e.text, e.is_local) for e in theirs]
        for mine, theirs in (
            (before.cluster, after.cluster),
            (before.local, after.local),
            (before.reachable, after.reachable),
        )
    )
