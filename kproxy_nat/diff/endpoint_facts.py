"""Endpoints that come and go, and what that does to the shares of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from kproxy_nat.diff.facts import Fact, Sign, Topic
from kproxy_nat.recover import model
from kproxy_nat.recover.model import RecoveredPort, Shares

_FIELD = "endpoints"
_LISTED = 10


def share_text(share: Fraction) -> str:
    """Return a share as a fraction where it is a simple one, else in percent."""
    if share.denominator <= 10_000:
        return "all" if share == 1 else str(share)
    return f"{float(share) * 100:.2f}".rstrip("0").rstrip(".") + " %"


def listed_endpoints(port: RecoveredPort, sign: Sign) -> Iterator[Fact]:
    """Describe the endpoints of a port that comes or goes."""
    if port.internal_verdict or port.external_verdict:
        yield from _verdicts(port, sign)
    pools = _pools(port)
    for where, shares in pools:
        if shares:
            yield Fact(sign, Topic.ENDPOINTS, f"{_pool_name(where, len(shares))}: {_listing(shares)}", _FIELD)


def endpoint_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    """Return what differs in the endpoints, and in what happens without any."""
    yield from _verdict_facts(old, new)
    before, after = _by_traffic(old), _by_traffic(new)
    pairs = {kind: (before[kind], after[kind]) for kind in before if kind in after}
    told: list[tuple[Shares, Shares]] = []
    for pair in pairs.values():
        if pair not in told:
            told.append(pair)
            alike = [kind for kind in pairs if pairs[kind] == pair]
            suffix = "" if len(alike) == len(pairs) else f" for {' and '.join(alike)}"
            yield from _pool_facts(suffix, *pair)


_INSIDE = "the cluster IP"
_OUTSIDE = "clients from outside"
_SHORT_CUT = "pods and the node itself"


def _by_traffic(port: RecoveredPort) -> dict[str, Shares]:
    """Return the endpoints for each kind of traffic that the port has addresses for."""
    kinds = {_INSIDE: port.internal_endpoints} if port.cluster_ip else {}
    if port.addresses or port.node_port:
        kinds[_OUTSIDE] = port.external_endpoints
    if port.external_policy == model.LOCAL and port.internal_policy == model.LOCAL:
        kinds[_SHORT_CUT] = port.cluster
    return kinds


def _pools(port: RecoveredPort) -> list[tuple[str, Shares]]:
    """Return the groups of endpoints that traffic is spread over; the node's own only where they matter."""
    local_matters = model.LOCAL in (port.internal_policy, port.external_policy)
    cluster_matters = not port.internal_policy == port.external_policy == model.LOCAL
    pools = [("", port.cluster)] if cluster_matters or port.cluster else []
    return [*pools, ("on this node", port.local)] if local_matters else pools


def _pool_name(where: str, count: int) -> str:
    noun = "endpoint" if count == 1 else "endpoints"
    return f"{count} {noun} {where}" if where else f"{count} {noun}"


def _listing(shares: Shares) -> str:
    shown = [endpoint or "none" for endpoint in shares]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    listed = ", ".join(shown[:_LISTED]) + more
    parts = set(shares.values())
    if len(parts) == 1 and len(shares) > 1:
        return f"{listed}, {share_text(parts.pop())} each"
    if len(shares) == 1:
        return listed
    return ", ".join(f"{e or 'none'} {share_text(s)}" for e, s in list(shares.items())[:_LISTED]) + more


def _verdicts(port: RecoveredPort, sign: Sign) -> Iterator[Fact]:
    inside, outside = port.internal_verdict, port.external_verdict
    if model.REJECT in (inside, outside):
        yield Fact(sign, Topic.ENDPOINTS, "no endpoints: connections are rejected", _FIELD)
        return
    for verdict, what in ((inside, "to the cluster IP"), (outside, "from outside")):
        if verdict:
            text = f"no endpoint on this node: connections {what} are dropped"
            yield Fact(sign, Topic.ENDPOINTS, text, _FIELD)


def _verdict_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    was, is_ = old.internal_verdict, new.internal_verdict
    had, has = _refusal(old), _refusal(new)
    if had == has:
        return
    if has == model.REJECT:
        yield Fact(Sign.CHANGED, Topic.ENDPOINTS, "no endpoint is left: connections are rejected", _FIELD)
        return
    if had == model.REJECT and not has:
        yield Fact(Sign.CHANGED, Topic.ENDPOINTS, "is served, connections were rejected before", _FIELD)
        return
    if was != is_:
        yield _one_verdict("connections to the cluster IP", was, is_)
    if old.external_verdict != new.external_verdict and (old.addresses or old.node_port):
        yield _one_verdict("connections from outside", old.external_verdict, new.external_verdict)


def _refusal(port: RecoveredPort) -> str:
    """Return REJECT if nothing is served, another text if something is not, empty if all is."""
    both = (port.internal_verdict, port.external_verdict)
    if model.REJECT in both:
        return model.REJECT
    return "/".join(both) if any(both) else ""


_FATES = {
    "": "are served",
    model.REJECT: "are rejected: no endpoint is left",
    model.DROP: "are dropped: no endpoint is on this node",
}


def _one_verdict(what: str, before: str, after: str) -> Fact:
    formerly = {"": "were served", model.REJECT: "were rejected", model.DROP: "were dropped"}[before]
    return Fact(Sign.CHANGED, Topic.ENDPOINTS, f"{what} {_FATES[after]}; before they {formerly}", _FIELD)


def _pool_facts(suffix: str, before: Shares, after: Shares) -> Iterator[Fact]:
    for endpoint in sorted(before.keys() - after.keys()):
        text = f"endpoint {endpoint}{suffix}, had {share_text(before[endpoint])}" if endpoint else _UNSERVED
        yield Fact(Sign.REMOVED, Topic.ENDPOINTS, text, _FIELD, endpoint)
    for endpoint in sorted(after.keys() - before.keys()):
        text = f"endpoint {endpoint}{suffix}, gets {share_text(after[endpoint])}" if endpoint else _UNSERVED
        yield Fact(Sign.ADDED, Topic.ENDPOINTS, text, _FIELD, endpoint)
    yield from _share_facts(suffix, before, after)


_UNSERVED = "a part of the connections that no endpoint gets"


def _share_facts(suffix: str, before: Shares, after: Shares) -> Iterator[Fact]:
    """Tell how the shares of endpoints that stay move; those that move alike together."""
    moved = {e: (before[e], after[e]) for e in before if e in after and before[e] != after[e]}
    stays = [e for e in before if e in after and before[e] == after[e]]
    for (old, new), count in Counter(moved.values()).items():
        change = f"{share_text(old)} -> {share_text(new)}"
        alike = [e for e, pair in moved.items() if pair == (old, new)]
        if count == 1:
            yield Fact(
                Sign.CHANGED, Topic.ENDPOINTS, f"endpoint {alike[0]}{suffix}: {change}", _FIELD, alike[0]
            )
        elif count <= 3 or stays or len(set(moved.values())) > 1:
            listed = ", ".join(alike[:_LISTED]) + (f" and {count - _LISTED} more" if count > _LISTED else "")
            yield Fact(Sign.CHANGED, Topic.ENDPOINTS, f"endpoints {listed}{suffix}: {change} each", _FIELD)
        else:
            text = f"the other {count} endpoints{suffix}: {change} each"
            yield Fact(Sign.CHANGED, Topic.ENDPOINTS, text, _FIELD)
