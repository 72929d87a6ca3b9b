"""What becomes of new connections to a service port: by address, and by where they come from."""

from __future__ import annotations

from fractions import Fraction

import msgspec

from kproxy_nat.net.addresses import Address, join_host_port
from kproxy_nat.recover import model
from kproxy_nat.recover.model import RecoveredPort

ANY, PODS, NODE, EXTERNAL, ELSEWHERE = "any", "pods", "node", "external", "elsewhere"

Outcome = dict[str, Fraction]
"""Endpoints as ``address:port``, or REJECT or DROP, each with its part of new connections."""

FlowKey = tuple[str, str]
"""Where to, ``address:port/protocol`` (``*`` for the node's addresses), and where from."""


class FlowChange(msgspec.Struct, frozen=True):
    """New connections whose fate changes; ``None`` where there is no rule for them."""

    to: str
    source: str
    old: Outcome | None
    new: Outcome | None


def flows_of(port: RecoveredPort) -> dict[FlowKey, Outcome]:
    """Return what becomes of new connections to each address of a service port."""
    flows: dict[FlowKey, Outcome] = {}
    if port.cluster_ip:
        verdict = port.internal_verdict
        outcome = {verdict: Fraction(1)} if verdict else dict(port.internal_endpoints)
        flows[_to(port, port.cluster_ip, port.port), ANY] = outcome
    for address, kind in port.addresses.items():
        guarded = kind == model.LOAD_BALANCER_IP and bool(port.source_ranges)
        flows |= _external(port, _to(port, address, port.port), guarded=guarded)
    if port.node_port:
        flows |= _external(port, _to(port, "*", port.node_port), guarded=False)
    return flows


def changed_flows(old: RecoveredPort | None, new: RecoveredPort | None) -> tuple[FlowChange, ...]:
    """Return the connections whose fate differs, sorted."""
    before = flows_of(old) if old else {}
    after = flows_of(new) if new else {}
    before, after = _as_fine_as(before, after), _as_fine_as(after, before)
    return tuple(
        FlowChange(*key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _as_fine_as(flows: dict[FlowKey, Outcome], other: dict[FlowKey, Outcome]) -> dict[FlowKey, Outcome]:
    """Tell sources apart where the other side does, so that the same traffic has the same key."""
    finer: dict[FlowKey, Outcome] = {}
    for (to, source), outcome in flows.items():
        kinds = [kind for kind in (PODS, NODE, EXTERNAL) if (to, kind) in other]
        for kind in kinds if source == ANY and kinds else [source]:
            finer[to, kind] = outcome
    return finer


def is_served(outcome: Outcome | None) -> bool:
    """Whether any connection reaches an endpoint."""
    return bool(outcome and outcome.keys() - {model.REJECT, model.DROP})


def _to(port: RecoveredPort, address: str, number: int) -> str:
    host = "*" if address == "*" else None
    text = f"*:{number}" if host else join_host_port(Address(address), number)
    return f"{text}/{port.key.protocol}"


def _external(port: RecoveredPort, to: str, *, guarded: bool) -> dict[FlowKey, Outcome]:
    """Return the fate of connections to an address that is not the cluster IP."""
    within = f" in {', '.join(port.source_ranges)}" if guarded else ""
    verdict = port.external_verdict
    outside: Outcome = {verdict: Fraction(1)} if verdict else dict(port.external_endpoints)
    flows: dict[FlowKey, Outcome] = {}
    if port.external_policy == model.LOCAL and port.cluster:
        if port.pods_are:
            flows[to, PODS + within] = dict(port.cluster)
        flows[to, NODE + within] = dict(port.cluster)
        flows[to, EXTERNAL + within] = outside
    else:
        flows[to, ANY + within] = outside
    if guarded:
        flows[to, ELSEWHERE] = {model.DROP: Fraction(1)}
    return flows
