"""The layouts, by name, behind one interface."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass

from kproxy_nat.lowering import (
    iptables_compact,
    iptables_kube_proxy,
    nftables_compact,
    nftables_kube_proxy,
)
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.nft_transactions import NftTableTransaction
from kproxy_nat.ruleset.rules import Ruleset
from kproxy_nat.ruleset.transactions import Transaction, evaluate


class LayoutName(enum.StrEnum):
    """How rules are arranged."""

    KUBE_PROXY = "kube-proxy"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout with its choices; ``hairpin`` is one of the compact layout for iptables."""

    name: LayoutName = LayoutName.KUBE_PROXY
    hairpin: Hairpin = Hairpin.BPF

    def nft_transaction(self, view: NodeView) -> NftTableTransaction:
        """Return the transaction for ``nft -f``, of the view's family."""
        if self.name is LayoutName.COMPACT:
            return nftables_compact.lower_to_nft_transaction(view)
        return nftables_kube_proxy.lower_to_nft_transaction(view)

    def nft_ruleset(self, view: NodeView) -> Ruleset:
        """Return the nftables rules of a node that had none before."""
        if self.name is LayoutName.COMPACT:
            return nftables_compact.lower_to_nft_ruleset(view)
        return nftables_kube_proxy.lower_to_nft_ruleset(view)

    def shared_by(self, service: ServiceView, view: NodeView) -> Hashable:
        """Return what is alike for service ports that share chains or maps of nftables."""
        return nftables_compact.shared_by(service, view) if self.name is LayoutName.COMPACT else None

    def transaction(self, view: NodeView) -> Transaction:
        """Return the transaction for ``iptables-restore --noflush``, without the jumps."""
        if self.name is LayoutName.COMPACT:
            return iptables_compact.lower_to_transaction(view, self.hairpin)
        return iptables_kube_proxy.lower_to_transaction(view)

    def jumps(self, family: IpFamily) -> Ruleset:
        """Return what the transaction goes upon: the jumps from the built-in chains."""
        if self.name is LayoutName.COMPACT:
            return evaluate(iptables_compact.jumps_transaction(family))
        return evaluate(iptables_kube_proxy.jumps_transaction(family))

    def ruleset(self, view: NodeView) -> Ruleset:
        """Return all rules of a node that had none before, jumps included."""
        if self.name is LayoutName.COMPACT:
            return iptables_compact.lower_to_ruleset(view, self.hairpin)
        return iptables_kube_proxy.lower_to_ruleset(view)
