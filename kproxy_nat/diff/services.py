"""What changed from one node's Services to another's, as an engineer would say it in a review."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kproxy_nat.diff.endpoint_facts import endpoint_facts, listed_endpoints
from kproxy_nat.diff.facts import Change, Fact, ServiceChange, Sign, Topic
from kproxy_nat.diff.flows import changed_flows
from kproxy_nat.diff.wording import condition_words, rest_words
from kproxy_nat.net.addresses import Address, join_host_port
from kproxy_nat.recover import model
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.ruleset.nft_values import merged_networks

Ports = Mapping[PortKey, RecoveredPort]


def diff_services(old: Ports, new: Ports) -> list[ServiceChange]:
    """Return the service ports that differ, sorted.

    A port that comes where another goes, at the same cluster IP and port, is the same under another name.
    """
    renamed = _renamed(old, new)
    changes = [
        _changed(renamed.get(key, key), old.get(renamed.get(key, key)), key, port)
        for key, port in new.items()
    ]
    gone = old.keys() - new.keys() - set(renamed.values())
    changes += [_removed(old[key]) for key in gone]
    return sorted((c for c in changes if c is not None), key=lambda change: change.key)


def _renamed(old: Ports, new: Ports) -> dict[PortKey, PortKey]:
    """Return the old key of each port that is only named in another way."""
    places = {
        (port.cluster_ip, port.port, key.protocol): key
        for key, port in old.items()
        if key not in new and port.cluster_ip
    }
    return {
        key: places[place]
        for key, port in new.items()
        if key not in old and (place := (port.cluster_ip, port.port, key.protocol)) in places
    }


def _changed(
    old_key: PortKey, old: RecoveredPort | None, key: PortKey, new: RecoveredPort
) -> ServiceChange | None:
    if old is None:
        facts = tuple(_description(new, Sign.ADDED))
        return ServiceChange(key, new.family, Change.ADDED, facts, changed_flows(None, new), _addresses(new))
    facts = tuple(_facts(old, new))
    if not facts:
        return None
    before = old_key if old_key != key else None
    flows = changed_flows(old, new)
    return ServiceChange(key, new.family, Change.MODIFIED, facts, flows, _addresses(new), before)


def _removed(old: RecoveredPort) -> ServiceChange:
    facts = tuple(_description(old, Sign.REMOVED))
    return ServiceChange(
        old.key, old.family, Change.REMOVED, facts, changed_flows(old, None), _addresses(old)
    )


def _addresses(port: RecoveredPort) -> tuple[str, ...]:
    cluster_ip = join_host_port(Address(port.cluster_ip), port.port) if port.cluster_ip else ""
    listed = [cluster_ip, *port.addresses]
    listed.append(f"node port {port.node_port}" if port.node_port else "")
    return tuple(text for text in listed if text)


def _description(port: RecoveredPort, sign: Sign) -> Iterator[Fact]:
    """Describe a port that comes or goes."""
    if port.cluster_ip:
        yield Fact(sign, Topic.ADDRESSES, f"cluster IP {port.cluster_ip}, port {port.port}", "spec.clusterIP")
    for address, kind in port.addresses.items():
        yield Fact(sign, Topic.ADDRESSES, f"{kind} {address}", _ADDRESS_FIELDS[kind])
    if port.node_port:
        yield Fact(sign, Topic.ADDRESSES, f"node port {port.node_port}", "spec.ports")
    if port.health_check_node_port:
        text = f"health check node port {port.health_check_node_port}"
        yield Fact(sign, Topic.ADDRESSES, text, "spec.healthCheckNodePort")
    yield from _policy_description(port, sign)
    yield from listed_endpoints(port, sign)
    yield from (Fact(sign, Topic.RULES, rest_words(rule)) for rule in port.rest)


def _policy_description(port: RecoveredPort, sign: Sign) -> Iterator[Fact]:
    """Describe what is not at its default."""
    for side, policy in (("internal", port.internal_policy), ("external", port.external_policy)):
        if policy == model.LOCAL:
            text = f"{side} traffic policy Local"
            yield Fact(sign, Topic.POLICY, text, f"spec.{side}TrafficPolicy")
    if port.source_ranges:
        text = f"clients of the load balancer only from {', '.join(port.source_ranges)}"
        yield Fact(sign, Topic.SOURCES, text, "spec.loadBalancerSourceRanges")
    if port.affinity_seconds:
        text = f"session affinity for {port.affinity_seconds} s"
        yield Fact(sign, Topic.AFFINITY, text, "spec.sessionAffinity")


_ADDRESS_FIELDS = {
    model.EXTERNAL_IP: "spec.externalIPs",
    model.LOAD_BALANCER_IP: "status.loadBalancer",
    model.EXTERNAL_ADDRESS: "spec",
}


def _facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    if old.key != new.key:
        yield Fact(Sign.CHANGED, Topic.NAME, f"is named {new.key}, no longer {old.key}", "metadata.name")
    yield from _address_facts(old, new)
    yield from _policy_facts(old, new)
    yield from endpoint_facts(old, new)
    yield from _source_facts(old, new)
    yield from _affinity_facts(old, new)
    yield from _masquerade_facts(old, new)
    yield from _rest_facts(old, new)


def _address_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    if old.cluster_ip != new.cluster_ip:
        text = _from_to("cluster IP", old.cluster_ip, new.cluster_ip)
        yield Fact(_sign(old.cluster_ip, new.cluster_ip), Topic.ADDRESSES, text, "spec.clusterIP")
    if old.port != new.port and old.port and new.port:
        text = _from_to("port", str(old.port), str(new.port))
        yield Fact(Sign.CHANGED, Topic.ADDRESSES, text, "spec.ports")
    for address in _without(old.addresses, new.addresses):
        kind = old.addresses[address]
        yield Fact(Sign.REMOVED, Topic.ADDRESSES, f"{kind} {address}", _ADDRESS_FIELDS[kind])
    for address in _without(new.addresses, old.addresses):
        kind = new.addresses[address]
        yield Fact(
            Sign.ADDED, Topic.ADDRESSES, f"{kind} {address}{_policy_note(old, new)}", _ADDRESS_FIELDS[kind]
        )
    if old.node_port != new.node_port:
        text = _from_to("node port", str(old.node_port or ""), str(new.node_port or ""))
        note = "" if old.node_port else _policy_note(old, new)
        yield Fact(_sign(old.node_port, new.node_port), Topic.ADDRESSES, text + note, "spec.ports")
    before, after = old.health_check_node_port, new.health_check_node_port
    if before != after and old.mode == new.mode:
        text = _from_to("health check node port", str(before or ""), str(after or ""))
        yield Fact(_sign(before, after), Topic.ADDRESSES, text, "spec.healthCheckNodePort")


def _policy_note(old: RecoveredPort, new: RecoveredPort) -> str:
    """Name the policy for traffic from outside where it begins to matter."""
    is_new = not old.external_policy and new.external_policy == model.LOCAL
    return ", external traffic policy Local" if is_new else ""


_POLICY_EFFECTS = {
    ("internal", model.LOCAL): "only endpoints on this node serve the cluster IP",
    ("internal", model.CLUSTER): "endpoints on every node serve the cluster IP",
    (
        "external",
        model.LOCAL,
    ): "clients from outside reach only endpoints on this node, and keep their address",
    ("external", model.CLUSTER): "clients from outside reach endpoints on every node, and are masqueraded",
}


def _policy_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    pairs = (
        ("internal", old.internal_policy, new.internal_policy),
        ("external", old.external_policy, new.external_policy),
    )
    for side, before, after in pairs:
        if before and after and before != after:
            effect = _POLICY_EFFECTS[side, after]
            text = f"{side} traffic policy {before} -> {after}: {effect}"
            yield Fact(Sign.CHANGED, Topic.POLICY, text, f"spec.{side}TrafficPolicy")
    if old.pods_are and new.pods_are and old.pods_are != new.pods_are:
        text = (
            f"traffic of pods is what comes {condition_words(new.pods_are)}, "
            f"no longer {condition_words(old.pods_are)}"
        )
        yield Fact(Sign.CHANGED, Topic.POLICY, text)


def _source_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    field = "spec.loadBalancerSourceRanges"
    if not (old.shows_source_ranges and new.shows_source_ranges) or _admits_same(old, new):
        return
    if old.source_ranges and new.source_ranges:
        for cidr in _without(old.source_ranges, new.source_ranges):
            yield Fact(Sign.REMOVED, Topic.SOURCES, f"clients of the load balancer from {cidr}", field)
        for cidr in _without(new.source_ranges, old.source_ranges):
            yield Fact(Sign.ADDED, Topic.SOURCES, f"clients of the load balancer from {cidr}", field)
    elif new.source_ranges:
        listed = ", ".join(new.source_ranges)
        text = f"clients of the load balancer only from {listed}, no longer from everywhere"
        yield Fact(Sign.CHANGED, Topic.SOURCES, text, field)
    elif old.source_ranges:
        listed = ", ".join(old.source_ranges)
        text = f"clients of the load balancer from everywhere, no longer only from {listed}"
        yield Fact(Sign.CHANGED, Topic.SOURCES, text, field)
    if old.admits_node != new.admits_node and old.source_ranges and new.source_ranges:
        text = "the node itself may use the load balancer's addresses"
        yield Fact(Sign.ADDED if new.admits_node else Sign.REMOVED, Topic.SOURCES, text, field)


def _admits_same(old: RecoveredPort, new: RecoveredPort) -> bool:
    """Whether the same clients are admitted: nftables joins ranges, and addresses of the load balancer."""
    if old.source_ranges == new.source_ranges and old.admits_node == new.admits_node:
        return True
    return bool(old.source_ranges and new.source_ranges) and _admitted(old) == _admitted(new)


def _admitted(port: RecoveredPort) -> list[str]:
    own = [a for a, kind in port.addresses.items() if kind == model.LOAD_BALANCER_IP]
    return merged_networks([*port.source_ranges, *(own if port.admits_node else ())])


def _affinity_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    before, after = old.affinity_seconds, new.affinity_seconds
    if before == after or not (old.endpoints and new.endpoints):
        return
    if before and after:
        text = f"session affinity for {after} s, no longer {before} s"
        field = "spec.sessionAffinityConfig"
    else:
        text, field = f"session affinity for {before or after} s", "spec.sessionAffinity"
    yield Fact(_sign(before, after), Topic.AFFINITY, text, field)


def _masquerade_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    has_cluster_ip = old.cluster_ip and new.cluster_ip
    served = has_cluster_ip and old.internal_endpoints and new.internal_endpoints
    if old.masquerade != new.masquerade and served:
        text = (
            f"masquerades {_masqueraded(new.masquerade)} to the cluster IP, "
            f"no longer {_masqueraded(old.masquerade)}"
        )
        yield Fact(Sign.CHANGED, Topic.MASQUERADE, text)


def _masqueraded(condition: str) -> str:
    if not condition:
        return "no traffic"
    return "all traffic" if condition == "all" else f"traffic {condition_words(condition)}"


def _rest_facts(old: RecoveredPort, new: RecoveredPort) -> Iterator[Fact]:
    for rule in _without(old.rest, new.rest):
        yield Fact(Sign.REMOVED, Topic.RULES, rest_words(rule))
    for rule in _without(new.rest, old.rest):
        yield Fact(Sign.ADDED, Topic.RULES, rest_words(rule))


def _sign(before: object, after: object) -> Sign:
    if before and after:
        return Sign.CHANGED
    return Sign.ADDED if after else Sign.REMOVED


def _from_to(what: str, before: str, after: str) -> str:
    return f"{what} {before} -> {after}" if before and after else f"{what} {before or after}"


def _without(these: Iterable[str], those: Iterable[str]) -> list[str]:
    others = set(those)
    return [item for item in these if item not in others]
