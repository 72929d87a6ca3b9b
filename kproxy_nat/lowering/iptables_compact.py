"""The layout ``compact`` for iptables: kube-proxy's behaviour with far fewer rules on a packet's way.

``docs/compact-layout.md`` draws the structure and says what each part is equal to.
"""

from __future__ import annotations

import enum

from kproxy_nat.lowering import compact_names as names
from kproxy_nat.lowering.compact_dispatch import AddressDispatch, PortDispatch, SourceDispatch
from kproxy_nat.lowering.compact_refusals import Refusals
from kproxy_nat.lowering.compact_service import CompactService, Dispatches
from kproxy_nat.lowering.iptables_common import (
    NfacctCounter,
    TransactionBuilder,
    localnet_guard,
    node_port_conditions,
)
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Accept, AnyAction, Drop, Jump, Masquerade, Return, SetMark
from kproxy_nat.ruleset.bytecode import SAME_ADDRESSES
from kproxy_nat.ruleset.matches import AnyMatch, Bpf, Comment, CtState, Destination, Mark, Nfacct, Source
from kproxy_nat.ruleset.rules import Rule, Ruleset
from kproxy_nat.ruleset.transactions import (
    Command,
    InsertRule,
    NewChain,
    TableTransaction,
    Transaction,
    evaluate,
)

_NEW = CtState(("NEW",))
_TRANSLATED = CtState(("DNAT",))
_ACCEPT: tuple[AnyAction, ...] = (Accept(),)
_MASQUERADE: tuple[AnyAction, ...] = (Masquerade(random_fully=True),)

_JUMPS = (
    ("filter", "INPUT", names.INPUT),
    ("filter", "FORWARD", names.FORWARD),
    ("filter", "OUTPUT", names.OUTPUT),
    ("nat", "PREROUTING", names.SERVICES),
    ("nat", "OUTPUT", names.SERVICES),
    ("nat", "POSTROUTING", names.POSTROUTING),
)


class Hairpin(enum.StrEnum):
    """How a packet that comes back to its own sender is told.

    BPF compares the two addresses (xt_bpf); ADDRESSES has a rule for each endpoint's address, for kernels
    without that match.
    """

    BPF = "bpf"
    ADDRESSES = "addresses"


def lower_to_transaction(view: NodeView, hairpin: Hairpin = Hairpin.BPF) -> Transaction:
    """Return the transaction for ``iptables-restore --noflush``, upon the jumps."""
    return _Compact(view, hairpin).transaction()


def jumps_transaction(family: IpFamily) -> Transaction:
    """Return the jumps from the built-in chains."""
    commands: dict[str, list[Command]] = {"filter": [], "nat": []}
    created: set[str] = set()
    for table, source, target in _JUMPS:
        if target not in created:
            commands[table].append(NewChain(target))
            created.add(target)
        comment = Comment("kubernetes services, compact")
        commands[table].append(InsertRule(source, Rule((comment,), (Jump(target),))))
    return Transaction(family, [TableTransaction(table, made) for table, made in commands.items()])


def lower_to_ruleset(view: NodeView, hairpin: Hairpin = Hairpin.BPF) -> Ruleset:
    """Return all rules of a node that had none before, jumps included."""
    return evaluate(lower_to_transaction(view, hairpin), evaluate(jumps_transaction(view.family)))


class _Compact:
    """One family's rules under construction."""

    def __init__(self, view: NodeView, hairpin: Hairpin) -> None:
        self.view = view
        self.family = view.family
        self.bit = 1 << view.options.masquerade_bit
        self.out = TransactionBuilder()
        self.trees = Dispatches(
            AddressDispatch(names.SERVICES, view.family),
            PortDispatch(names.NODE_PORTS),
            AddressDispatch(names.FIREWALL, view.family),
            PortDispatch(names.HEALTH_CHECKS),
            Refusals(view.family),
        )
        self.hairpin = hairpin

    def transaction(self) -> Transaction:
        """Return all rules but the jumps."""
        for service in self.view.services:
            CompactService(service, self.view, self.trees, self._nat).lower()
        self._services()
        self._postrouting()
        self._filter_trees()
        self._filter(names.INPUT, self._input())
        self._filter(names.FORWARD, self._forward())
        self._filter(names.OUTPUT, self._output())
        return self.out.build(self.family)

    def _nat(self, chain: str, rules: list[Rule]) -> None:
        self.out.declare_nat(chain)
        for rule in rules:
            self.out.nat_rule(chain, rule)

    def _filter(self, chain: str, rules: list[Rule]) -> None:
        self.out.declare_filter(chain)
        for rule in rules:
            self.out.filter_rule(chain, rule)

    def _services(self) -> None:
        """All addresses of Services, then the node ports on the node's own addresses."""
        rules = self.trees.addresses.root_rules(self._nat)
        if self.trees.node_ports:
            lead = (Jump(names.NODE_PORTS),)
            rules += [Rule(matches, lead) for matches in node_port_conditions(self.view)]
            self.trees.node_ports.write(self._nat)
        self._nat(names.SERVICES, rules)

    def _postrouting(self) -> None:
        """Masquerade hairpin traffic, and what is marked; that without its mark, lest it happen again."""
        bit = self.bit
        rules = [
            self._hairpin((_TRANSLATED, Mark(bit, bit, negated=True)), _MASQUERADE),
            Rule((Mark(bit, bit, negated=True),), (Return(),)),
            Rule((), (SetMark(bit, 0),)),
            Rule((), _MASQUERADE),
        ]
        self._nat(names.POSTROUTING, rules)
        if self.hairpin is Hairpin.ADDRESSES:
            self._endpoint_addresses(_MASQUERADE).write(self._nat)

    def _hairpin(self, matches: tuple[AnyMatch, ...], action: tuple[AnyAction, ...]) -> Rule:
        if self.hairpin is Hairpin.BPF:
            return Rule((*matches, Bpf(SAME_ADDRESSES[self.family])), action)
        return Rule(matches, (Jump(names.HAIRPIN),))

    def _endpoint_addresses(self, action: tuple[AnyAction, ...]) -> SourceDispatch:
        tree = SourceDispatch(names.HAIRPIN, self.family)
        found = (endpoint.address for s in self.view.services for endpoint in s.endpoints.reachable)
        for address in dict.fromkeys(found):
            tree.add(address, Rule((Source(address), Destination(address)), action))
        return tree

    def _filter_trees(self) -> None:
        trees = self.trees
        if trees.refusals.node_ports:
            trees.refusals.node_ports.write(self._filter)
        for addresses in (trees.firewall, trees.refusals.cluster_ips):
            if addresses:
                addresses.write(self._filter)
        if self._refuses_external:
            rules = trees.refusals.external.root_rules(self._filter)
            if trees.refusals.node_ports:
                rules.append(Rule((), (Jump(names.NODE_PORT_REFUSALS),)))
            self._filter(names.EXTERNAL_REFUSALS, rules)
        if trees.health_checks:
            trees.health_checks.write(self._filter)
        if self.hairpin is Hairpin.ADDRESSES:
            self._endpoint_addresses(_ACCEPT).write(self._filter)

    @property
    def _refuses_external(self) -> bool:
        return bool(self.trees.refusals.external or self.trees.refusals.node_ports)

    def _new_to(self, chain: str, wanted: object) -> list[Rule]:
        return [Rule((_NEW,), (Jump(chain),))] if wanted else []

    def _input(self) -> list[Rule]:
        rules = localnet_guard(self.view)
        rules += self._new_to(names.FIREWALL, self.trees.firewall)
        if self.trees.health_checks:
            rules.append(Rule((), (Jump(names.HEALTH_CHECKS),)))
        return rules + self._new_to(names.EXTERNAL_REFUSALS, self._refuses_external)

    def _output(self) -> list[Rule]:
        return [
            *localnet_guard(self.view),
            *self._new_to(names.FIREWALL, self.trees.firewall),
            *self._new_to(names.CLUSTER_REFUSALS, self.trees.refusals.cluster_ips),
        ]

    def _forward(self) -> list[Rule]:
        """Known connections first, since nearly all packets belong to one; then the same as kube-proxy."""
        bit = self.bit
        rules = [Rule((CtState(("RELATED", "ESTABLISHED")),), _ACCEPT)]
        if not self.view.options.tcp_be_liberal:
            invalid: tuple[AnyMatch, ...] = (CtState(("INVALID",)),)
            if self.view.options.nfacct:
                invalid += (Nfacct(NfacctCounter.INVALID_DROPPED),)
            rules.append(Rule(invalid, (Drop(),)))
        rules += self._new_to(names.FIREWALL, self.trees.firewall)
        rules.append(Rule((Mark(bit, bit),), _ACCEPT))
        rules.append(self._hairpin((_TRANSLATED,), _ACCEPT))
        rules += self._new_to(names.CLUSTER_REFUSALS, self.trees.refusals.cluster_ips)
        return rules + self._new_to(names.EXTERNAL_REFUSALS, self._refuses_external)
