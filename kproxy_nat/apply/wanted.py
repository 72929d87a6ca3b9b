"""What a namespace should hold for one node's view of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from kproxy_nat.apply.backends import Backend, backend_of
from kproxy_nat.apply.generations import InputDigest
from kproxy_nat.apply.plan import Wanted
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.iptables_dump_render import dump_transaction
from kproxy_nat.formats.nft_dump import dump_tables
from kproxy_nat.formats.ruleset_json import JsonAssumption
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import NodeOptions, ProxyMode
from kproxy_nat.proxy.udp_flows import udp_services
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.transactions import Transaction

Foresee = Callable[[Backend, Transaction], None]

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
FORWARDING = {IpFamily.IPV4: "net.ipv4.ip_forward", IpFamily.IPV6: "net.ipv6.conf.all.forwarding"}


def wanted_for(
    cluster: Cluster,
    options: NodeOptions,
    views: Sequence[NodeView],
    layout: Layout,
    backends: Collection[Backend],
    *,
    forwarding: bool,
    inputs: Iterable[InputDigest],
    given: dict[str, str],
    assumptions: Sequence[JsonAssumption] = (),
    foresee: Foresee | None = None,
) -> Wanted:
    """Return what ``views`` ask of a namespace.

    Args:
        cluster: what the views are of; connection tracking is compared with it.
        options: the views' options.
        views: of the families that are to be applied.
        layout: how their rules are arranged.
        backends: those that can be written. In those of the other mode nothing of ours stays.
        forwarding: whether packets are to be forwarded, too.
        inputs: what the cluster was read from, for the record.
        given: options of the command line, for the record.
        assumptions: what the inputs left open, for the plan.
        foresee: is told what will declare chains, before rules are put into words.
    """
    return Wanted(
        rules=_rules(views, layout, backends, foresee or (lambda _backend, _transaction: None)),
        sysctls=_sysctls(views, forwarding=forwarding),
        udp_services={view.family: udp_services(cluster, options, view.family) for view in views},
        services={view.family: len(view.services) for view in views},
        inputs=list(inputs),
        options=given,
        assumptions=list(assumptions),
    )


def _rules(
    views: Sequence[NodeView], layout: Layout, backends: Collection[Backend], foresee: Foresee
) -> dict[Backend, Dump]:
    """Return the rules of all backends; those that stay empty are last, so that new rules stand before."""
    own = {backend_of(view.options.mode, view.family): view for view in views}
    rules = {backend: rules_for(view, layout, partial(foresee, backend)) for backend, view in own.items()}
    empty = {backend: Dump(backend.family) for backend in backends_for(views, backends)}
    return rules | {backend: dump for backend, dump in empty.items() if backend not in rules}


def backends_for(views: Sequence[NodeView], backends: Collection[Backend]) -> list[Backend]:
    """Return the backends that are looked after: those of the views, and of ``backends`` their other ones."""
    own = [backend_of(view.options.mode, view.family) for view in views]
    others = (backend_of(mode, view.family) for view in views for mode in ProxyMode)
    return [*own, *(backend for backend in others if backend in backends and backend not in own)]


def rules_for(
    view: NodeView, layout: Layout, foresee: Callable[[Transaction], None] = lambda _: None
) -> Dump:
    """Return the rules of a view, as they are read back after loading."""
    if view.options.mode is ProxyMode.NFTABLES:
        return dump_tables(layout.nft_ruleset(view).tables.values(), view.family)
    transaction = layout.transaction(view)
    foresee(transaction)
    return dump_transaction(transaction, layout.jumps(view.family))


def _sysctls(views: Sequence[NodeView], *, forwarding: bool) -> dict[str, str]:
    """Return the settings that the rules need.

    Without route_localnet the kernel drops packets from a loopback address that were sent on to another host
    (ip-sysctl in the kernel's documentation); kube-proxy sets it always, we only where there are NodePorts.
    """
    wanted = {FORWARDING[view.family]: "1" for view in views if forwarding}
    if any(_serves_localhost(view) for view in views):
        wanted[ROUTE_LOCALNET] = "1"
    return wanted


def _serves_localhost(view: NodeView) -> bool:
    return view.options.serves_localhost(view.family) and any(s.port.node_port for s in view.services)
