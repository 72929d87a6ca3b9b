"""What the iptables layouts share: the transaction under construction."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.transactions import AppendRule, DeclareChain, TableTransaction, Transaction


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
