"""kube-proxy's iptables rules for one service port.

The order of the rules is kube-proxy's order of emission; the numbers in the comments are the steps by which
``docs/kube-proxy-layout.md`` describes it.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering.iptables_common import (
    FROM_LOCAL,
    LOOPBACK_NETWORK,
    TO_LOCAL,
    NfacctCounter,
    TransactionBuilder,
)
from kproxy_nat.lowering.iptables_patterns import (
    Affinity,
    BalancingPattern,
    DispatchPattern,
    EndpointPattern,
    to_service_port,
)
from kproxy_nat.lowering.local_traffic import local_traffic
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import Accept, AnyAction, Drop, Jump, Reject
from kproxy_nat.ruleset.matches import (
    AnyMatch,
    Comment,
    Destination,
    InInterface,
    Nfacct,
    Ports,
    Protocol,
    Source,
    Transport,
)
from kproxy_nat.ruleset.rules import Rule, RuleOrigin
from kproxy_nat.ruleset.transactions import AppendAlike

_REJECT = (Reject(),)
_DROP = (Drop(),)
_ACCEPT = (Accept(),)
_PORT_OF = operator.attrgetter("port")
_CLIENT_MASK = {IpFamily.IPV4: "255.255.255.255", IpFamily.IPV6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}


class ServiceLowering:
    """The rules of one service port, written into a transaction."""

    def __init__(self, service: ServiceView, view: NodeView, out: TransactionBuilder) -> None:
        self.service = service
        self.port = service.port
        self.view = view
        self.out = out
        self.text = self.port.text
        texts = [endpoint.text for endpoint in service.endpoints.reachable]
        suffix, self.endpoint_chains = names.service_chains(self.text, self.port.protocol, texts)
        self.cluster_chain = names.CLUSTER_PREFIX + suffix
        self.local_chain = names.LOCAL_PREFIX + suffix
        self.external_chain = names.EXTERNAL_PREFIX + suffix
        self.firewall_chain = names.FIREWALL_PREFIX + suffix
        self.internal_policy_chain = self.local_chain if self.port.internal_local else self.cluster_chain
        self.external_policy_chain = self.local_chain if self.port.external_local else self.cluster_chain
        self.protocol = Protocol(self.port.protocol)
        seconds = self.port.affinity_seconds
        self.affinity = Affinity(seconds, _CLIENT_MASK[view.family]) if seconds else None
        origin = self.port.origin
        self.origin = RuleOrigin(f"{self.text}/{self.port.name.protocol}", origin.source, origin.line)

    def lower(self) -> None:
        """Write all rules of the service port."""
        self._cluster_ip()
        self._external_ips()
        self._load_balancer_vips()
        self._node_port()
        self._health_check_node_port()
        self._cluster_ip_masquerade()
        self._external_chain_rules()
        self._firewall_chain_rules()
        self._balancing_chains()

    def _rule(self, matches: Iterable[AnyMatch], actions: tuple[AnyAction, ...]) -> Rule:
        return Rule(tuple(matches), actions, self.origin)

    def _nat(self, chain: str, matches: Iterable[AnyMatch], target: str) -> None:
        self.out.nat_rule(chain, self._rule(matches, (Jump(target),)))

    def _to(self, comment: str, address: Address) -> tuple[AnyMatch, ...]:
        """Match traffic to the service port at ``address``."""
        return to_service_port(f"{self.text} {comment}", self.port.protocol, self.port.port, address)

    def _dispatch(
        self,
        chain: str,
        comment: str,
        address: Address,
        target: str,
        sender: Source | InInterface | None = None,
    ) -> None:
        """Send traffic to the service port at ``address`` on to ``target``; that of ``sender``, if given."""
        pattern = DispatchPattern(comment, self.port.protocol, self.port.port, sender)
        words = ((self.text,), (address,), (target,))
        self.out.nat_rules(AppendAlike(pattern, (chain,), words, self.origin))

    def _to_node_port(self, number: int) -> tuple[AnyMatch, ...]:
        return Transport(self.port.protocol, destination=Ports(number, number)), self.protocol

    def _unserved(self, *, external: bool) -> tuple[str, tuple[AnyAction, ...]] | None:
        """Return comment and verdict for traffic without an endpoint; ``None`` where it has one."""
        if not self.service.has_endpoints:
            return "has no endpoints", _REJECT
        served = self.service.has_external_endpoints if external else self.service.has_internal_endpoints
        return None if served else ("has no local endpoints", _DROP)

    def _cluster_ip(self) -> None:
        """(1) The cluster IP: dispatch, or refusal."""
        unserved = self._unserved(external=False)
        if unserved is None:
            self._dispatch(names.SERVICES, "cluster IP", self.port.cluster_ip, self.internal_policy_chain)
        else:
            comment, verdict = unserved
            rule = self._rule(self._to(comment, self.port.cluster_ip), verdict)
            self.out.filter_rule(names.SERVICES, rule)

    def _external_ips(self) -> None:
        """(2) External IPs; dispatch and refusal may both apply, for the short-circuits."""
        for address in self.port.external_ips:
            if self.service.has_endpoints:
                self._dispatch(names.SERVICES, "external IP", address, self.external_chain)
            self._refuse_external(address)

    def _refuse_external(self, address: Address) -> None:
        unserved = self._unserved(external=True)
        if unserved is not None:
            rule = self._rule(self._to(unserved[0], address), unserved[1])
            self.out.filter_rule(names.EXTERNAL_SERVICES, rule)

    def _load_balancer_vips(self) -> None:
        """(3) Load balancer addresses, firewalled where source ranges are given."""
        target = self.firewall_chain if self.service.is_firewalled else self.external_chain
        for vip in self.port.load_balancer_vips:
            if self.service.has_endpoints:
                self._dispatch(names.SERVICES, "loadbalancer IP", vip, target)
            if self.service.is_firewalled:
                comment = f"traffic not accepted by {self.firewall_chain}"
                self.out.filter_rule(names.PROXY_FIREWALL, self._rule(self._to(comment, vip), _DROP))
        for vip in self.port.load_balancer_vips:
            self._refuse_external(vip)

    def _node_port(self) -> None:
        """(4) The node port; never subject to source ranges."""
        number = self.port.node_port
        if not number:
            return
        comment = Comment(self.text)
        transport, protocol = self._to_node_port(number)
        if self.service.has_endpoints:
            if self.view.options.serves_localhost(self.view.family) and self.view.options.nfacct:
                counted = Nfacct(NfacctCounter.LOCALHOST_NODE_PORTS)
                loopback = Destination(LOOPBACK_NETWORK)
                self._nat(
                    names.NODE_PORTS, (comment, transport, protocol, loopback, counted), self.external_chain
                )
            self._nat(names.NODE_PORTS, (comment, transport, protocol), self.external_chain)
        unserved = self._unserved(external=True)
        if unserved is not None:
            refusal = Comment(f"{self.text} {unserved[0]}")
            rule = self._rule((refusal, TO_LOCAL, transport, protocol), unserved[1])
            self.out.filter_rule(names.EXTERNAL_SERVICES, rule)

    def _health_check_node_port(self) -> None:
        """(5) A hole in the host's firewall for the health check, once for each service port."""
        number = self.port.health_check_node_port
        if number:
            transport = Transport("tcp", destination=Ports(number, number))
            matches = (Comment(f"{self.text} health check node port"), transport, Protocol("tcp"))
            self.out.filter_rule(names.NODE_PORTS, self._rule(matches, _ACCEPT))

    def _cluster_ip_masquerade(self) -> None:
        """(6) Masquerade traffic to the cluster IP from outside of the cluster, or all of it.

        The cluster IP is matched again, since external traffic comes through the same chain.
        """
        if not self.service.has_internal_endpoints:
            return
        masquerade_all = self.view.options.masquerade_all
        sender = None if masquerade_all else local_traffic(self.view, negated=True)
        if masquerade_all or sender is not None:
            chain = self.internal_policy_chain
            self._dispatch(chain, "cluster IP", self.port.cluster_ip, names.MARK_MASQ, sender)

    def _external_chain_rules(self) -> None:
        """(7) What external traffic meets: masquerade, or the short-circuits of the policy Local."""
        if not self.service.is_reached_from_outside:
            return
        chain = self.external_chain
        self.out.declare_nat(chain)
        purpose = f"for {self.text} external destinations"
        if not self.port.external_local:
            self._nat(chain, (Comment(f"masquerade traffic {purpose}"),), names.MARK_MASQ)
        else:
            pods = local_traffic(self.view, negated=False)
            if pods is not None:
                self._nat(chain, (Comment(f"pod traffic {purpose}"), pods), self.cluster_chain)
            self._nat(chain, (Comment(f"masquerade LOCAL traffic {purpose}"), FROM_LOCAL), names.MARK_MASQ)
            self._nat(chain, (Comment(f"route LOCAL traffic {purpose}"), FROM_LOCAL), self.cluster_chain)
        if self.service.has_external_endpoints:
            self._nat(chain, (), self.external_policy_chain)

    def _firewall_chain_rules(self) -> None:
        """(8) Sources that may use the load balancer's addresses; with the node itself, if it is one."""
        if not self.service.is_firewalled:
            return
        chain = self.firewall_chain
        self.out.declare_nat(chain)
        comment = Comment(f"{self.text} loadbalancer IP")
        for source in self.view.admitted_sources(self.port):
            self._nat(chain, (comment, Source(source)), self.external_chain)
        marker = Comment(f"other traffic to {self.text} will be dropped by {names.PROXY_FIREWALL}")
        self.out.nat_rule(chain, self._rule((marker,), ()))

    def _balancing_chains(self) -> None:
        """(9) to (11) Choice of an endpoint, and a chain for each."""
        if self.service.balances_cluster:
            self._balance(self.cluster_chain, self.service.endpoints.cluster)
        if self.service.balances_local:
            self._balance(self.local_chain, self.service.endpoints.local)
        self._endpoint_chains()

    def _balance(self, chain: str, endpoints: list[Endpoint]) -> None:
        """(9), (10) Choose an endpoint."""
        comments: list[tuple[AnyMatch, ...]] = [()] * len(endpoints)
        if not self.view.is_large_cluster:
            comments = [(Comment(f"{self.text} -> {e.text}"),) for e in endpoints]
        pattern = BalancingPattern(tuple(comments), self.affinity)
        targets = [(self.endpoint_chains[e.text],) for e in endpoints]
        self.out.declare_nat(chain)
        self.out.nat_rules(AppendAlike(pattern, (chain,), targets, self.origin))

    def _endpoint_chains(self) -> None:
        """(11) A chain for each endpoint; a pattern holds for all that listen on the same port."""
        comment: tuple[AnyMatch, ...] = () if self.view.is_large_cluster else (Comment(self.text),)
        matches = comment + _any_port(self.port.protocol)
        chains = self.endpoint_chains.values()
        self.out.declare_nat(*chains)
        rest = iter(chains)
        for port, endpoints in itertools.groupby(self.service.endpoints.reachable, _PORT_OF):
            pattern = EndpointPattern(comment, matches, port, self.affinity)
            addresses = [e.address for e in endpoints]
            own = list(itertools.islice(rest, len(addresses)))
            self.out.nat_rules(AppendAlike(pattern, own, (addresses,), self.origin))


@functools.lru_cache(maxsize=8)
def _any_port(protocol: str) -> tuple[AnyMatch, ...]:
    return Transport(protocol), Protocol(protocol)
