"""Which Services a difference between two tables can concern; all others need not be read."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.formats.nft_difference import differing_objects
from kproxy_nat.formats.nft_listing import CHAIN
from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.nft_sources import DISPATCH_MAPS, key_of_chain, owner_of_line
from kproxy_nat.ruleset.rules import NFT_FAMILIES


def affected_nft_services(old: NftRules, new: NftRules, family: IpFamily) -> set[str]:
    """Return the names of service ports with a chain, a set or an element that differs."""
    label = f"{NFT_FAMILIES[family]} {names.TABLE}"
    found: set[str] = set()
    for kind, name in differing_objects(old, new, label):
        if kind == CHAIN:
            found.update(_owners_of_chain(name, old, new, label))
        elif name in DISPATCH_MAPS:
            lines = set(old.lines(label, name)) ^ set(new.lines(label, name))
            found.update(filter(None, map(owner_of_line, lines)))
        else:
            found.update(_owners_of_set(name))
    return found


def _owners_of_chain(name: str, old: NftRules, new: NftRules, label: str) -> Iterator[str]:
    """Yield the Service that the name of a chain tells; of the rules for all Services, all of them."""
    key = key_of_chain(name)
    if key is not None:
        yield key.service
    elif name == names.SERVICES:
        for side in (old, new):
            for line in (line for dispatch in DISPATCH_MAPS for line in side.lines(label, dispatch)):
                yield owner_of_line(line)


def _owners_of_set(name: str) -> Iterator[str]:
    if name.startswith(names.AFFINITY_PREFIX):
        key = key_of_chain(names.ENDPOINT_PREFIX + name.removeprefix(names.AFFINITY_PREFIX))
        if key is not None:
            yield key.service
