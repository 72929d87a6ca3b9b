"""What the iptables layouts share: the transaction under construction."""

from __future__ import annotations

import enum

from kproxy_nat.net.addresses import Cidr, IpFamily
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Drop
from kproxy_nat.ruleset.matches import AddrType, AnyMatch, Comment, CtState, Destination, Source
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.transactions import (
    AppendAlike,
    AppendRules,
    Command,
    DeclareChains,
    TableTransaction,
    Transaction,
)

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
        self._filter_chains: list[str] = []
        self._filter_rules: list[Command] = []
        self._nat_chains: list[str] = []
        self._nat_rules: list[Command] = []

    def declare_filter(self, chain: str) -> None:
        """Declare a chain of the filter table."""
        self._filter_chains.append(chain)

    def declare_nat(self, *chains: str) -> None:
        """Declare chains of the nat table."""
        self._nat_chains += chains

    def filter_rule(self, chain: str, rule: Rule) -> None:
        """Append a rule to a chain of the filter table."""
        self._filter_rules.append(AppendRules(chain, (rule,)))

    def nat_rule(self, chain: str, rule: Rule) -> None:
        """Append a rule to a chain of the nat table."""
        self._nat_rules.append(AppendRules(chain, (rule,)))

    def nat_rules(self, command: AppendAlike) -> None:
        """Append rules to chains of the nat table that have them alike."""
        self._nat_rules.append(command)

    def build(self, family: IpFamily) -> Transaction:
        """Return the transaction."""
        filter_part = TableTransaction("filter", [DeclareChains(self._filter_chains), *self._filter_rules])
        nat_part = TableTransaction("nat", [DeclareChains(self._nat_chains), *self._nat_rules])
        return Transaction(family, [filter_part, nat_part])


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
