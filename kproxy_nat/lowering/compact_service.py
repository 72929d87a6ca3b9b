"""The compact layout's rules for one service port: what tells it apart, and its own chains."""

from __future__ import annotations

from dataclasses import dataclass

from kproxy_nat.lowering import chain_names, compact_names
from kproxy_nat.lowering.compact_balancing import Balancing
from kproxy_nat.lowering.compact_dispatch import AddressDispatch, PortDispatch, WriteChain, to_ports
from kproxy_nat.lowering.compact_refusals import Refusals
from kproxy_nat.lowering.iptables_common import FROM_LOCAL, LOOPBACK_NETWORK, NfacctCounter
from kproxy_nat.lowering.local_traffic import local_traffic
from kproxy_nat.net.addresses import Address, Cidr, cidr_contains
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import Accept, Drop, Goto, Jump, SetMark
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Destination, Nfacct, Source
from kproxy_nat.ruleset.rules import Rule, RuleOrigin


@dataclass(frozen=True, slots=True)
class Dispatches:
    """The trees that lead to service ports, and those of traffic that is let through or not."""

    addresses: AddressDispatch
    node_ports: PortDispatch
    firewall: AddressDispatch
    health_checks: PortDispatch
    refusals: Refusals


class CompactService:
    """The rules of one service port, entered into the trees and written as chains."""

    def __init__(
        self, service: ServiceView, view: NodeView, trees: Dispatches, write_chain: WriteChain
    ) -> None:
        self.service = service
        self.port = service.port
        self.view = view
        self.trees = trees
        self.write_chain = write_chain
        suffix = chain_names.service_chains(self.port.text, self.port.protocol, [])[0]
        self.cluster_chain = compact_names.CLUSTER_PREFIX + suffix
        self.local_chain = compact_names.LOCAL_PREFIX + suffix
        self.external_chain = compact_names.EXTERNAL_PREFIX + suffix
        self.firewall_chain = compact_names.FIREWALL_PREFIX + suffix
        self.internal_policy_chain = self.local_chain if self.port.internal_local else self.cluster_chain
        self.external_policy_chain = self.local_chain if self.port.external_local else self.cluster_chain
        origin = self.port.origin
        self.origin = RuleOrigin(f"{self.port.text}/{self.port.name.protocol}", origin.source, origin.line)
        bit = 1 << view.options.masquerade_bit
        self.mark = (SetMark(bit, bit),)

    def lower(self) -> None:
        """Write all rules of the service port."""
        self._cluster_ip()
        self._external_addresses()
        self._node_port()
        self._health_check_node_port()
        self._external_chain_rules()
        self._firewall_chain_rules()
        self._balancing_chains()

    def _to(self, comment: str, address: Address) -> tuple[AnyMatch, ...]:
        """Match traffic to the service port at ``address``."""
        comment = f"{self.port.text} {comment}"
        transport = to_ports(self.port.protocol, self.port.port, self.port.port)
        return Comment(comment), *transport, Destination(address)

    def _lead(self, comment: str, address: Address, chain: str) -> None:
        rule = Rule(self._to(comment, address), (Jump(chain),), self.origin)
        self.trees.addresses.add(address, self.port.protocol, self.port.port, rule)

    def _cluster_ip(self) -> None:
        address = self.port.cluster_ip
        if self.service.has_internal_endpoints:
            self._lead("cluster IP", address, self.internal_policy_chain)
        else:
            self.trees.refusals.refuse_cluster_ip(self.service, self.origin)

    def _external_addresses(self) -> None:
        """External IPs and load balancer addresses, which may be dispatched and refused, for short cuts."""
        port = self.port
        firewalled = self.service.is_firewalled
        balancer_chain = self.firewall_chain if firewalled else self.external_chain
        if self.service.has_endpoints:
            for address in port.external_ips:
                self._lead("external IP", address, self.external_chain)
            for address in port.load_balancer_vips:
                self._lead("loadbalancer IP", address, balancer_chain)
        if firewalled:
            for address in port.load_balancer_vips:
                comment = f"traffic not accepted by {self.firewall_chain}"
                rule = Rule(self._to(comment, address), (Drop(),), self.origin)
                self.trees.firewall.add(address, port.protocol, port.port, rule)
        if not self.service.has_external_endpoints:
            self.trees.refusals.refuse_external(self.service, self.origin)

    def _node_port(self) -> None:
        number = self.port.node_port
        if not number or not self.service.has_endpoints:
            return
        matches = (Comment(self.port.text), *to_ports(self.port.protocol, number, number))
        lead = (Jump(self.external_chain),)
        options = self.view.options
        if options.serves_localhost(self.view.family) and options.nfacct:
            counted = (Destination(LOOPBACK_NETWORK), Nfacct(NfacctCounter.LOCALHOST_NODE_PORTS))
            rule = Rule((*matches, *counted), lead, self.origin)
            self.trees.node_ports.add(self.port.protocol, number, rule)
        self.trees.node_ports.add(self.port.protocol, number, Rule(matches, lead, self.origin))

    def _health_check_node_port(self) -> None:
        number = self.port.health_check_node_port
        if number:
            comment = Comment(f"{self.port.text} health check node port")
            rule = Rule((comment, *to_ports("tcp", number, number)), (Accept(),), self.origin)
            self.trees.health_checks.add("tcp", number, rule)

    def _cluster_ip_masquerade(self, chain: str) -> list[Rule]:
        """Return the rule that marks traffic to the cluster IP from outside of the cluster, or all of it.

        The cluster IP is matched again where other traffic comes through the chain, too.
        """
        if chain != self.internal_policy_chain or not self.service.has_internal_endpoints:
            return []
        foreign = local_traffic(self.view, negated=True)
        everything = self.view.options.masquerade_all
        if foreign is None and not everything:
            return []
        matches = self._to("cluster IP", self.port.cluster_ip) if self._is_shared(chain) else ()
        if foreign is not None and not everything:
            matches = (*matches, foreign)
        return [Rule(matches, self.mark, self.origin)]

    def _is_shared(self, chain: str) -> bool:
        """Whether external traffic comes through a chain of the internal policy, too."""
        return self.service.is_reached_from_outside and (
            chain == self.cluster_chain or self.port.external_local
        )

    def _external_chain_rules(self) -> None:
        """Masquerade external traffic, or give it the short cuts of the policy Local."""
        if not self.service.is_reached_from_outside:
            return
        rules = []
        if not self.port.external_local:
            rules.append(Rule((), self.mark, self.origin))
        else:
            to_cluster = (Goto(self.cluster_chain),)
            pods = local_traffic(self.view, negated=False)
            if pods is not None:
                rules.append(Rule((pods,), to_cluster, self.origin))
            rules.append(Rule((FROM_LOCAL,), self.mark, self.origin))
            rules.append(Rule((FROM_LOCAL,), to_cluster, self.origin))
        if self.service.has_external_endpoints:
            rules.append(Rule((), (Goto(self.external_policy_chain),), self.origin))
        self.write_chain(self.external_chain, rules)

    def _firewall_chain_rules(self) -> None:
        """Admit sources to the load balancer's addresses; with the node itself, if it is one."""
        if not self.service.is_firewalled:
            return
        ranges = self.port.source_ranges
        sources: list[Address | Cidr] = list(ranges)
        node_ip = self.view.options.node_ip(self.view.family)
        if any(cidr_contains(source_range, node_ip) for source_range in ranges):
            sources.extend(self.port.load_balancer_vips)
        admit = (Goto(self.external_chain),)
        rules = [Rule((Source(source),), admit, self.origin) for source in sources]
        self.write_chain(self.firewall_chain, rules)

    def _balancing_chains(self) -> None:
        endpoints = self.service.endpoints
        balancing = Balancing(self.service, self.view, self.origin, self._affinity_lists())
        chosen: list[tuple[str, list[Endpoint]]] = []
        if self.service.balances_cluster:
            chosen.append((self.cluster_chain, endpoints.cluster))
        if self.service.balances_local:
            chosen.append((self.local_chain, endpoints.local))
        for chain, among in chosen:
            balancing.write(chain, self._cluster_ip_masquerade(chain), among, self.write_chain)

    def _affinity_lists(self) -> dict[str, str]:
        """Return the lists of clients by endpoint: kube-proxy's, so that clients stay when layouts change."""
        if not self.port.affinity_seconds:
            return {}
        texts = [endpoint.text for endpoint in self.service.endpoints.reachable]
        return chain_names.service_chains(self.port.text, self.port.protocol, texts)[1]
