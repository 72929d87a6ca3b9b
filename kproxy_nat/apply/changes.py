"""What is to be done to the rules of a namespace, chain by chain.

Rules are lines of text here, as ``iptables-save`` prints them, or as ``formats.nft_dump`` writes them: lines
that are the same bytes are the same rule, whoever wrote them, and a rule set of 400,000 lines is compared
without parsing one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kproxy_nat.net.addresses import IpFamily

Lines = tuple[str, ...]
"""Rules in the form of iptables-save, ``-A CHAIN ...``, without counters and line feed."""


class ChainChange(msgspec.Struct, frozen=True, gc=False):
    """A chain before and after; ``None`` where there is none. ``builtin`` chains hold foreign rules, too.

    In nftables it can be a set or map, too: ``map service-ips``, with lines as ``formats.nft_dump`` has them;
    ``comment`` is that of an object that is made.
    """

    name: str
    before: Lines | None
    after: Lines | None
    builtin: bool = False
    comment: str = ""


class TableChange(msgspec.Struct, frozen=True):
    """The chains of a table that change, in iptables sorted by name, in nftables as the table has them.

    Attributes:
        counters: packets and bytes, as ``"12:3456"``, of rules that stay in a chain that is written anew.
        gone: whether the table itself goes, as it can in nftables.
        comment: that of a table of nftables that is made.
        standby: what a second table of nftables has to hold while this one is changed, if one is needed;
            see :mod:`kproxy_nat.apply.nft_standby`.
    """

    table: str
    chains: tuple[ChainChange, ...]
    counters: Mapping[str, str] = {}
    gone: bool = False
    comment: str = ""
    standby: tuple[ChainChange, ...] = ()


class FamilyChange(msgspec.Struct, frozen=True):
    """The tables of one family that change, in the order in which they are committed."""

    family: IpFamily
    tables: tuple[TableChange, ...]
