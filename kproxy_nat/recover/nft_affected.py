"""Which Services a difference between two tables can concern; all others need not be read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from kproxy_nat.formats.nft_difference import differing_objects
from kproxy_nat.formats.nft_listing import CHAIN
from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.recover.nft_sources import DISPATCH_MAPS, key_of_chain, owner_of_line
from kproxy_nat.ruleset.rules import NFT_FAMILIES

_FEW = 50
"""Of so many endpoints the chains that lead to them are looked for."""


def affected_nft_services(old: NftRules, new: NftRules, family: IpFamily) -> set[str]:
    """Return the names of service ports with a chain, a set or an element that differs."""
    label = f"{NFT_FAMILIES[family]} {names.TABLE}"
    found: set[str] = set()
    for kind, name in differing_objects(old, new, label):
        if kind == CHAIN:
            found.update(_owners_of_chain(name, old, new, label))
        elif name in (*DISPATCH_MAPS, names.HAIRPIN_SET):
            lines = set(old.lines(label, name)) ^ set(new.lines(label, name))
            owners = _owners_of_endpoints if name == names.HAIRPIN_SET else _owners_of_elements
            found.update(owners(lines, old, new, label))
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


def _owners_of_elements(lines: Iterable[str], *_: object) -> Iterator[str]:
    return filter(None, map(owner_of_line, lines))


def _owners_of_endpoints(lines: Collection[str], old: NftRules, new: NftRules, label: str) -> Iterator[str]:
    """Yield the Services with an endpoint that is, or is not, known to be on this node."""
    wanted = [end for line in lines for end in _destinations(line)]
    for side in (old, new):
        for kind, name in side.keys(label):
            key = key_of_chain(name) if kind == CHAIN else None
            if key is not None and (len(wanted) > _FEW or _mentions(side, label, name, wanted)):
                yield key.service


def _destinations(line: str) -> tuple[str, str]:
    """Return an element of the hairpin set as rules have it that draw the endpoint, or translate to it."""
    address, _, _, port = line.split(" . ")
    return f" {address} . {port}", f" {join_host_port(Address(address), int(port))}\n"


def _mentions(side: NftRules, label: str, chain: str, texts: Iterable[str]) -> bool:
    body = side.listed[label].blocks[CHAIN, chain]
    return any(text in body for text in texts)


def _owners_of_set(name: str) -> Iterator[str]:
    if name.startswith(names.AFFINITY_PREFIX):
        key = key_of_chain(names.ENDPOINT_PREFIX + name.removeprefix(names.AFFINITY_PREFIX))
        if key is not None:
            yield key.service
