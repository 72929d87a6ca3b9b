"""Reading chains that service ports share: the compact layout's, for nftables.

A service port with few endpoints has nothing of its own there but elements of maps, one for each of its
frontends: its addresses and its node port. They lead to chains that many have, and these draw from maps in
which each frontend has its endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, join_host_port
from kproxy_nat.recover import model
from kproxy_nat.recover.conditions import condition_text
from kproxy_nat.recover.model import Shares
from kproxy_nat.recover.nft_sources import NftSource, key_of_chain, rule_text
from kproxy_nat.ruleset.actions import DnatMap, Goto, SetMark
from kproxy_nat.ruleset.keys import KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import AddrType, Comment, InInterface, Source
from kproxy_nat.ruleset.rules import Rule

_LOCAL_POOLS = (f"{names.BALANCE_PREFIX}local-", f"{names.BALANCE_PREFIX}nodeport-local-")

Slots = dict[KeyValue, dict[int, str]]
"""The endpoints of a shared map: by frontend, then by slot."""


@dataclass(slots=True)
class Traffic:
    """What shared chains do with the traffic to a frontend.

    Attributes:
        cluster: endpoints of the cluster, each with its share.
        local: endpoints on this node.
        policy: for traffic from outside, Cluster or Local; empty where none is taken in.
        pods_are: the condition by which the policy Local knows traffic of pods, if it does.
        rest: rules that are none of a Service, as text.
    """

    cluster: Shares = field(default_factory=dict)
    local: Shares = field(default_factory=dict)
    policy: str = ""
    pods_are: str = ""
    rest: list[str] = field(default_factory=list)


def shared_prefix(chain: str) -> str:
    """Return how the chain for one service port alone begins; empty for what is no shared chain."""
    if key_of_chain(chain) is not None:
        return ""
    if chain.startswith(names.BALANCE_PREFIX):
        return names.LOCAL_PREFIX if chain.startswith(_LOCAL_POOLS) else names.CLUSTER_PREFIX
    return names.EXTERNAL_PREFIX if chain.startswith(names.EXTERNAL_PREFIX) else ""


class SharedChains:
    """The shared chains of a table, and the maps that they draw from."""

    def __init__(self, source: NftSource) -> None:
        self._source = source
        self._maps: dict[str, Slots] = {}

    def read(self, chain: str, key: KeyValue) -> Traffic:
        """Read what a chain that draws, or one for traffic from outside, does for one frontend.

        ``key`` is that of the element that leads there: an address, if it has one, protocol and port.
        """
        *address, _, port = key
        frontend = (*address, port)
        traffic = Traffic()
        if chain.startswith(names.BALANCE_PREFIX):
            self._pool(chain, frontend, traffic)
            return traffic
        for rule in self._source.rules(chain):
            if not self._external(rule, frontend, traffic):
                traffic.rest.append(rule_text(self._source, chain, rule))
        traffic.policy = traffic.policy or model.LOCAL
        return traffic

    def _external(self, rule: Rule, frontend: KeyValue, traffic: Traffic) -> bool:
        kinds = [type(match) for match in rule.matches if not isinstance(match, Comment)]
        target = rule.actions[-1] if rule.actions else None
        marks = len(rule.actions) == 2 and isinstance(rule.actions[0], SetMark)
        if not isinstance(target, Goto) or not target.chain.startswith(names.BALANCE_PREFIX):
            return False
        if marks and kinds in ([], [AddrType]):
            traffic.policy = model.LOCAL if kinds else model.CLUSTER
        elif len(rule.actions) == 1 and kinds in ([Source], [InInterface]):
            traffic.pods_are = condition_text(rule.matches, self._source.family)
        elif kinds or len(rule.actions) != 1:
            return False
        self._pool(target.chain, frontend, traffic)
        return True

    def _pool(self, chain: str, frontend: KeyValue, traffic: Traffic) -> None:
        """Read what a chain draws for a frontend."""
        shares: Shares = {}
        for rule in self._source.rules(chain):
            action = rule.actions[0] if len(rule.actions) == 1 and not rule.matches else None
            generator = action.key[-1] if isinstance(action, DnatMap) else None
            if not isinstance(action, DnatMap) or not isinstance(generator, Numgen):
                traffic.rest.append(rule_text(self._source, chain, rule))
            elif isinstance(action.map, str):
                shares = _shares(self._slots(action.map).get(frontend, {}), generator)
        if chain.startswith(_LOCAL_POOLS):
            traffic.local = shares
        else:
            traffic.cluster = shares

    def _slots(self, name: str) -> Slots:
        if name not in self._maps:
            slots: Slots = {}
            for element in self._source.elements(name):
                *frontend, slot = element.key
                if isinstance(element.value, tuple) and isinstance(slot, int):
                    slots.setdefault(tuple(frontend), {})[slot] = _endpoint(element.value)
            self._maps[name] = slots
        return self._maps[name]


def _endpoint(value: tuple[Value, ...]) -> str:
    address, port = value
    return join_host_port(Address(str(address)), int(port))


def _shares(slots: dict[int, str], generator: Numgen) -> Shares:
    part = Fraction(1, generator.modulus)
    shares: Shares = {}
    for slot in range(generator.offset, generator.offset + generator.modulus):
        endpoint = slots.get(slot, "")
        shares[endpoint] = shares.get(endpoint, Fraction(0)) + part
    return {endpoint: shares[endpoint] for endpoint in sorted(shares)}
