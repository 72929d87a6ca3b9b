"""Traffic to service ports without an endpoint, which the table filter rejects or drops."""

from __future__ import annotations

from collections.abc import Iterable

from kproxy_nat.lowering import compact_names as names
from kproxy_nat.lowering.compact_dispatch import AddressDispatch, PortDispatch, to_ports
from kproxy_nat.lowering.iptables_common import TO_LOCAL
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.proxy.view import ServiceView
from kproxy_nat.ruleset.actions import AnyAction, Drop, Reject
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Destination
from kproxy_nat.ruleset.rules import Rule, RuleOrigin

Verdict = tuple[AnyAction, ...]

_REJECT: Verdict = (Reject(),)
_DROP: Verdict = (Drop(),)


class Refusals:
    """The trees of refusals: cluster IPs, external addresses, node ports."""

    def __init__(self, family: IpFamily) -> None:
        self.cluster_ips = AddressDispatch(names.CLUSTER_REFUSALS, family)
        self.external = AddressDispatch(names.EXTERNAL_REFUSALS, family)
        self.node_ports = PortDispatch(names.NODE_PORT_REFUSALS)
        self._node_port_rules: dict[tuple[str, int], Rule] = {}

    def refuse_cluster_ip(self, service: ServiceView, origin: RuleOrigin) -> None:
        """Refuse traffic to the cluster IP."""
        port = service.port
        matches = (*_matches(service, port.port), Destination(port.cluster_ip))
        rule = Rule(matches, _verdict(service), origin)
        self.cluster_ips.add(port.cluster_ip, port.protocol, port.port, rule)

    def refuse_external(self, service: ServiceView, origin: RuleOrigin) -> None:
        """Refuse traffic to external IPs, load balancer addresses and the node port."""
        port = service.port
        self._refuse_addresses(service, (*port.external_ips, *port.load_balancer_vips), origin)
        number = port.node_port
        if number:
            matches = (TO_LOCAL, *_matches(service, number))
            rule = Rule(matches, _verdict(service), origin)
            self._node_port_rules.setdefault((port.protocol, number), rule)
            self.node_ports.add(port.protocol, number, rule)

    def _refuse_addresses(
        self, service: ServiceView, addresses: Iterable[Address], origin: RuleOrigin
    ) -> None:
        """Refuse traffic to addresses.

        Where one of them may be the node's, a node port of an earlier Service with the same number and
        another verdict comes first, as it does where all refusals stand in one chain.
        """
        port = service.port
        earlier = self._node_port_rules.get((port.protocol, port.port))
        for address in addresses:
            if earlier is not None and earlier.actions != _verdict(service):
                before = Rule((*earlier.matches, Destination(address)), earlier.actions, earlier.origin)
                self.external.add(address, port.protocol, port.port, before)
            matches = (*_matches(service, port.port), Destination(address))
            self.external.add(address, port.protocol, port.port, Rule(matches, _verdict(service), origin))


def _verdict(service: ServiceView) -> Verdict:
    return _DROP if service.has_endpoints else _REJECT


def _matches(service: ServiceView, number: int) -> tuple[AnyMatch, ...]:
    reason = "has no local endpoints" if service.has_endpoints else "has no endpoints"
    return Comment(f"{service.port.text} {reason}"), *to_ports(service.port.protocol, number, number)
