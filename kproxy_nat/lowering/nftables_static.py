"""What belongs to no Service, as kube-proxy 1.36 writes it in nftables mode; both layouts share it."""

from __future__ import annotations

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.local_traffic import local_traffic
from kproxy_nat.lowering.nftables_common import (
    HAIRPIN_KEY,
    NODE_PORT_KEY,
    SERVICE_KEY,
    NftTransactionBuilder,
)
from kproxy_nat.net.addresses import Address, Cidr, IpFamily
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Drop, Jump, Masquerade, Reject, SetMark, VerdictMap
from kproxy_nat.ruleset.keys import Field, Key
from kproxy_nat.ruleset.matches import (
    AddrType,
    AnyMatch,
    CtState,
    CtStatus,
    Destination,
    Lookup,
    Mark,
    OneOf,
)
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteSet,
    FlushSet,
)
from kproxy_nat.ruleset.nft_values import key_types
from kproxy_nat.ruleset.rules import Hook
from kproxy_nat.ruleset.sets import VERDICT, NamedSet

FILTER_PRE_DNAT = "filter-prerouting-pre-dnat"
FILTER_OUTPUT_PRE_DNAT = "filter-output-pre-dnat"
FILTER_INPUT = "filter-input"
FILTER_FORWARD = "filter-forward"
FILTER_OUTPUT = "filter-output"
NAT_PREROUTING = "nat-prerouting"
NAT_OUTPUT = "nat-output"
NAT_POSTROUTING = "nat-postrouting"

BASE_CHAINS = {
    # Source ranges need the original destination, so they come before the translation at -100.
    FILTER_PRE_DNAT: Hook("filter", "prerouting", -110),
    FILTER_OUTPUT_PRE_DNAT: Hook("filter", "output", -110),
    FILTER_INPUT: Hook("filter", "input", 0),
    FILTER_FORWARD: Hook("filter", "forward", 0),
    FILTER_OUTPUT: Hook("filter", "output", 0),
    NAT_PREROUTING: Hook("nat", "prerouting", -100),
    NAT_OUTPUT: Hook("nat", "output", -100),
    NAT_POSTROUTING: Hook("nat", "postrouting", 100),
}

_NEW: tuple[AnyMatch, ...] = (CtState(("NEW",)),)
_ALL: tuple[AnyMatch, ...] = ()
_JUMPS = (
    (FILTER_INPUT, _NEW, names.NODE_PORT_CHECK),
    (FILTER_INPUT, _NEW, names.SERVICE_CHECK),
    (FILTER_FORWARD, _NEW, names.SERVICE_CHECK),
    (FILTER_OUTPUT, _NEW, names.SERVICE_CHECK),
    (FILTER_PRE_DNAT, _NEW, names.FIREWALL_CHECK),
    (FILTER_OUTPUT_PRE_DNAT, _NEW, names.FIREWALL_CHECK),
    (NAT_OUTPUT, _ALL, names.SERVICES),
    (NAT_PREROUTING, _ALL, names.SERVICES),
    (NAT_POSTROUTING, _ALL, names.MASQUERADING),
    (FILTER_FORWARD, _NEW, names.CLUSTER_IPS_CHECK),
    (FILTER_OUTPUT, _NEW, names.CLUSTER_IPS_CHECK),
)
_LOOPBACK: dict[IpFamily, Address | Cidr] = {
    IpFamily.IPV4: Cidr("127.0.0.0/8"),
    IpFamily.IPV6: Address("::1"),
}
_TO_LOCAL = AddrType("dst", ("LOCAL",))
_TO_CLUSTER_IP = Lookup((Field.DESTINATION,), names.CLUSTER_IPS_SET)


class StaticPart:
    """The part of one family's transaction; the order of commands is kube-proxy's."""

    def __init__(self, view: NodeView, out: NftTransactionBuilder) -> None:
        self.view = view
        self.options = view.options
        self.out = out
        destinations = self.options.node_port_destinations(view.family)
        self.node_port_ips = destinations
        self.to_node_port: AnyMatch = (
            Destination(_LOOPBACK[view.family], negated=True)
            if destinations is None
            else Lookup((Field.DESTINATION,), names.NODE_PORT_IPS_SET)
        )

    def lower(self) -> None:
        """Write the part."""
        self._base_chains()
        self._jumps()
        self._masquerading()
        self._cluster_ips_check()
        self._node_port_ips()
        self._endpoint_checks()
        self._firewall_check()
        self._services()

    def _base_chains(self) -> None:
        """Make the hooks anew: a chain that is there with another hook or priority could not be added."""
        self.out.add(AddTable("rules for kube-proxy"))
        for name in BASE_CHAINS:
            self.out.add(AddChain(name))
            self.out.add(DeleteChain(name))
        for name, hook in BASE_CHAINS.items():
            self.out.ensure_chain(name, hook)

    def _jumps(self) -> None:
        for source, matches, target in _JUMPS:
            self.out.ensure_chain(target)
            self.out.rule(source, matches, (Jump(target),))

    def _set(self, name: str, key: Key, comment: str, *, verdicts: bool = False) -> None:
        types = key_types(key, self.view.family)
        values = (VERDICT,) if verdicts else ()
        self.out.add(AddSet(NamedSet(name, types, values, comment)))

    def _masquerading(self) -> None:
        """Masquerade what is marked, taking the mark off, and what an endpoint sends to itself."""
        comment = "service hairpin connections"
        self._set(names.HAIRPIN_SET, HAIRPIN_KEY, comment)
        bit = 1 << self.options.masquerade_bit
        masquerade = Masquerade(random_fully=True)
        marked = (Mark(0, bit, negated=True),)
        self.out.rule(names.MASQUERADING, marked, (SetMark(bit, 0), masquerade))
        hairpin = (CtStatus(("dnat",)), Lookup(HAIRPIN_KEY, names.HAIRPIN_SET))
        self.out.rule(names.MASQUERADING, hairpin, (masquerade,))

    def _cluster_ips_check(self) -> None:
        """Refuse what still has a cluster IP as its destination, and so belongs to no port."""
        self._set(names.CLUSTER_IPS_SET, (Field.DESTINATION,), "Active ClusterIPs")
        chain = names.CLUSTER_IPS_CHECK
        self.out.rule(chain, (_TO_CLUSTER_IP,), (Reject(),), "Reject traffic to invalid ports of ClusterIPs")
        cidrs = self.options.service_cidrs_of(self.view.family)
        if cidrs:
            unallocated = OneOf((Field.DESTINATION,), tuple((cidr,) for cidr in cidrs))
            self.out.rule(chain, (unallocated,), (Drop(),), "Drop traffic to unallocated ClusterIPs")

    def _node_port_ips(self) -> None:
        self._set(names.NODE_PORT_IPS_SET, (Field.DESTINATION,), "IPs that accept NodePort traffic")
        if self.node_port_ips is None:
            self.out.add(DeleteSet(names.NODE_PORT_IPS_SET))
            return
        self.out.add(FlushSet(names.NODE_PORT_IPS_SET))
        for address in self.node_port_ips:
            self.out.element(names.NODE_PORT_IPS_SET, (address,))

    def _endpoint_checks(self) -> None:
        services, node_ports = names.NO_ENDPOINT_SERVICES_MAP, names.NO_ENDPOINT_NODE_PORTS_MAP
        purpose = "vmap to drop or reject packets to"
        self._set(services, SERVICE_KEY, f"{purpose} services with no endpoints", verdicts=True)
        comment = f"{purpose} service nodeports with no endpoints"
        self._set(node_ports, NODE_PORT_KEY, comment, verdicts=True)
        self.out.ensure_chain(names.REJECT, comment=f"helper for @{services} / @{node_ports}")
        self.out.rule(names.REJECT, (), (Reject(),))
        self.out.rule(names.SERVICE_CHECK, (), (VerdictMap(SERVICE_KEY, services),))
        self.out.rule(names.NODE_PORT_CHECK, (self.to_node_port,), (VerdictMap(NODE_PORT_KEY, node_ports),))

    def _firewall_check(self) -> None:
        comment = "destinations that are subject to LoadBalancerSourceRanges"
        self._set(names.FIREWALL_MAP, SERVICE_KEY, comment, verdicts=True)
        self.out.rule(names.FIREWALL_CHECK, (), (VerdictMap(SERVICE_KEY, names.FIREWALL_MAP),))

    def _services(self) -> None:
        comment = "ClusterIP, ExternalIP and LoadBalancer IP traffic"
        self._set(names.SERVICES_MAP, SERVICE_KEY, comment, verdicts=True)
        self._set(names.NODE_PORTS_MAP, NODE_PORT_KEY, "NodePort traffic", verdicts=True)
        self._cluster_ip_masquerade()
        self.out.rule(names.SERVICES, (), (VerdictMap(SERVICE_KEY, names.SERVICES_MAP),))
        matches: tuple[AnyMatch, ...] = (self.to_node_port,)
        if self.node_port_ips is None:
            matches = (_TO_LOCAL, *matches)
        self.out.rule(names.SERVICES, matches, (VerdictMap(NODE_PORT_KEY, names.NODE_PORTS_MAP),))

    def _cluster_ip_masquerade(self) -> None:
        """Mark traffic to cluster IPs from outside of the cluster, or all of it."""
        bit = 1 << self.options.masquerade_bit
        mark = (SetMark(bit, bit),)
        foreign = local_traffic(self.view, negated=True)
        if self.options.masquerade_all:
            self.out.rule(names.SERVICES, (_TO_CLUSTER_IP,), mark, "masquerade all clusterIP traffic")
        elif foreign is not None:
            comment = "masquerade clusterIP traffic from outside cluster"
            self.out.rule(names.SERVICES, (_TO_CLUSTER_IP, foreign), mark, comment)
