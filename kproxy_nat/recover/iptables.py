"""Reading service ports out of iptables rules in the layout ``kube-proxy``.

What a rule is for is told by its chain and by what it matches; by its comment only where that is the one
difference there is: the Service's name, and the kind of an address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.recover import model
from kproxy_nat.recover.balancing import Balancing, jump_target, read_balancing, rule_text
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.recover.sources import DISPATCH_CHAINS, RuleSource
from kproxy_nat.ruleset.actions import Accept, Drop, Reject
from kproxy_nat.ruleset.matches import (
    AddrType,
    AnyMatch,
    Comment,
    Destination,
    InInterface,
    Protocol,
    Source,
    Transport,
)
from kproxy_nat.ruleset.rules import Rule

Dispatch = list[tuple[str, str, Rule]]
"""Rules of one service port in the dispatch chains, with table and chain."""

_KINDS = {
    "external IP": model.EXTERNAL_IP,
    "loadbalancer IP": model.LOAD_BALANCER_IP,
}
_HASH_LENGTH = 16


def read_services(source: RuleSource) -> dict[PortKey, RecoveredPort]:
    """Return the service ports that rules implement, sorted.

    Raises:
        InvalidInputError: a rule is broken.
    """
    found: dict[PortKey, Dispatch] = defaultdict(list)
    for table, chains in DISPATCH_CHAINS.items():
        for chain in chains:
            for rule in source.rules(table, chain):
                key = _key(rule, table, chain)
                if key is not None:
                    found[key].append((table, chain, rule))
    _give_health_checks(found)
    return {key: _PortReader(source, key).read(found[key]) for key in sorted(found)}


def _key(rule: Rule, table: str, chain: str) -> PortKey | None:
    """Return the service port that a rule of a dispatch chain belongs to."""
    comment = next((match.text for match in rule.matches if isinstance(match, Comment)), "")
    protocol = next((match.name for match in rule.matches if isinstance(match, Protocol)), "")
    name = comment.partition(" ")[0]
    if not protocol or name.count("/") != 1:
        return None
    health_check = (table, chain) == ("filter", names.NODE_PORTS)
    return PortKey(name, "" if health_check else protocol.upper())


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
    def __init__(self, source: RuleSource, key: PortKey) -> None:
        self.source = source
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
        for table, chain, rule in dispatch:
            if not _READERS[table, chain](self, rule):
                self.rest.append(rule_text(self.source, chain, rule))
        if self.internal_target:
            local = self.internal_target.startswith(names.LOCAL_PREFIX)
            self.internal_policy = model.LOCAL if local else model.CLUSTER
        elif self.internal_verdict == model.DROP:
            self.internal_policy = model.LOCAL
        cluster = self._balancing(names.CLUSTER_PREFIX)
        local_ = self._balancing(names.LOCAL_PREFIX)
        self._read_external()
        self._read_firewall()
        masquerade = self._masquerade(cluster, local_)
        return RecoveredPort(
            self.key,
            self.source.family,
            self.cluster_ip,
            self.port,
            self.addresses,
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
        return read_balancing(self.source, prefix + self.hash) if self.hash else Balancing()

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
            return self._aim(rule, names.EXTERNAL_PREFIX, names.FIREWALL_PREFIX)
        if self.cluster_ip or not self._aim(rule, names.CLUSTER_PREFIX, names.LOCAL_PREFIX):
            return False
        self.cluster_ip, self.port, self.internal_target = address, port, jump_target(rule)
        return True

    def node_ports_rule(self, rule: Rule) -> bool:
        """Nat: a node port leads to chains of the service port; with nfacct, twice."""
        _, port = _destination(rule)
        self.node_port = port
        return bool(port) and self._aim(rule, names.EXTERNAL_PREFIX)

    def refused_cluster_ip(self, rule: Rule) -> bool:
        """Filter: traffic to the cluster IP has no endpoint."""
        self.cluster_ip, self.port = _destination(rule)
        self.internal_verdict = _verdict(rule)
        return bool(self.cluster_ip and self.internal_verdict)

    def refused_external(self, rule: Rule) -> bool:
        """Filter: traffic to another address has no endpoint."""
        address, port = _destination(rule)
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
        chain = names.EXTERNAL_PREFIX + self.hash
        for rule in self.source.rules("nat", chain) if self.hash else ():
            kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
            target = jump_target(rule)
            if target == names.MARK_MASQ and not kinds:
                self.external_policy = model.CLUSTER
            elif kinds == [AddrType] and target in (names.MARK_MASQ, names.CLUSTER_PREFIX + self.hash):
                self.external_policy = model.LOCAL
            elif kinds in ([Source], [InInterface]) and target == names.CLUSTER_PREFIX + self.hash:
                self.pods_are = self._condition(rule, (Comment,))
            elif kinds or not target.startswith((names.CLUSTER_PREFIX, names.LOCAL_PREFIX)):
                self.rest.append(rule_text(self.source, chain, rule))
        if self.external_verdict == model.DROP or self.health_check_node_port:
            self.external_policy = model.LOCAL

    def _read_firewall(self) -> None:
        chain = names.FIREWALL_PREFIX + self.hash
        for rule in self.source.rules("nat", chain) if self.hash else ():
            kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
            if kinds == [Source] and jump_target(rule) == names.EXTERNAL_PREFIX + self.hash:
                self.ranges.append(next(str(m.network) for m in rule.matches if isinstance(m, Source)))
            elif kinds or rule.actions:
                self.rest.append(rule_text(self.source, chain, rule))

    def _own_addresses(self) -> list[str]:
        """Return the load balancer's addresses, as sources."""
        bits = self.source.family.bits
        return [f"{a}/{bits}" for a, kind in self.addresses.items() if kind == model.LOAD_BALANCER_IP]

    def _admits_node(self) -> bool:
        own = self._own_addresses()
        return bool(own) and len(self.ranges) > len(own) and self.ranges[-len(own) :] == own

    def _source_ranges(self) -> tuple[str, ...]:
        own = self._own_addresses()
        return tuple(self.ranges[: -len(own)] if self._admits_node() else self.ranges)

    def _masquerade(self, cluster: Balancing, local: Balancing) -> str:
        """Return which traffic to the cluster IP is masqueraded."""
        prefix = names.LOCAL_PREFIX if self.internal_policy == model.LOCAL else names.CLUSTER_PREFIX
        own, other = (local, cluster) if prefix == names.LOCAL_PREFIX else (cluster, local)
        found = [
            self._condition(rule, (Comment, Destination, Protocol, Transport)) or "all" for rule in own.head
        ]
        self.rest += [rule_text(self.source, prefix + self.hash, rule) for rule in other.head]
        return ", ".join(found)

    def _condition(self, rule: Rule, without: tuple[type[AnyMatch], ...]) -> str:
        matches = tuple(match for match in rule.matches if not isinstance(match, without))
        return render_rule(Rule(matches, ()), self.source.family)


_READERS: dict[tuple[str, str], Callable[[_PortReader, Rule], bool]] = {
    ("nat", names.SERVICES): _PortReader.services_rule,
    ("nat", names.NODE_PORTS): _PortReader.node_ports_rule,
    ("filter", names.SERVICES): _PortReader.refused_cluster_ip,
    ("filter", names.EXTERNAL_SERVICES): _PortReader.refused_external,
    ("filter", names.PROXY_FIREWALL): _PortReader.firewall_rule,
    ("filter", names.NODE_PORTS): _PortReader.health_check_rule,
}


def _destination(rule: Rule) -> tuple[str, int]:
    """Return the host address and the port that a rule matches; empty and 0 where it does not."""
    address, port = "", 0
    for match in rule.matches:
        if isinstance(match, Destination) and not match.negated:
            network, _, length = match.network.partition("/")
            address = network if length in ("", "32", "128") else ""
        elif isinstance(match, Transport) and match.destination:
            port = match.destination.first
    return address, port


def _comment_after(rule: Rule, key: PortKey) -> str:
    comment = next((match.text for match in rule.matches if isinstance(match, Comment)), "")
    return comment.removeprefix(key.service).strip()


def _verdict(rule: Rule) -> str:
    action = rule.actions[0] if rule.actions else None
    return model.REJECT if isinstance(action, Reject) else model.DROP if isinstance(action, Drop) else ""
