"""The chain of one endpoint: a pattern, since those of a service port differ in two words only."""

from __future__ import annotations

import msgspec

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.net.addresses import Address
from kproxy_nat.ruleset.actions import Dnat, Jump
from kproxy_nat.ruleset.matches import AnyMatch, Recent, Source
from kproxy_nat.ruleset.rules import Rule, RuleOrigin

_MARK = (Jump(names.MARK_MASQ),)


class EndpointPattern(msgspec.Struct, frozen=True, gc=False):
    """Hairpin traffic is masqueraded; everything is sent to the endpoint.

    ``matches`` are those of the second rule and begin with ``comment``. Under affinity each source is
    remembered, too, as far as ``affinity_mask`` reaches.
    """

    comment: tuple[AnyMatch, ...]
    matches: tuple[AnyMatch, ...]
    port: int
    affinity_mask: str = ""

    def rules(self, chain: str, address: Address, origin: RuleOrigin | None) -> tuple[Rule, Rule]:
        """Return the rules of the endpoint at ``address``."""
        matches = self.matches
        if self.affinity_mask:
            remembered = Recent(chain, "set", mask=self.affinity_mask)
            matches = (*self.comment, remembered, *matches[len(self.comment) :])
        hairpin = Rule((*self.comment, Source(address)), _MARK, origin)
        return hairpin, Rule(matches, (Dnat(address, self.port),), origin)
