"""What the iptables layouts share: the transaction under construction, and how local traffic is told."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from kproxy_nat.net.addresses import Cidr, IpFamily
from kproxy_nat.proxy.options import LocalCidr, LocalInterface
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Drop
from kproxy_nat.ruleset.matches import (
    AddrType,
    AnyMatch,
    Comment,
    CtState,
    Destination,
    InInterface,
    Source,
)
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.transactions import AppendRule, DeclareChain, TableTransaction, Transaction

LOOPBACK_NETWORK = Cidr("127.0.0.0/8")
FROM_LOCAL = AddrType("src", ("LOCAL",))
TO_LOCAL = AddrType("dst", ("LOCAL",))

_LOOPBACK6 = Cidr("::1/128")


class NfacctCounter(enum.StrEnum):
    """kube-proxy's accounting objects; they must be there before rules that refer to them are loaded."""

    INVALID_DROPPED = "ct_state_invalid_dropped_pkts"
    LOCALHOST_NODE_PORTS = "localhost_nps_accepted_pkts"


class TransactionBuilder:
    """A transaction for the filter and nat tables, in which all chains are declared before any rule."""

    def __init__(self) -> None:
        self._filter_chains: list[DeclareChain] = []
        self._filter_rules: list[AppendRule] = []
        self._nat_chains: list[DeclareChain] = []
        self._nat_rules: list[AppendRule] = []

    def declare_filter(self, chain: str) -> None:
        """Declare a chain of the filter table."""
        self._filter_chains.append(DeclareChain(chain))

    def declare_nat(self, chain: str) -> None:
        """Declare a chain of the nat table."""
        self._nat_chains.append(DeclareChain(chain))

    def filter_rule(self, chain: str, rule: Rule) -> None:
        """Append a rule to a chain of the filter table."""
        self._filter_rules.append(AppendRule(chain, rule))

    def nat_rule(self, chain: str, rule: Rule) -> None:
        """Append a rule to a chain of the nat table."""
        self._nat_rules.append(AppendRule(chain, rule))

    def nat_commands(self, chains: Iterable[DeclareChain], rules: Iterable[AppendRule]) -> None:
        """Declare chains of the nat table, and append rules to them."""
        self._nat_chains += chains
        self._nat_rules += rules

    def build(self, family: IpFamily) -> Transaction:
        """Return the transaction."""
        filter_part = TableTransaction("filter", [*self._filter_chains, *self._filter_rules])
        nat_part = TableTransaction("nat", [*self._nat_chains, *self._nat_rules])
        return Transaction(family, [filter_part, nat_part])


def local_traffic(view: NodeView, *, negated: bool) -> Source | InInterface | None:
    """Return the match for traffic of the cluster's pods, or for other; ``None`` without a detector."""
    detector = view.options.detectors.get(view.family)
    if detector is None:
        return None
    if isinstance(detector, LocalCidr):
        return Source(detector.cidr, negated)
    if isinstance(detector, LocalInterface):
        return InInterface(detector.name, negated)
    return InInterface(f"{detector.prefix}+", negated)


def node_port_conditions(view: NodeView) -> list[tuple[AnyMatch, ...]]:
    """Return what tells traffic to the addresses that serve node ports: any one of these."""
    destinations = view.options.node_port_destinations(view.family)
    if destinations is not None:
        return [(Destination(address),) for address in destinations]
    if view.family is IpFamily.IPV6:
        return [(TO_LOCAL, Destination(_LOOPBACK6, negated=True))]
    if not view.options.localhost_node_ports:
        return [(TO_LOCAL, Destination(LOOPBACK_NETWORK, negated=True))]
    return [(TO_LOCAL,)]


def localnet_guard(view: NodeView) -> list[Rule]:
    """Guard the loopback network, which the sysctl for NodePorts on localhost opens to the neighbours."""
    if not view.options.serves_localhost(view.family):
        return []
    matches: tuple[AnyMatch, ...] = (
        Comment("block incoming localnet connections"),
        Destination(LOOPBACK_NETWORK),
        Source(LOOPBACK_NETWORK, negated=True),
        CtState(("RELATED", "ESTABLISHED", "DNAT"), negated=True),
    )
    return [Rule(matches, (Drop(),))]
