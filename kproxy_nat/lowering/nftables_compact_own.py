"""The compact layout for a service port with chains of its own: with many endpoints, or session affinity."""

from __future__ import annotations

from collections.abc import Sequence

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_compact_common import (
    ensure_firewall_chain,
    external_rules,
)
from kproxy_nat.lowering.nftables_service import NftServiceLowering
from kproxy_nat.lowering.slots import slots
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.ruleset.actions import Dnat, DnatMap, Goto, UpdateSet, VerdictEntry, VerdictMap
from kproxy_nat.ruleset.keys import Field, Key, KeyValue, Numgen
from kproxy_nat.ruleset.matches import AnyMatch, Lookup, OneOf
from kproxy_nat.ruleset.nft_transactions import AddSet
from kproxy_nat.ruleset.nft_values import ADDRESS_TYPES, INTEGER, SERVICE, key_types
from kproxy_nat.ruleset.sets import Element, NamedSet

DRAWN_TOGETHER = 8
"""So many endpoints with affinity are drawn by a rule each; where there are more, groups are drawn first."""

_SOURCE: Key = (Field.SOURCE,)


class OwnChains(NftServiceLowering):
    """The chains, elements, sets and maps of one service port; none for a single endpoint."""

    def _endpoints(self) -> None:
        for endpoint in self.service.endpoints.reachable:
            self._hairpin(endpoint)

    def _ensure_firewall_chain(self) -> str:
        return ensure_firewall_chain(self.port, self.view, self.out)

    def _firewall_chain_rules(self) -> None:
        """Nothing more: the chain is made whole."""

    def _external_chain_rules(self) -> None:
        if not self.service.is_reached_from_outside:
            return
        to_local = self.local_chain if self.service.endpoints.local else None
        rules = external_rules(
            self.view, self.cluster_chain, to_local, external_local=self.port.external_local
        )
        for rule in rules:
            self._rule(self.external_chain, rule.matches, rule.actions)

    def _balance_all(self) -> None:
        """Draw by one rule for each policy, from a map that has endpoints by slot."""
        for chain, endpoints in self._balanced_chains():
            prefix = names.ENDPOINTS_PREFIX
            if chain == self.local_chain:
                prefix = names.LOCAL_ENDPOINTS_PREFIX
            name = prefix + names.service_base(self.port)
            ports = {endpoint.port for endpoint in endpoints}
            port = ports.pop() if len(ports) == 1 else 0
            self.out.add(AddSet(self._map(name, endpoints, port)))
            self._rule(chain, (self.protocol,), (DnatMap((Numgen(len(endpoints)),), name, port),))

    def _map(self, name: str, endpoints: Sequence[Endpoint], port: int) -> NamedSet:
        """Return a map of endpoints by slot, without their port where all have the same.

        With a size the kernel makes a hash table once, instead of having it grow.
        """
        placed = slots([endpoint.text for endpoint in endpoints])
        elements: dict[KeyValue, Element] = {}
        for slot, endpoint in zip(placed, endpoints, strict=True):
            value: KeyValue = (endpoint.address,) if port else (endpoint.address, endpoint.port)
            elements[slot,] = Element((slot,), value)
        address = ADDRESS_TYPES[self.view.family]
        values, transport = ((address,), "") if port else ((address, SERVICE), self.port.protocol)
        size = 1 << (len(endpoints) - 1).bit_length()
        return NamedSet(name, (INTEGER,), values, size=size, elements=elements, transport=transport)

    def _affinity(self) -> None:
        """Write a set of clients for each endpoint, as kube-proxy's; look-ups in them; then a draw."""
        types = key_types(_SOURCE, self.view.family)
        flags, timeout = ("dynamic", "timeout"), self.port.affinity_seconds
        for endpoint in self.service.endpoints.reachable:
            self.out.add(AddSet(NamedSet(self._affinity_set(endpoint), types, flags=flags, timeout=timeout)))
        for chain, endpoints in self._balanced_chains():
            for endpoint in endpoints:
                self._translate(chain, Lookup(_SOURCE, self._affinity_set(endpoint)), endpoint)
            if len(endpoints) > DRAWN_TOGETHER:
                self._draw_group(chain, endpoints)
            else:
                self._draw(chain, endpoints)

    def _translate(self, chain: str, condition: AnyMatch | None, endpoint: Endpoint) -> None:
        """Note the client of an endpoint, or begin its time anew, and translate."""
        matches = (self.protocol,) if condition is None else (self.protocol, condition)
        note = UpdateSet(self._affinity_set(endpoint), _SOURCE)
        self._rule(chain, matches, (note, Dnat(endpoint.address, endpoint.port)))

    def _draw(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """Give each endpoint an equal share, by a rule each: one of those that are left."""
        for number, endpoint in enumerate(endpoints):
            left = len(endpoints) - number
            condition = OneOf((Numgen(left),), ((0,),)) if left > 1 else None
            self._translate(chain, condition, endpoint)

    def _draw_group(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """Draw one of all endpoints, to go to the chain of its group, which draws again among these."""
        prefix = names.LOCAL_DRAW_PREFIX if chain == self.local_chain else names.DRAW_PREFIX
        groups = [endpoints[at : at + DRAWN_TOGETHER] for at in range(0, len(endpoints), DRAWN_TOGETHER)]
        base = names.service_base(self.port)
        chains = [f"{prefix}{number}-{base}" for number in range(len(groups))]
        for name, group in zip(chains, groups, strict=True):
            self.out.ensure_chain(name)
            self._draw(name, group)
        entries = tuple(
            VerdictEntry((number,), Goto(chains[number // DRAWN_TOGETHER]))
            for number in range(len(endpoints))
        )
        self._rule(chain, (), (VerdictMap((Numgen(len(endpoints)),), entries),))
