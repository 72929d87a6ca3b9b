"""The layout ``kube-proxy`` for nftables: what kube-proxy 1.36 writes, rule for rule."""

from __future__ import annotations

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.lowering.nftables_service import NftServiceLowering
from kproxy_nat.lowering.nftables_static import StaticPart
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.nft_transactions import NftTableTransaction, evaluate_nft
from kproxy_nat.ruleset.rules import Ruleset


def lower_to_nft_transaction(view: NodeView) -> NftTableTransaction:
    """Return the transaction that kube-proxy's first full sync hands to ``nft -f -``."""
    out = NftTransactionBuilder()
    StaticPart(view, out).lower()
    for service in view.services:
        NftServiceLowering(service, view, out).lower()
    return out.build(view.family, names.TABLE)


def lower_to_nft_ruleset(view: NodeView) -> Ruleset:
    """Return the table of a node that had none before, as a rule set."""
    (table,) = evaluate_nft([lower_to_nft_transaction(view)])
    return Ruleset(view.family, {table.name: table})
