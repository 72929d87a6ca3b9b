"""What the chains of both layouts for iptables are for, by their names."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kproxy_nat.lowering import chain_names, compact_names
from kproxy_nat.recover import model
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Goto, Jump
from kproxy_nat.ruleset.rules import Rule

Place = tuple[str, str]
"""A table and a chain."""


class Role(enum.Enum):
    """What a rule of a dispatch chain does for the Service that its comment names."""

    SERVICE = enum.auto()
    NODE_PORT = enum.auto()
    REFUSED_CLUSTER_IP = enum.auto()
    REFUSED_EXTERNAL = enum.auto()
    FIREWALL = enum.auto()
    HEALTH_CHECK = enum.auto()


@dataclass(frozen=True, slots=True)
class IptablesLayout:
    """The names of a layout.

    Attributes:
        roots: the dispatch chains; in the compact layout, those that trees of chains begin with.
        cluster: how the names of chains begin that choose any endpoint, as ``local``: one on this node.
        external: what traffic from outside meets.
        firewall: what traffic to a load balancer's address meets.
    """

    name: str
    roots: Mapping[Place, Role]
    cluster: str
    local: str
    external: str
    firewall: str


KUBE_PROXY = IptablesLayout(
    model.KUBE_PROXY,
    {
        ("nat", chain_names.SERVICES): Role.SERVICE,
        ("nat", chain_names.NODE_PORTS): Role.NODE_PORT,
        ("filter", chain_names.SERVICES): Role.REFUSED_CLUSTER_IP,
        ("filter", chain_names.EXTERNAL_SERVICES): Role.REFUSED_EXTERNAL,
        ("filter", chain_names.PROXY_FIREWALL): Role.FIREWALL,
        ("filter", chain_names.NODE_PORTS): Role.HEALTH_CHECK,
    },
    chain_names.CLUSTER_PREFIX,
    chain_names.LOCAL_PREFIX,
    chain_names.EXTERNAL_PREFIX,
    chain_names.FIREWALL_PREFIX,
)
COMPACT = IptablesLayout(
    model.COMPACT,
    {
        ("nat", compact_names.SERVICES): Role.SERVICE,
        ("nat", compact_names.NODE_PORTS): Role.NODE_PORT,
        ("filter", compact_names.CLUSTER_REFUSALS): Role.REFUSED_CLUSTER_IP,
        ("filter", compact_names.EXTERNAL_REFUSALS): Role.REFUSED_EXTERNAL,
        ("filter", compact_names.NODE_PORT_REFUSALS): Role.REFUSED_EXTERNAL,
        ("filter", compact_names.FIREWALL): Role.FIREWALL,
        ("filter", compact_names.HEALTH_CHECKS): Role.HEALTH_CHECK,
    },
    compact_names.CLUSTER_PREFIX,
    compact_names.LOCAL_PREFIX,
    compact_names.EXTERNAL_PREFIX,
    compact_names.FIREWALL_PREFIX,
)


def dispatch_rules(source: RuleSource, layout: IptablesLayout) -> Iterator[tuple[Role, str, Rule]]:
    """Yield the rules that belong to Services each, with the chain that they stand in.

    Raises:
        InvalidInputError: a rule is broken.
    """
    for (table, root), role in layout.roots.items():
        for chain, rule in _leaves(source, table, root):
            yield role, chain, rule


def _leaves(source: RuleSource, table: str, root: str) -> Iterator[tuple[str, Rule]]:
    """Yield the rules of a chain, and of the branches that it leads to."""
    prefix = compact_names.BRANCH_PREFIXES.get(root)
    seen = {root}
    waiting = [root]
    while waiting:
        chain = waiting.pop()
        branches = []
        for rule in source.rules(table, chain):
            target = jump_target(rule)
            if prefix is None or not target.startswith(prefix):
                yield chain, rule
            elif target not in seen:
                seen.add(target)
                branches.append(target)
        waiting += reversed(branches)


def jump_target(rule: Rule) -> str:
    """Return the chain that a rule leads to, empty if to none."""
    action = rule.actions[0] if rule.actions else None
    return action.chain if isinstance(action, Jump | Goto) else ""
