"""kube-proxy's nftables rules and elements for one service port.

The order is kube-proxy's order of emission; the numbers in the comments are the steps by which
``docs/nftables-layout.md`` describes it.
"""

from __future__ import annotations

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.local_traffic import local_traffic
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.lowering.nftables_frontends import NftFrontends
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import (
    DestinationEntry,
    Dnat,
    DnatMap,
    Drop,
    Goto,
    SetMark,
    UpdateSet,
    VerdictEntry,
    VerdictMap,
)
from kproxy_nat.ruleset.keys import Field, KeyValue, Numgen
from kproxy_nat.ruleset.matches import AddrType, Lookup, OneOf, Protocol
from kproxy_nat.ruleset.nft_transactions import AddSet
from kproxy_nat.ruleset.nft_values import key_types
from kproxy_nat.ruleset.sets import NamedSet

_FROM_LOCAL = AddrType("src", ("LOCAL",))
_SOURCE = (Field.SOURCE,)
_DROP = Drop()


class NftServiceLowering(NftFrontends):
    """The chains, elements and sets of one service port, written into a transaction."""

    def __init__(self, service: ServiceView, view: NodeView, out: NftTransactionBuilder) -> None:
        super().__init__(service, view, out)
        base = names.service_base(self.port)
        self.cluster_chain = names.CLUSTER_PREFIX + base
        self.local_chain = names.LOCAL_PREFIX + base
        self.external_chain = names.EXTERNAL_PREFIX + base
        self.firewall_chain = names.FIREWALL_PREFIX + base
        self.internal_policy_chain = self.local_chain if self.port.internal_local else self.cluster_chain
        self.external_policy_chain = self.local_chain if self.port.external_local else self.cluster_chain
        self.protocol = Protocol(self.port.protocol)
        self.endpoint_bases: dict[str, str] = {}
        if self.port.affinity_seconds:
            self.endpoint_bases = {
                e.text: names.endpoint_base(self.port, e) for e in service.endpoints.reachable
            }

    def lower(self) -> None:
        """Write everything of the service port."""
        self._endpoints()
        self._policy_chains()
        self._frontends()
        self._external_chain_rules()
        self._firewall_chain_rules()
        if self.port.affinity_seconds:
            self._affinity()
        else:
            self._balance_all()

    def _endpoints(self) -> None:
        """(1) Endpoints: chains for those that clients stick to, and who may talk to itself."""
        for endpoint in self.service.endpoints.reachable:
            if self.endpoint_bases:
                self.out.ensure_chain(self._endpoint_chain(endpoint))
            self._hairpin(endpoint)

    def _policy_chains(self) -> None:
        """(2) Chains for the choice among all endpoints or local ones, and for what comes from outside."""
        if self.service.balances_cluster:
            self.out.ensure_chain(self.cluster_chain)
        if self.service.balances_local:
            self.out.ensure_chain(self.local_chain)
        if self.service.is_reached_from_outside:
            self.out.ensure_chain(self.external_chain)

    def _dispatch_internal(self, key: KeyValue) -> None:
        self.out.element(names.SERVICES_MAP, key, Goto(self.internal_policy_chain))

    def _dispatch_external(self, key: KeyValue) -> None:
        self.out.element(names.SERVICES_MAP, key, Goto(self.external_chain))

    def _dispatch_node_port(self, key: KeyValue) -> None:
        self.out.element(names.NODE_PORTS_MAP, key, Goto(self.external_chain))

    def _ensure_firewall_chain(self) -> str:
        self.out.ensure_chain(self.firewall_chain)
        return self.firewall_chain

    def _external_chain_rules(self) -> None:
        """(7) What external traffic meets: masquerade, or the short-circuits of the policy Local."""
        if not self.service.is_reached_from_outside:
            return
        bit = 1 << self.view.options.masquerade_bit
        chain, mark, short_cut = self.external_chain, (SetMark(bit, bit),), (Goto(self.cluster_chain),)
        if not self.port.external_local:
            self._rule(chain, (), mark, "masquerade")
        else:
            pods = local_traffic(self.view, negated=False)
            if pods is not None:
                self._rule(chain, (pods,), short_cut, "short-circuit pod traffic")
            self._rule(chain, (_FROM_LOCAL,), mark, "masquerade local traffic")
            self._rule(chain, (_FROM_LOCAL,), short_cut, "short-circuit local traffic")
        if self.service.has_external_endpoints:
            self._rule(chain, (), (Goto(self.external_policy_chain),))

    def _firewall_chain_rules(self) -> None:
        """(8) Drop what comes from a source that is not admitted."""
        if self.service.has_source_ranges:
            sources = tuple((source,) for source in self.view.admitted_sources(self.port))
            self._rule(self.firewall_chain, (OneOf(_SOURCE, sources, negated=True),), (_DROP,))

    def _balanced_chains(self) -> list[tuple[str, list[Endpoint]]]:
        chains = []
        if self.service.balances_cluster:
            chains.append((self.cluster_chain, self.service.endpoints.cluster))
        if self.service.balances_local:
            chains.append((self.local_chain, self.service.endpoints.local))
        return chains

    def _balance_all(self) -> None:
        """(9) Without affinity: one rule for each policy, which draws and translates."""
        for chain, endpoints in self._balanced_chains():
            entries = tuple(DestinationEntry((n,), e.address, e.port) for n, e in enumerate(endpoints))
            self._rule(chain, (self.protocol,), (DnatMap((Numgen(len(entries)),), entries),))

    def _affinity(self) -> None:
        """(10) Sets of the clients of each endpoint; look-ups in them; then a draw."""
        types = key_types(_SOURCE, self.view.family)
        timeout = self.port.affinity_seconds
        reachable = self.service.endpoints.reachable
        for endpoint in reachable:
            name = self._affinity_set(endpoint)
            self.out.add(AddSet(NamedSet(name, types, flags=("dynamic", "timeout"), timeout=timeout)))
        for chain, endpoints in self._balanced_chains():
            self._affinity_balance(chain, endpoints)
        for endpoint in reachable:
            chain = self._endpoint_chain(endpoint)
            self._rule(chain, (), (UpdateSet(self._affinity_set(endpoint), _SOURCE),))
            self._rule(chain, (self.protocol,), (Dnat(endpoint.address, endpoint.port),))

    def _affinity_balance(self, chain: str, endpoints: list[Endpoint]) -> None:
        targets = [Goto(self._endpoint_chain(endpoint)) for endpoint in endpoints]
        for endpoint, target in zip(endpoints, targets, strict=True):
            self._rule(chain, (Lookup(_SOURCE, self._affinity_set(endpoint)),), (target,))
        entries = tuple(VerdictEntry((n,), target) for n, target in enumerate(targets))
        self._rule(chain, (), (VerdictMap((Numgen(len(entries)),), entries),))

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        return names.ENDPOINT_PREFIX + self.endpoint_bases[endpoint.text]

    def _affinity_set(self, endpoint: Endpoint) -> str:
        return names.AFFINITY_PREFIX + self.endpoint_bases[endpoint.text]
