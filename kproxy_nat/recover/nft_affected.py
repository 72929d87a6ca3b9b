"""Which Services a difference between two tables can concern; all others need not be read."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from kproxy_nat.formats.nft_difference import differing_objects
from kproxy_nat.formats.nft_listing import CHAIN, BlockKey
from kproxy_nat.formats.nft_rule_files import NftRules
from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.recover.nft_sources import (
    DISPATCH_MAPS,
    frontend_of_line,
    frontend_of_slot,
    is_pool,
    key_of_chain,
    owner_of_line,
)
from kproxy_nat.ruleset.rules import NFT_FAMILIES

_FEW = 50
"""Of so many endpoints the chains that lead to them are looked for."""


def affected_nft_services(old: NftRules, new: NftRules, family: IpFamily) -> set[str]:
    """Return the names of service ports with a chain, a set or an element that differs."""
    label = f"{NFT_FAMILIES[family]} {names.TABLE}"
    sides = (_Side(old, label), _Side(new, label))
    found: set[str] = set()
    for kind, name in differing_objects(old, new, label):
        key = key_of_chain(name)
        if key is not None:
            found.add(key.service)
        elif kind == CHAIN:
            found.update(owner for side in sides for owner in side.led_to(name))
        else:
            lines = set(sides[0].lines(name)) ^ set(sides[1].lines(name))
            found.update(owner for side in sides for owner in side.owners(name, lines))
    found.discard("")
    return found


class _Side:
    """A table, and whose its elements are."""

    def __init__(self, rules: NftRules, label: str) -> None:
        self._rules = rules
        self._label = label

    def lines(self, name: str) -> list[str]:
        """Return the elements of a set or map as text."""
        return self._rules.lines(self._label, name)

    def owners(self, name: str, lines: Collection[str]) -> Iterator[str]:
        """Yield the Services that elements of a set or map belong to."""
        if name in DISPATCH_MAPS:
            for line in lines:
                yield from self._owners_of_element(line)
        elif is_pool(name):
            yield from self._owners_of_slots(lines)
        elif name == names.HAIRPIN_SET:
            yield from self._owners_of_endpoints(lines)

    def led_to(self, chain: str) -> Iterator[str]:
        """Yield the Services whose elements lead to a chain of many; all, to that of the rules for all."""
        targets = {f"goto {name}" for name in (chain, *self._chains_before(chain))}
        for line in self._dispatch:
            if chain == names.SERVICES or line.rpartition(" : ")[2] in targets:
                yield from self._owners_of_element(line)

    def _chains_before(self, chain: str) -> Iterator[str]:
        for kind, name in self._keys:
            if kind == CHAIN and f"goto {chain}\n" in self._body((kind, name)):
                yield name

    @functools.cached_property
    def _dispatch(self) -> list[str]:
        return [line for name in DISPATCH_MAPS for line in self.lines(name)]

    @functools.cached_property
    def _by_frontend(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for line in self._dispatch:
            found[frontend_of_line(line)].add(owner_of_line(line))
        return found

    @property
    def _keys(self) -> Collection[BlockKey]:
        return self._rules.keys(self._label)

    def _body(self, key: BlockKey) -> str:
        return self._rules.listed[self._label].blocks[key]

    def _owners_of_element(self, line: str) -> Iterable[str]:
        """Return whom an element for dispatch names; one that names nobody has its address in common."""
        owner = owner_of_line(line)
        return [owner] if owner else self._by_frontend.get(frontend_of_line(line), ())

    def _owners_of_slots(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            yield from self._by_frontend.get(frontend_of_slot(line), ())

    def _owners_of_endpoints(self, lines: Collection[str]) -> Iterator[str]:
        """Yield the Services with an endpoint that is, or is not, known to be on this node."""
        wanted = {text for line in lines for text in _destinations(line)}
        for kind, name in self._keys:
            key = key_of_chain(name)
            if key is not None and (len(lines) > _FEW or self._mentions((kind, name), wanted)):
                yield key.service
            elif is_pool(name):
                yield from self._owners_of_slots(
                    line for line in self.lines(name) if f" {line.partition(' : ')[2]}" in wanted
                )

    def _mentions(self, key: BlockKey, texts: Iterable[str]) -> bool:
        body = self._body(key)
        return any(text in body for text in texts)


def _destinations(line: str) -> tuple[str, ...]:
    """Return an element of the hairpin set as rules and elements have it that draw the endpoint."""
    address, _, _, port = line.split(" . ")
    joined = join_host_port(Address(address), int(port))
    return f" {address} . {port}", f" {joined}\n", f" : {address},", f" : {address} }}"
