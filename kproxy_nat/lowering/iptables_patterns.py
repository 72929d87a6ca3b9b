"""The rules that service ports have alike, as patterns: those of dispatch, of balancing, and of endpoints.

They are nearly all rules of a cluster, and those of one service port differ from those of others in a few
words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.net.addresses import Address
from kproxy_nat.ruleset.actions import Dnat, Jump
from kproxy_nat.ruleset.matches import (
    AnyMatch,
    Comment,
    Destination,
    InInterface,
    Ports,
    Protocol,
    Random,
    Recent,
    Source,
    Transport,
)
from kproxy_nat.ruleset.probability import threshold_of_share
from kproxy_nat.ruleset.rules import Rule, RuleOrigin

_MARK = (Jump(names.MARK_MASQ),)


class DispatchPattern(msgspec.Struct, frozen=True, gc=False):
    """Traffic to a service port at one of its addresses goes on to a chain; of all senders, or of ``sender``.

    The words are the name of the service port as comments have it, the address, and the chain.
    """

    comment: str
    protocol: str
    port: int
    sender: Source | InInterface | None = None

    def rules(self, _: str, words: Sequence[str], origin: RuleOrigin | None) -> tuple[Rule]:
        """Return the rule."""
        name, address, target = words
        matches = to_service_port(f"{name} {self.comment}", self.protocol, self.port, Address(address))
        if self.sender is not None:
            matches += (self.sender,)
        return (Rule(matches, (Jump(target),), origin),)


def to_service_port(comment: str, protocol: str, port: int, address: Address) -> tuple[AnyMatch, ...]:
    """Match traffic to a service port at ``address``."""
    transport = Transport(protocol, destination=Ports(port, port))
    return Comment(comment), transport, Protocol(protocol), Destination(address)


class Affinity(msgspec.Struct, frozen=True, gc=False):
    """How long a client goes to the same endpoint, and the mask that tells clients."""

    seconds: int
    mask: str


class BalancingPattern(msgspec.Struct, frozen=True, gc=False):
    """Clients that are remembered first; then equal shares, one in those that remain.

    ``comments`` has the comment of each endpoint, if any. The words are the endpoints' chains.
    """

    comments: tuple[tuple[AnyMatch, ...], ...]
    affinity: Affinity | None

    def rules(self, _: str, words: Sequence[str], origin: RuleOrigin | None) -> list[Rule]:
        """Return the rules that lead to one of the chains in ``words``."""
        rules: list[Rule] = []
        if self.affinity:
            rules = [
                Rule((*comment, _recall(target, self.affinity)), (Jump(target),), origin)
                for target, comment in zip(words, self.comments, strict=True)
            ]
        rules += [
            Rule(comment + _one_in(remaining), (Jump(target),), origin)
            for remaining, target, comment in zip(range(len(words), 0, -1), words, self.comments, strict=True)
        ]
        return rules


class EndpointPattern(msgspec.Struct, frozen=True, gc=False):
    """Hairpin traffic is masqueraded; everything is sent to the endpoint.

    ``matches`` are those of the second rule, and begin with ``comment``. The word is the endpoint's address.
    """

    comment: tuple[AnyMatch, ...]
    matches: tuple[AnyMatch, ...]
    port: int
    affinity: Affinity | None

    def rules(self, chain: str, words: Sequence[str], origin: RuleOrigin | None) -> tuple[Rule, Rule]:
        """Return the rules of the endpoint whose chain is ``chain``."""
        address = Address(words[0])
        matches = self.matches
        if self.affinity:
            remember = Recent(chain, "set", mask=self.affinity.mask)
            matches = (*self.comment, remember, *matches[len(self.comment) :])
        hairpin = Rule((*self.comment, Source(address)), _MARK, origin)
        return hairpin, Rule(matches, (Dnat(address, self.port),), origin)


def _recall(chain: str, affinity: Affinity) -> Recent:
    """Match clients that ``chain`` remembers."""
    return Recent(chain, "rcheck", affinity.seconds, reap=True, mask=affinity.mask)


@functools.lru_cache(maxsize=4096)
def _one_in(count: int) -> tuple[AnyMatch, ...]:
    """Match one packet in ``count``; every packet where only one share is left."""
    return (Random(threshold_of_share(count)),) if count > 1 else ()
