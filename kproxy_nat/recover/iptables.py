"""Reading service ports out of iptables rules of either layout.

What a rule is for is told by its chain and by what it matches; by its comment only where that is the one
difference there is: the Service's name, and the kind of an address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.recover import model
from kproxy_nat.recover.balancing import Balancing, marks, read_balancing, rule_text
from kproxy_nat.recover.compact_balancing import read_compact_balancing
from kproxy_nat.recover.iptables_layouts import (
    COMPACT,
    KUBE_PROXY,
    IptablesLayout,
    Role,
    dispatch_rules,
    jump_target,
)
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Accept, Drop, Reject
from kproxy_nat.ruleset.matches import (
    AddrType,
    AnyMatch,
    Comment,
    Destination,
    InInterface,
    Multiport,
    Protocol,
    Source,
    Transport,
    destination_ports,
)
from kproxy_nat.ruleset.rules import Rule

Dispatch = list[tuple[Role, str, Rule]]
"""Rules of one service port in the dispatch chains, with what they are for, and their chain."""

_BALANCING = {KUBE_PROXY.name: read_balancing, COMPACT.name: read_compact_balancing}

_KINDS = {
    "external IP": model.EXTERNAL_IP,
    "loadbalancer IP": model.LOAD_BALANCER_IP,
}
_HASH_LENGTH = 16


def read_services(source: RuleSource) -> dict[PortKey, RecoveredPort]:
    """Return the service ports that rules implement, sorted; where both layouts serve one, kube-proxy's.

    Raises:
        InvalidInputError: a rule is broken.
    """
    ports = {**_read_layout(source, COMPACT), **_read_layout(source, KUBE_PROXY)}
    return {key: ports[key] for key in sorted(ports)}


def _read_layout(source: RuleSource, layout: IptablesLayout) -> dict[PortKey, RecoveredPort]:
    found: dict[PortKey, Dispatch] = defaultdict(list)
    for role, chain, rule in dispatch_rules(source, layout):
        key = _key(rule, role)
        if key is not None:
            found[key].append((role, chain, rule))
    _give_health_checks(found)
    return {key: _PortReader(source, layout, key).read(rules) for key, rules in found.items()}


def _key(rule: Rule, role: Role) -> PortKey | None:
    """Return the service port that a rule of a dispatch chain belongs to."""
    comment = next((match.text for match in rule.matches if isinstance(match, Comment)), "")
    protocol = next((match.name for match in rule.matches if isinstance(match, Protocol)), "")
    name = comment.partition(" ")[0]
    if not protocol or name.count("/") != 1:
        return None
    return PortKey(name, "" if role is Role.HEALTH_CHECK else protocol.upper())


def _give_health_checks(found: dict[PortKey, Dispatch]) -> None:
    """Give rules for health checks, which are over TCP for every protocol, to the ports of that name.

    Two ports of one name have a rule each.
    """
    for key in [key for key in found if not key.protocol]:
        rules = found.pop(key)
        owners = sorted(k for k in found if k.service == key.service) or [PortKey(key.service, "TCP")]
        for place, item in enumerate(rules):
            found[owners[min(place, len(owners) - 1)]].append(item)


class _PortReader:
    def __init__(self, source: RuleSource, layout: IptablesLayout, key: PortKey) -> None:
        self.source = source
        self.layout = layout
        self.key = key
        self.cluster_ip = ""
        self.port = self.node_port = self.health_check_node_port = 0
        self.addresses: dict[str, str] = {}
        self.internal_target = self.internal_verdict = self.external_verdict = self.hash = ""
        self.internal_policy = self.external_policy = self.pods_are = ""
        self.ranges: list[str] = []
        self.guarded: list[str] = []
        self.rest: list[str] = []

    def read(self, dispatch: Dispatch) -> RecoveredPort:
        for role, chain, rule in dispatch:
            if not _READERS[role](self, rule):
                self.rest.append(rule_text(self.source, chain, rule))
        if self.internal_target:
            local = self.internal_target.startswith(self.layout.local)
            self.internal_policy = model.LOCAL if local else model.CLUSTER
        elif self.internal_verdict == model.DROP:
            self.internal_policy = model.LOCAL
        cluster = self._balancing(self.layout.cluster)
        local_ = self._balancing(self.layout.local)
        self._read_external()
        self._read_firewall()
        masquerade = self._masquerade(cluster, local_)
        return RecoveredPort(
            self.key,
            self.source.family,
            self.cluster_ip,
            self.port,
            self._listed_addresses(),
            self.node_port,
            self.health_check_node_port,
            self.internal_policy,
            self.external_policy,
            self.pods_are,
            self._source_ranges(),
            self._admits_node(),
            max(cluster.affinity_seconds, local_.affinity_seconds),
            masquerade,
            cluster.shares,
            local_.shares,
            self.internal_verdict,
            self.external_verdict,
            tuple(sorted([*self.rest, *cluster.rest, *local_.rest])),
        )

    def _balancing(self, prefix: str) -> Balancing:
        if not self.hash:
            return Balancing()
        return _BALANCING[self.layout.name](self.source, prefix + self.hash)

    def _aim(self, rule: Rule, *prefixes: str) -> bool:
        """Note the hash that the chains of the service port share; tell whether the rule leads to such."""
        target = jump_target(rule)
        if not target.startswith(prefixes):
            return False
        known = target[-_HASH_LENGTH:]
        if self.hash not in ("", known):
            return False
        self.hash = known
        return True

    def services_rule(self, rule: Rule) -> bool:
        """Nat: an address leads to chains of the service port."""
        address, port = _destination(rule)
        words = _comment_after(rule, self.key)
        if not address or not port:
            return False
        if words in _KINDS:
            self.addresses[address] = _KINDS[words]
            self.port = port
            return self._aim(rule, self.layout.external, self.layout.firewall)
        if self.cluster_ip or not self._aim(rule, self.layout.cluster, self.layout.local):
            return False
        self.cluster_ip, self.port, self.internal_target = address, port, jump_target(rule)
        return True

    def node_ports_rule(self, rule: Rule) -> bool:
        """Nat: a node port leads to chains of the service port; with nfacct, twice."""
        _, port = _destination(rule)
        self.node_port = port
        return bool(port) and self._aim(rule, self.layout.external)

    def refused_cluster_ip(self, rule: Rule) -> bool:
        """Filter: traffic to the cluster IP has no endpoint."""
        self.cluster_ip, self.port = _destination(rule)
        self.internal_verdict = _verdict(rule)
        return bool(self.cluster_ip and self.internal_verdict)

    def refused_external(self, rule: Rule) -> bool:
        """Filter: traffic to another address has no endpoint.

        The compact layout repeats a refused node port before an address that may be the node's.
        """
        address, port = _destination(rule)
        if address and any(isinstance(match, AddrType) for match in rule.matches):
            return True
        self.external_verdict = _verdict(rule)
        if address:
            self.addresses.setdefault(address, model.EXTERNAL_ADDRESS)
            self.port = port
        else:
            self.node_port = port
        return bool(self.external_verdict and port)

    def firewall_rule(self, rule: Rule) -> bool:
        """Filter: what the source ranges did not admit is dropped."""
        address, _ = _destination(rule)
        self.guarded.append(address)
        return bool(address) and _verdict(rule) == model.DROP

    def health_check_rule(self, rule: Rule) -> bool:
        """Filter: the health check comes in."""
        _, self.health_check_node_port = _destination(rule)
        return bool(rule.actions) and isinstance(rule.actions[0], Accept)

    def _read_external(self) -> None:
        """Read what external traffic meets: masquerade, or the short cuts of the policy Local."""
        chain = self.layout.external + self.hash
        for rule in self.source.rules("nat", chain) if self.hash else ():
            kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
            target = jump_target(rule)
            if marks(rule) and not kinds:
                self.external_policy = model.CLUSTER
            elif kinds == [AddrType] and (marks(rule) or target == self.layout.cluster + self.hash):
                self.external_policy = model.LOCAL
            elif kinds in ([Source], [InInterface]) and target == self.layout.cluster + self.hash:
                self.pods_are = self._condition(rule, (Comment,))
            elif kinds or not target.startswith((self.layout.cluster, self.layout.local)):
                self.rest.append(rule_text(self.source, chain, rule))
        if self.external_verdict == model.DROP or self.health_check_node_port:
            self.external_policy = model.LOCAL

    def _read_firewall(self) -> None:
        chain = self.layout.firewall + self.hash
        for rule in self.source.rules("nat", chain) if self.hash else ():
            kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
            if kinds == [Source] and jump_target(rule) == self.layout.external + self.hash:
                self.ranges.append(next(str(m.network) for m in rule.matches if isinstance(m, Source)))
            elif kinds or rule.actions:
                self.rest.append(rule_text(self.source, chain, rule))

    def _own_addresses(self) -> list[str]:
        """Return the load balancer's addresses, as sources."""
        bits = self.source.family.bits
        return [f"{a}/{bits}" for a, kind in self.addresses.items() if kind == model.LOAD_BALANCER_IP]

    def _admits_node(self) -> bool:
        own = self._own_addresses()
        return bool(own) and len(self.ranges) > len(own) and set(self.ranges[-len(own) :]) == set(own)

    def _listed_addresses(self) -> dict[str, str]:
        """Return the addresses in the order of the rules that admit them, which trees do not keep."""
        if not self._admits_node():
            return self.addresses
        places = {source.partition("/")[0]: place for place, source in enumerate(self.ranges)}
        listed = sorted(self.addresses, key=lambda address: places.get(address, 0))
        return {address: self.addresses[address] for address in listed}

    def _source_ranges(self) -> tuple[str, ...]:
        own = self._own_addresses()
        return tuple(self.ranges[: -len(own)] if self._admits_node() else self.ranges)

    def _masquerade(self, cluster: Balancing, local: Balancing) -> str:
        """Return which traffic to the cluster IP is masqueraded."""
        prefix = self.layout.local if self.internal_policy == model.LOCAL else self.layout.cluster
        own, other = (local, cluster) if prefix == self.layout.local else (cluster, local)
        found = [
            self._condition(rule, (Comment, Destination, Protocol, Transport, Multiport)) or "all"
            for rule in own.head
        ]
        self.rest += [rule_text(self.source, prefix + self.hash, rule) for rule in other.head]
        return ", ".join(found)

    def _condition(self, rule: Rule, without: tuple[type[AnyMatch], ...]) -> str:
        matches = tuple(match for match in rule.matches if not isinstance(match, without))
        return render_rule(Rule(matches, ()), self.source.family)


_READERS: dict[Role, Callable[[_PortReader, Rule], bool]] = {
    Role.SERVICE: _PortReader.services_rule,
    Role.NODE_PORT: _PortReader.node_ports_rule,
    Role.REFUSED_CLUSTER_IP: _PortReader.refused_cluster_ip,
    Role.REFUSED_EXTERNAL: _PortReader.refused_external,
    Role.FIREWALL: _PortReader.firewall_rule,
    Role.HEALTH_CHECK: _PortReader.health_check_rule,
}


def _destination(rule: Rule) -> tuple[str, int]:
    """Return the host address and the port that a rule matches; empty and 0 where it does not."""
    address, port = "", 0
    for match in rule.matches:
        if isinstance(match, Destination) and not match.negated:
            network, _, length = match.network.partition("/")
            address = network if length in ("", "32", "128") else ""
        elif ports := destination_ports(match):
            port = ports.first
    return address, port


def _comment_after(rule: Rule, key: PortKey) -> str:
    comment = next((match.text for match in rule.matches if isinstance(match, Comment)), "")
    return comment.removeprefix(key.service).strip()


def _verdict(rule: Rule) -> str:
    action = rule.actions[0] if rule.actions else None
    return model.REJECT if isinstance(action, Reject) else model.DROP if isinstance(action, Drop) else ""
