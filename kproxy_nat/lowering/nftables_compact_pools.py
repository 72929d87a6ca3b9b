"""Chains and maps that service ports with equally many endpoints share.

A pool draws among ``count`` endpoints of whichever frontend a packet goes to: its map has the endpoints by
the frontend's address and port, and a slot from 0 to ``count - 1``. Each count has a map of its own, since a
rule that is new makes the kernel look at all elements of its map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.lowering.nftables_compact_common import external_rules
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import DnatMap
from kproxy_nat.ruleset.keys import DESTINATION_PORTS, Field, Key, KeyValue, Numgen
from kproxy_nat.ruleset.nft_transactions import AddSet
from kproxy_nat.ruleset.nft_values import ADDRESS_TYPES, SERVICE, key_types
from kproxy_nat.ruleset.sets import Element, NamedSet


@dataclass(frozen=True, order=True, slots=True)
class Pool:
    """One kind of frontend, policy, protocol and number of endpoints."""

    is_node_port: bool
    is_local: bool
    protocol: str
    count: int

    @property
    def name(self) -> str:
        """What the names of chain and map share."""
        words = ("nodeport-" if self.is_node_port else "", "local-" if self.is_local else "")
        return f"{''.join(words)}{self.protocol}-{self.count}"

    @property
    def chain(self) -> str:
        """The chain that draws."""
        return names.BALANCE_PREFIX + self.name

    @property
    def map(self) -> str:
        """The map of endpoints."""
        return names.ENDPOINTS_PREFIX + self.name

    @property
    def key(self) -> Key:
        """What the map is asked for."""
        address = () if self.is_node_port else (Field.DESTINATION,)
        return (*address, DESTINATION_PORTS[self.protocol], Numgen(self.count))

    def slot(self, frontend: KeyValue, number: int) -> KeyValue:
        """Return the key of one of a frontend's endpoints; a frontend is an address, protocol and port."""
        *address, _, port = frontend
        return (*address, port, number)


@dataclass(frozen=True, order=True, slots=True)
class External:
    """What traffic from outside meets before ``cluster`` or, with the policy Local, ``local``."""

    cluster: Pool
    external_local: bool
    local: Pool | None

    @property
    def chain(self) -> str:
        """The chain that decides."""
        kind = "nodeport-" if self.cluster.is_node_port else ""
        pool = f"{self.cluster.protocol}-{self.cluster.count}"
        policy = f"local-{pool}-{self.local.count if self.local else 0}" if self.external_local else pool
        return f"{names.EXTERNAL_PREFIX}{kind}{policy}"


class Pools:
    """All pools that a view needs, with their endpoints."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self._elements: dict[Pool, dict[KeyValue, Element]] = {}
        self._externals: set[External] = set()

    def add(self, pool: Pool, frontend: KeyValue, endpoints: Iterable[Endpoint]) -> None:
        """Give the traffic to a frontend these endpoints, as many as the pool has slots."""
        elements = self._elements.setdefault(pool, {})
        for number, endpoint in enumerate(endpoints):
            key = pool.slot(frontend, number)
            elements[key] = Element(key, (endpoint.address, endpoint.port))

    def need(self, external: External) -> None:
        """Have a chain for traffic from outside."""
        self._externals.add(external)

    def write(self, out: NftTransactionBuilder) -> None:
        """Write the chains and maps, in an order that does not depend on Services."""
        pools, externals = sorted(self._elements), sorted(self._externals, key=lambda e: e.chain)
        for chain in (*(pool.chain for pool in pools), *(external.chain for external in externals)):
            out.ensure_chain(chain)
        for pool in pools:
            out.add(AddSet(self._map(pool)))
            out.rule(pool.chain, (), (DnatMap(pool.key, pool.map),))
        for external in externals:
            self._write_external(external, out)

    def _map(self, pool: Pool) -> NamedSet:
        family = self.view.family
        types, values = key_types(pool.key, family), (ADDRESS_TYPES[family], SERVICE)
        elements = self._elements[pool]
        return NamedSet(pool.map, types, values, _comment(pool), elements=elements, transport=pool.protocol)

    def _write_external(self, external: External, out: NftTransactionBuilder) -> None:
        to_local = external.local.chain if external.local else None
        rules = external_rules(
            self.view, external.cluster.chain, to_local, external_local=external.external_local
        )
        for rule in rules:
            out.rule(external.chain, rule.matches, rule.actions)


def _comment(pool: Pool) -> str:
    frontends = "node ports" if pool.is_node_port else "addresses"
    where = "endpoint on this node" if pool.is_local else "endpoint"
    return f"{frontends} with {pool.count} {where}{'s' if pool.count > 1 and not pool.is_local else ''}"
