"""Equal shares among endpoints, without a chain for each of them.

Up to 16 endpoints stand in one chain, each with its share of what is left. More are divided into groups of
nearly the same size with chains of their own, so that a draw looks at few of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from kproxy_nat.lowering.compact_dispatch import WriteChain
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import Dnat, Goto
from kproxy_nat.ruleset.matches import AnyMatch, Protocol, Random, Recent
from kproxy_nat.ruleset.probability import SCALE, threshold_of_share
from kproxy_nat.ruleset.rules import Rule, RuleOrigin

UNDIVIDED = 16
"""Up to how many endpoints or groups stand in one chain."""
_MAX_LEVELS = 4
"""How many chains a draw passes at most: more than 65,536 endpoints make the last of them longer."""


class Balancing:
    """The chains that choose one of a service port's endpoints.

    Args:
        origin: what the rules are for.
        affinity_lists: where clients are remembered, the name of a list of ``recent`` for each endpoint.
    """

    def __init__(
        self, service: ServiceView, view: NodeView, origin: RuleOrigin, affinity_lists: dict[str, str]
    ) -> None:
        self.protocol = service.port.protocol
        self.affinity_seconds = service.port.affinity_seconds
        self.mask = view.family.host_mask
        self.origin = origin
        self.affinity_lists = affinity_lists

    def write(
        self, chain: str, head: list[Rule], endpoints: Sequence[Endpoint], write_chain: WriteChain
    ) -> None:
        """Write ``chain``: the rules ``head``, then the choice; and the chains of its groups."""
        rules = head
        if self.affinity_seconds:
            rules = rules + [self._known_client(endpoint) for endpoint in endpoints]
        write_chain(chain, rules + self._draw(chain, endpoints, write_chain, _levels(len(endpoints)), ""))

    def _draw(
        self, chain: str, endpoints: Sequence[Endpoint], write_chain: WriteChain, levels: int, path: str
    ) -> list[Rule]:
        if levels == 1:
            shares = range(len(endpoints), 0, -1)
            return [self._share(count, endpoint) for count, endpoint in zip(shares, endpoints, strict=True)]
        rules = []
        start, left = 0, len(endpoints)
        for number, size in enumerate(_group_sizes(left, levels)):
            group = endpoints[start : start + size]
            group_path = f"{path}{number:x}"
            name = f"{chain}-{group_path}"
            write_chain(name, self._draw(chain, group, write_chain, levels - 1, group_path))
            rules.append(Rule(_chance(size, left), (Goto(name),), self.origin))
            start, left = start + size, left - size
        return rules

    def _share(self, count: int, endpoint: Endpoint) -> Rule:
        matches = _one_in(self.protocol, count)
        if self.affinity_seconds:
            name = self.affinity_lists[endpoint.text]
            matches = (*matches, Recent(name, "set", mask=self.mask))
        return Rule(matches, (Dnat(endpoint.address, endpoint.port),), self.origin)

    def _known_client(self, endpoint: Endpoint) -> Rule:
        """Send a client where it was before; ``update`` notes the time when it finds the client."""
        name = self.affinity_lists[endpoint.text]
        seen = Recent(name, "update", self.affinity_seconds, reap=True, mask=self.mask)
        return Rule((Protocol(self.protocol), seen), (Dnat(endpoint.address, endpoint.port),), self.origin)


def _levels(count: int) -> int:
    return next((n for n in range(1, _MAX_LEVELS) if count <= UNDIVIDED**n), _MAX_LEVELS)


def _group_sizes(count: int, levels: int) -> list[int]:
    """Return the sizes of groups that are as many as each group's own groups or endpoints."""
    groups = next(n for n in range(2, UNDIVIDED + 1) if n**levels >= count or n == UNDIVIDED)
    return [count // groups + (number < count % groups) for number in range(groups)]


@functools.lru_cache(maxsize=4096)
def _one_in(protocol: str, count: int) -> tuple[AnyMatch, ...]:
    """Match one packet in ``count``; every packet where only one share is left."""
    if count == 1:
        return (Protocol(protocol),)
    return Protocol(protocol), Random(threshold_of_share(count))


@functools.lru_cache(maxsize=4096)
def _chance(size: int, left: int) -> tuple[AnyMatch, ...]:
    """Match ``size`` packets in ``left``."""
    return () if size == left else (Random((2 * size * SCALE + left) // (2 * left)),)
