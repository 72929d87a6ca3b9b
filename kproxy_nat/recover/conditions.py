"""Conditions of rules of nftables in the words of iptables, so that those of both can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network, summarize_address_range

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_matches
from kproxy_nat.ruleset.keys import Field
from kproxy_nat.ruleset.matches import AnyMatch, Comment, OneOf, Source
from kproxy_nat.ruleset.rules import Rule


def condition_text(matches: Iterable[AnyMatch], family: IpFamily) -> str:
    """Return conditions as iptables-save would print them."""
    conditions = tuple(match for match in matches if not isinstance(match, Comment))
    return render_rule(Rule(canonical_matches(conditions), ()), family)


def source_networks(match: AnyMatch) -> list[str] | None:
    """Return the networks that a rule lets pass by matching all other sources; ``None`` for other matches."""
    if isinstance(match, Source) and match.negated:
        return list(_networks(match.network))
    if isinstance(match, OneOf) and match.negated and match.key == (Field.SOURCE,):
        return [network for (value,) in match.values for network in _networks(str(value))]
    return None


def _networks(text: str) -> Iterable[str]:
    """Yield an address, network or range as networks."""
    first, dash, last = text.partition("-")
    if not dash:
        yield str(ip_network(text, strict=False))
        return
    for network in summarize_address_range(ip_address(first), ip_address(last)):
        yield str(network)
