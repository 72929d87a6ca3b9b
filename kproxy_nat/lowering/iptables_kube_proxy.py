"""The layout ``kube-proxy`` for iptables: what kube-proxy 1.36 writes, rule for rule."""

from __future__ import annotations

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering.iptables_common import (
    NfacctCounter,
    TransactionBuilder,
    localnet_guard,
    node_port_conditions,
)
from kproxy_nat.lowering.iptables_service import ServiceLowering
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Accept, AnyAction, Drop, Jump, Masquerade, Return, SetMark
from kproxy_nat.ruleset.matches import AnyMatch, Comment, CtState, Mark, Nfacct
from kproxy_nat.ruleset.rules import Rule, Ruleset
from kproxy_nat.ruleset.transactions import (
    Command,
    InsertRule,
    NewChain,
    TableTransaction,
    Transaction,
    evaluate,
)

FILTER_CHAINS = (
    names.SERVICES,
    names.EXTERNAL_SERVICES,
    names.FORWARD,
    names.NODE_PORTS,
    names.PROXY_FIREWALL,
)
NAT_CHAINS = (names.SERVICES, names.NODE_PORTS, names.POSTROUTING, names.MARK_MASQ)

_NEW = CtState(("NEW",))
_NODE_PORTS_COMMENT = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
_EXTERNAL_COMMENT = "kubernetes externally-visible service portals"
_PORTALS_COMMENT = "kubernetes service portals"
_FIREWALL_COMMENT = "kubernetes load balancer firewall"

_JUMPS: tuple[tuple[str, str, bool, str, str], ...] = (
    # table, from, only new connections?, comment, to. Each is put before those above it.
    ("filter", "INPUT", True, _EXTERNAL_COMMENT, names.EXTERNAL_SERVICES),
    ("filter", "FORWARD", True, _EXTERNAL_COMMENT, names.EXTERNAL_SERVICES),
    ("filter", "INPUT", False, "kubernetes health check service ports", names.NODE_PORTS),
    ("filter", "FORWARD", True, _PORTALS_COMMENT, names.SERVICES),
    ("filter", "OUTPUT", True, _PORTALS_COMMENT, names.SERVICES),
    ("filter", "FORWARD", False, "kubernetes forwarding rules", names.FORWARD),
    ("filter", "INPUT", True, _FIREWALL_COMMENT, names.PROXY_FIREWALL),
    ("filter", "OUTPUT", True, _FIREWALL_COMMENT, names.PROXY_FIREWALL),
    ("filter", "FORWARD", True, _FIREWALL_COMMENT, names.PROXY_FIREWALL),
    ("nat", "OUTPUT", False, _PORTALS_COMMENT, names.SERVICES),
    ("nat", "PREROUTING", False, _PORTALS_COMMENT, names.SERVICES),
    ("nat", "POSTROUTING", False, "kubernetes postrouting rules", names.POSTROUTING),
    ("filter", "INPUT", False, "", names.KUBELET_FIREWALL),
    ("filter", "OUTPUT", False, "", names.KUBELET_FIREWALL),
)


def lower_to_transaction(view: NodeView) -> Transaction:
    """Return the transaction that kube-proxy's first full sync hands to ``iptables-restore --noflush``."""
    out = TransactionBuilder()
    _declare_chains(view, out)
    _localnet_firewall(view, out)
    _masquerade(view, out)
    for service in view.services:
        ServiceLowering(service, view, out).lower()
    _forward(view, out)
    _node_port_dispatch(view, out)
    return out.build(view.family)


def jumps_transaction(family: IpFamily) -> Transaction:
    """Return the jumps from the built-in chains, which kube-proxy makes one by one before its transaction."""
    commands: dict[str, list[Command]] = {"filter": [], "nat": []}
    created: set[tuple[str, str]] = set()
    for table, source, only_new, comment, target in _JUMPS:
        if (table, target) not in created:
            commands[table].append(NewChain(target))
            created.add((table, target))
        matches: tuple[AnyMatch, ...] = (_NEW,) if only_new else ()
        matches += (Comment(comment),) if comment else ()
        commands[table].append(InsertRule(source, Rule(matches, (Jump(target),))))
    return Transaction(family, [TableTransaction(table, made) for table, made in commands.items()])


def lower_to_ruleset(view: NodeView) -> Ruleset:
    """Return all rules of a node that had none before, jumps included."""
    return evaluate(lower_to_transaction(view), evaluate(jumps_transaction(view.family)))


def _declare_chains(view: NodeView, out: TransactionBuilder) -> None:
    for chain in FILTER_CHAINS:
        out.declare_filter(chain)
    for chain in NAT_CHAINS:
        out.declare_nat(chain)


def _localnet_firewall(view: NodeView, out: TransactionBuilder) -> None:
    guard = localnet_guard(view)
    if guard:
        out.declare_filter(names.KUBELET_FIREWALL)
    for rule in guard:
        out.filter_rule(names.KUBELET_FIREWALL, rule)


def _masquerade(view: NodeView, out: TransactionBuilder) -> None:
    """Masquerade what is marked, and take the mark off, lest it be masqueraded again."""
    bit = 1 << view.options.masquerade_bit
    comment = Comment("kubernetes service traffic requiring SNAT")
    out.nat_rule(names.POSTROUTING, Rule((Mark(bit, bit, negated=True),), (Return(),)))
    out.nat_rule(names.POSTROUTING, Rule((), (SetMark(bit, 0),)))
    out.nat_rule(names.POSTROUTING, Rule((comment,), (Masquerade(random_fully=True),)))
    out.nat_rule(names.MARK_MASQ, Rule((), (SetMark(bit, bit),)))


def _forward(view: NodeView, out: TransactionBuilder) -> None:
    """Let Service traffic be forwarded whatever the host's policy; drop what conntrack cannot place."""
    bit = 1 << view.options.masquerade_bit
    if not view.options.tcp_be_liberal:
        invalid: tuple[AnyMatch, ...] = (CtState(("INVALID",)),)
        if view.options.nfacct:
            invalid += (Nfacct(NfacctCounter.INVALID_DROPPED),)
        out.filter_rule(names.FORWARD, Rule(invalid, (Drop(),)))
    accept: tuple[AnyAction, ...] = (Accept(),)
    marked = (Comment("kubernetes forwarding rules"), Mark(bit, bit))
    known = (Comment("kubernetes forwarding conntrack rule"), CtState(("RELATED", "ESTABLISHED")))
    out.filter_rule(names.FORWARD, Rule(marked, accept))
    out.filter_rule(names.FORWARD, Rule(known, accept))


def _node_port_dispatch(view: NodeView, out: TransactionBuilder) -> None:
    """Send traffic to the node's own addresses to the node ports, after all other Services."""
    comment = Comment(_NODE_PORTS_COMMENT)
    for matches in node_port_conditions(view):
        out.nat_rule(names.SERVICES, Rule((comment, *matches), (Jump(names.NODE_PORTS),)))
