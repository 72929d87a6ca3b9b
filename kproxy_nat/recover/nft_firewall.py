"""Reading the chains of nftables that drop what comes from elsewhere than the source ranges."""

from __future__ import annotations

from collections.abc import Collection

from kproxy_nat.recover.conditions import source_networks
from kproxy_nat.recover.nft_sources import NftSource, rule_text
from kproxy_nat.ruleset.actions import Drop
from kproxy_nat.ruleset.matches import Comment


def read_firewall(
    source: NftSource, chain: str, addresses: Collection[str]
) -> tuple[tuple[str, ...], bool, list[str]]:
    """Return the source ranges, whether the load balancer's own addresses are among them, and other rules."""
    found: list[str] = []
    rest: list[str] = []
    for rule in source.rules(chain) if chain else ():
        conditions = [match for match in rule.matches if not isinstance(match, Comment)]
        admitted = source_networks(conditions[0]) if len(conditions) == 1 else None
        if admitted is None or rule.actions != (Drop(),):
            rest.append(rule_text(source, chain, rule))
        else:
            found += admitted
    own = {f"{address}/{source.family.bits}" for address in addresses}
    others = [cidr for cidr in found if cidr not in own]
    admits = bool(own) and own <= set(found) and bool(others)
    return tuple(others if admits else found), admits, rest
