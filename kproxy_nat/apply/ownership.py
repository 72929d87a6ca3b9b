"""Which chains and rules belong to our layouts; everything else is foreign.

A chain belongs to them by its name, whoever made it, as kube-proxy sees it, too. A rule in a built-in chain
does if it is word for word one of their jumps.
"""

from __future__ import annotations

import functools
import re

from kproxy_nat.formats.iptables_dump import Dump, split_dump
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering import iptables_compact, iptables_kube_proxy
from kproxy_nat.lowering.compact_names import is_compact_chain
from kproxy_nat.lowering.iptables_kube_proxy import FILTER_CHAINS, NAT_CHAINS
from kproxy_nat.lowering.nftables_names import TABLE
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import NFT_FAMILIES
from kproxy_nat.ruleset.transactions import evaluate

NFT_TABLES = frozenset(f"{family} {TABLE}" for family in NFT_FAMILIES.values())
"""The labels of the tables of nftables that are ours, with all that they hold."""

TABLES = ("nat", "filter")
"""The tables that hold rules of ours, in the order in which they are committed.

The first is its own rehearsal, since a table that is refused stays as it was. So the one that is by far the
larger comes first, and is not rehearsed.
"""

KUBELET_CANARY = "KUBE-KUBELET-CANARY"
PROXY_CANARY = "KUBE-PROXY-CANARY"

_SERVICE_CHAIN = re.compile(r"KUBE-(?:SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}")
_FIXED = {"filter": frozenset((*FILTER_CHAINS, names.KUBELET_FIREWALL)), "nat": frozenset(NAT_CHAINS)}


def is_owned(table: str, chain: str) -> bool:
    """Whether a user chain belongs to us. ``KUBE-FIREWALL`` does, unless :func:`shares_firewall`.

    ``table`` is the label of a table; of nftables' own ones, all chains and sets are ours, or none.
    """
    if table in NFT_TABLES or (table == "nat" and _SERVICE_CHAIN.fullmatch(chain)):
        return True
    return table in _FIXED and (chain in _FIXED[table] or is_compact_chain(chain))


def shares_firewall(dump: Dump) -> bool:
    """Whether a kubelet looks after ``KUBE-FIREWALL`` and the jumps to it, too."""
    return any(KUBELET_CANARY in table.chains for table in dump.tables.values())


def managed_by_kube_proxy(dump: Dump) -> bool:
    """Whether a kube-proxy watches over these rules: it would soon write its own over ours.

    One in nftables mode leaves no such mark.
    """
    return any(PROXY_CANARY in table.chains for table in dump.tables.values())


@functools.cache
def jump_lines(family: IpFamily) -> frozenset[str]:
    """Return the rules of both layouts in built-in chains, as iptables-save prints them."""
    blocks: list[str] = []
    for layout in (iptables_kube_proxy, iptables_compact):
        dump = split_dump(render_save(evaluate(layout.jumps_transaction(family))), family)
        blocks += (block for table in dump.tables.values() for block in table.chains.values())
    return frozenset(line for block in blocks for line in block.split("\n") if line)


def leads_to_firewall(line: str) -> bool:
    """Whether a rule is a jump that kubelet makes, too."""
    return line.endswith(f" -j {names.KUBELET_FIREWALL}")
