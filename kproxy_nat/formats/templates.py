"""Texts that are alike, written once with blanks for a chain and an address, and filled in for each.

A template is made by the renderer that writes all other rules, from a rule whose chain and address are the
blanks. So it cannot say anything else than the renderer does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from kproxy_nat.net.addresses import Address, IpFamily

CHAIN_BLANK = "\0chain\0"
ADDRESS_BLANKS = {IpFamily.IPV4: Address("\0address\0"), IpFamily.IPV6: Address("\0address:\0")}
"""No rule holds a NUL. Writers tell an IPv6 address by its colon."""

_BLANK = re.compile("\0(chain|address):?\0")


class Template:
    """A text with blanks."""

    def __init__(self, text: str) -> None:
        self._parts = _BLANK.split(text)

    def fill(self, chains: Sequence[str], addresses: Sequence[Address]) -> str:
        """Return the text for each chain and its address, one after the other."""
        words = {"chain": chains, "address": addresses}
        columns: list[Iterable[str]] = [
            words[part] if position % 2 else itertools.repeat(part)
            for position, part in enumerate(self._parts)
        ]
        return "".join(itertools.chain.from_iterable(zip(*columns, strict=False)))
