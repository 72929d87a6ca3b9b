"""Ranges that values are given out of: cluster IPs, node ports, load balancer addresses.

A cluster draws at random. Here each request has a *usual* value, a hash of what it is for: the same manifests
give the same values, and other objects have no part in them. Goals and the compromise between them:

- Whoever finds its usual value free gets it. Of several with the same usual value the first has it, in the
  order in which they are given.
- The others look onwards from there, one value after the other and around at the end of the band, when
  everybody else has its usual value: they push nobody aside.
- So a request that got its usual value is moved only by one that has the same; all others are reported as
  displaced, with the holder of their usual value.

As in a cluster, values come out of the upper band of a range. The lower one is left to values that somebody
chose, until the upper one is full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, NamedTuple, TypeVar

from kproxy_nat.net.addresses import (
    Address,
    Cidr,
    IpFamily,
    address_value,
    family_of,
    prefix_length,
)

UNDIVIDED_SIZE = 16
"""A range of this size or less has no lower band."""

SMALLEST_STATIC_BAND = 16

H = TypeVar("H")


class Band(NamedTuple):
    """The values from ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.last - self.first + 1

    def start(self, digest: int) -> int:
        """Return the value at which a search for ``digest`` begins."""
        return self.first + digest % self.size


class Assigned(NamedTuple, Generic[H]):
    """A value given out. ``usual`` is another one where ``taken_by`` had that already."""

    value: int
    usual: int
    taken_by: H | None


class Pool(Generic[H]):
    """Values, and who holds them. Bands are used up in their order."""

    def __init__(self, title: str, bands: Sequence[Band]) -> None:
        self.title = title
        self._bands = [band for band in bands if band.size > 0]
        self._holders: dict[int, H] = {}
        self._onwards: dict[int, int] = {}

    def __contains__(self, value: int) -> bool:
        return any(band.first <= value <= band.last for band in self._bands)

    def hold(self, value: int, holder: H) -> H:
        """Let ``holder`` have ``value`` if nobody has it, be it of the pool or not; return who has it."""
        if value not in self._holders:
            self._holders[value] = holder
            self._onwards[value] = value + 1
        return self._holders[value]

    def assign(self, requests: Sequence[tuple[str, H]]) -> list[Assigned[H] | None]:
        """Give each request, a key and its holder-to-be, a value; ``None`` where there is none left."""
        if not self._bands:
            return [None] * len(requests)
        results: list[Assigned[H] | None] = [None] * len(requests)
        displaced: list[tuple[int, int]] = []
        for position, (key, holder) in enumerate(requests):
            digest = stable_hash(key)
            usual = self._bands[0].start(digest)
            if usual in self._holders:
                displaced.append((position, digest))
            else:
                self.hold(usual, holder)
                results[position] = Assigned(usual, usual, None)
        for position, digest in displaced:
            results[position] = self._assign_displaced(digest, requests[position][1])
        return results

    def _assign_displaced(self, digest: int, holder: H) -> Assigned[H] | None:
        value = self._find_free(digest)
        if value is None:
            return None
        self.hold(value, holder)
        usual = self._bands[0].start(digest)
        return Assigned(value, usual, self._holders[usual])

    def _find_free(self, digest: int) -> int | None:
        for band in self._bands:
            for start in (band.start(digest), band.first):
                value = self._next_free(start)
                if value <= band.last:
                    return value
        return None

    def _next_free(self, value: int) -> int:
        """Return the first free value from ``value`` on; the way there is shortened for the next time."""
        passed = []
        while value in self._onwards:
            passed.append(value)
            value = self._onwards[value]
        self._onwards.update(dict.fromkeys(passed, value))
        return value


def stable_hash(key: str) -> int:
    """Return a number that depends on ``key`` alone, on every machine and in every release."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")


def static_size(range_size: int, step: int, largest: int) -> int:
    """Return the size of the lower band: a ``step``-th of the range within limits; 0 if that is small."""
    if range_size <= UNDIVIDED_SIZE:
        return 0
    return min(max(range_size // step, SMALLEST_STATIC_BAND), largest)


def service_bands(cidr: Cidr) -> tuple[Band, Band]:
    """Return upper and lower band of a service CIDR: all but the network's own and the broadcast address."""
    size, first = _size_and_base(cidr)
    last = first + size - 1 - (family_of(cidr) is IpFamily.IPV4)
    return _split(Band(first + 1, last), static_size(size, 16, 256))


def node_port_bands(first: int, last: int) -> tuple[Band, Band]:
    """Return upper and lower band of a range of node ports."""
    whole = Band(first, last)
    return _split(whole, static_size(whole.size, 32, 128))


def load_balancer_band(cidr: Cidr) -> Band:
    """Return the addresses of a pool; networks of one or two addresses consist of hosts alone."""
    size, first = _size_and_base(cidr)
    if size <= 2:
        return Band(first, first + size - 1)
    return Band(first + 1, first + size - 1 - (family_of(cidr) is IpFamily.IPV4))


def overlapping(some: Iterable[Cidr], others: Sequence[Cidr]) -> Iterator[tuple[Cidr, Cidr]]:
    """Yield each pair of networks that have an address in common."""
    for one in some:
        for other in others:
            bits = family_of(one).bits - min(prefix_length(one), prefix_length(other))
            same = family_of(one) is family_of(other)
            if same and _size_and_base(one)[1] >> bits == _size_and_base(other)[1] >> bits:
                yield one, other


def address_of(family: IpFamily, value: int) -> Address:
    """Return the address whose number is ``value``; both types print the canonical form."""
    return Address(str(IPv4Address(value) if family is IpFamily.IPV4 else IPv6Address(value)))


def _size_and_base(cidr: Cidr) -> tuple[int, int]:
    base = address_value(Address(cidr.partition("/")[0]))
    return 1 << (family_of(cidr).bits - prefix_length(cidr)), base


def _split(whole: Band, lower_size: int) -> tuple[Band, Band]:
    split = whole.first + lower_size
    return Band(split, whole.last), Band(whole.first, split - 1)
