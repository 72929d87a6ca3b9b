"""The compact layout for a service port whose endpoints stand in maps that it shares with others."""

from __future__ import annotations

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.lowering.nftables_compact_common import ensure_firewall_chain
from kproxy_nat.lowering.nftables_compact_pools import External, Pool, Pools
from kproxy_nat.lowering.nftables_frontends import NftFrontends
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import Goto
from kproxy_nat.ruleset.keys import KeyValue


class SharedChains(NftFrontends):
    """The elements of one service port; it has no chain of its own."""

    def __init__(
        self, service: ServiceView, view: NodeView, out: NftTransactionBuilder, pools: Pools
    ) -> None:
        super().__init__(service, view, out)
        self.pools = pools

    def lower(self) -> None:
        """Write everything of the service port."""
        for endpoint in self.service.endpoints.reachable:
            self._hairpin(endpoint)
        self._frontends()

    def _dispatch_internal(self, key: KeyValue) -> None:
        pool = self._pool(is_node_port=False, is_local=self.port.internal_local)
        if self._lead(names.SERVICES_MAP, key, pool.chain):
            self._fill(pool, key)

    def _dispatch_external(self, key: KeyValue) -> None:
        self._dispatch(names.SERVICES_MAP, key, is_node_port=False)

    def _dispatch_node_port(self, key: KeyValue) -> None:
        self._dispatch(names.NODE_PORTS_MAP, key, is_node_port=True)

    def _dispatch(self, name: str, key: KeyValue, *, is_node_port: bool) -> None:
        """Send on traffic from outside; a key that another Service has already stays with it."""
        cluster = self._pool(is_node_port=is_node_port, is_local=False)
        local = None
        if self.port.external_local and self.service.endpoints.local:
            local = self._pool(is_node_port=is_node_port, is_local=True)
        external = External(cluster, self.port.external_local, local)
        if not self._lead(name, key, external.chain):
            return
        self.pools.need(external)
        self._fill(cluster, key)
        if local is not None:
            self._fill(local, key)

    def _lead(self, name: str, key: KeyValue, chain: str) -> bool:
        """Lead a frontend to a chain of many; the comment tells whose it is. Return whether it is new."""
        return self.out.element(name, key, Goto(chain), self.port.text)

    def _pool(self, *, is_node_port: bool, is_local: bool) -> Pool:
        chosen = self.service.endpoints.local if is_local else self.service.endpoints.cluster
        return Pool(is_node_port, is_local, self.port.protocol, len(chosen))

    def _fill(self, pool: Pool, key: KeyValue) -> None:
        chosen = self.service.endpoints.local if pool.is_local else self.service.endpoints.cluster
        self.pools.add(pool, key, chosen)

    def _ensure_firewall_chain(self) -> str:
        return ensure_firewall_chain(self.port, self.view, self.out)
