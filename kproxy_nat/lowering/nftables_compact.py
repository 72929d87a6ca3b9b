"""The layout ``compact`` for nftables: kube-proxy's behaviour, with maps that Services share.

``docs/nftables-compact-layout.md`` draws the structure and says what each part is equal to.
"""

from __future__ import annotations

from collections.abc import Hashable

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.lowering.nftables_compact_own import OwnChains
from kproxy_nat.lowering.nftables_compact_pools import Pools
from kproxy_nat.lowering.nftables_compact_shared import SharedChains
from kproxy_nat.lowering.nftables_static import StaticPart
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.nft_transactions import AddTable, DeleteTable, NftTableTransaction, evaluate_nft
from kproxy_nat.ruleset.rules import Ruleset

SHARED_ELEMENTS = 24
"""Up to so many elements of shared maps a service port has no chains and maps of its own.

An element of a shared map costs 12 µs to load; a chain with a map costs 100 to 500 µs (the more of them there
are, the more each) and its elements 5.5 µs (nft 1.0.6, Linux 6.18; ``benchmarks/README.md``).
"""


def lower_to_nft_transaction(view: NodeView) -> NftTableTransaction:
    """Return a transaction that makes the table, in the place of one that is there, for ``nft -f``."""
    out = NftTransactionBuilder()
    out.add(AddTable())
    out.add(DeleteTable())
    StaticPart(view, out).lower()
    services = NftTransactionBuilder()
    pools = Pools(view)
    for service in view.services:
        if is_shared(service):
            SharedChains(service, view, services, pools).lower()
        else:
            OwnChains(service, view, services).lower()
    pools.write(out)
    out.extend(services)
    return out.build(view.family, names.TABLE)


def lower_to_nft_ruleset(view: NodeView) -> Ruleset:
    """Return the table of a node that had none before, as a rule set."""
    (table,) = evaluate_nft([lower_to_nft_transaction(view)])
    return Ruleset(view.family, {table.name: table})


def shared_by(service: ServiceView, view: NodeView) -> Hashable:
    """Return what decides which chains and maps a service port shares: that is alike for all that do."""
    port, chosen = service.port, service.endpoints
    sources = tuple(sorted(view.admitted_sources(port))) if service.has_source_ranges else ()
    if not is_shared(service):
        return sources, bool(chosen.reachable)
    external = (bool(port.external_ips or port.load_balancer_vips), bool(port.node_port))
    policies = (port.internal_local, port.external_local)
    return sources, port.protocol, external, policies, len(chosen.cluster), len(chosen.local)


def is_shared(service: ServiceView) -> bool:
    """Whether a service port's endpoints stand in shared maps, once for each of its frontends.

    Whose these are is told by comments of elements, so the name has to fit in there.
    """
    port, chosen = service.port, service.endpoints
    if port.affinity_seconds or len(port.text) > names.MAX_ELEMENT_COMMENT:
        return False
    internal = len(chosen.local if port.internal_local else chosen.cluster)
    external = len(chosen.cluster) + (len(chosen.local) if port.external_local else 0)
    addresses = len(port.external_ips) + len(port.load_balancer_vips)
    return internal + external * (addresses + bool(port.node_port)) <= SHARED_ELEMENTS
