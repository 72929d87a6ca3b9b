"""What differs between two sides in one family, as rule sets and as Services.

From manifests, only Services whose view differs are compiled; of rules, only text that differs is parsed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Protocol

from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.cli.diff_views import changed_part, one_of_each, sharing, views_of
from kproxy_nat.formats.iptables_difference import differing_rulesets
from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.formats.nft_difference import differing_tables, labels_of
from kproxy_nat.formats.nft_rule_files import NftRules, from_tables
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.recover.affected import affected_services
from kproxy_nat.recover.nft_affected import affected_nft_services
from kproxy_nat.recover.nft_sources import NftTableSource
from kproxy_nat.recover.reading import Recovered, both, layouts_of, recover, recover_nft
from kproxy_nat.recover.sources import DumpSource, RulesetSource, is_dispatch
from kproxy_nat.ruleset.rules import Rule, Ruleset


class Parts(Protocol):
    """What differs between two sides."""

    @property
    def rulesets(self) -> tuple[Ruleset, Ruleset]:
        """The rules that differ, and perhaps others that do not."""
        ...

    def recovered(self) -> tuple[Recovered, Recovered]:
        """Return the Services that can differ, and perhaps others."""
        ...

    def same_rules(self, table: str, chain: str) -> list[Rule]:
        """Return the rules of Services that do not differ and so are not in :attr:`rulesets`."""
        ...


def parts_of(old: Side, new: Side, family: IpFamily, *, others: bool) -> Parts:
    """Return what differs; with ``others``, also in tables of nftables that are not of one family.

    Raises:
        InvalidInputError: a rule that differs is broken.
    """
    before, after = views_of(old, new, family)
    if before is None or after is None or before.options.mode is not after.options.mode:
        return _of_rules(old, new, family, others=others)
    layout = new.layout if new.node else old.layout
    if after.options.mode is ProxyMode.NFTABLES:
        return _NftViews(before, after, layout)
    if layout.name is LayoutName.COMPACT:
        # A tree depends on all that is in it.
        return _of_rules(old, new, family, others=others)
    return _IptablesViews(before, after)


class _IptablesViews:
    """Manifests, compiled for iptables."""

    def __init__(self, before: NodeView, after: NodeView) -> None:
        changed = changed_part(before, after)
        known = {view.port.name for view in changed[1].services}
        self.rulesets = (lower_to_ruleset(changed[0]), lower_to_ruleset(changed[1]))
        self._same = replace(after, services=[s for s in after.services if s.port.name not in known])

    def recovered(self) -> tuple[Recovered, Recovered]:
        """See :class:`Parts`."""
        old, new = self.rulesets
        return recover(RulesetSource(old)), recover(RulesetSource(new))

    def same_rules(self, table: str, chain: str) -> list[Rule]:
        """See :class:`Parts`: what stands in a dispatch chain, which is written as a whole."""
        if not is_dispatch(table, chain):
            return []
        return [rule for rule in self._same_dispatch.tables[table].chains[chain].rules if rule.origin]

    @functools.cached_property
    def _same_dispatch(self) -> Ruleset:
        """One endpoint of each kind makes the same rules in the dispatch chains as all of them."""
        services = [ServiceView(view.port, one_of_each(view.endpoints)) for view in self._same.services]
        return lower_to_ruleset(replace(self._same, services=services))


class _NftViews:
    """Manifests, compiled for nftables."""

    def __init__(self, before: NodeView, after: NodeView, layout: Layout) -> None:
        old, new = changed_part(before, after)
        self._family = after.family
        self.rulesets = (
            layout.nft_ruleset(sharing(old, before, new, layout)),
            layout.nft_ruleset(sharing(new, after, old, layout)),
        )

    def recovered(self) -> tuple[Recovered, Recovered]:
        """See :class:`Parts`."""
        old, new = (from_tables(ruleset.tables.values(), "manifests") for ruleset in self.rulesets)
        return recover_nft(NftTableSource(old, self._family)), recover_nft(NftTableSource(new, self._family))

    def same_rules(self, table: str, chain: str) -> list[Rule]:
        """See :class:`Parts`: no chain has rules of several Services."""
        return []


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules, as far as their text differs."""

    family: IpFamily
    dumps: tuple[DumpedRules, DumpedRules]
    tables: tuple[NftRules, NftRules]
    rulesets: tuple[Ruleset, Ruleset]

    def recovered(self) -> tuple[Recovered, Recovered]:
        """See :class:`Parts`."""
        wanted = self._affected()
        old, new = (
            both(
                recover(DumpSource(dump, wanted)),
                recover_nft(NftTableSource(tables, self.family, wanted)),
            )
            for dump, tables in zip(self.dumps, self.tables, strict=True)
        )
        return old, new

    def _affected(self) -> set[str] | None:
        """Return the service ports that can differ; ``None`` for all, where rules are arranged otherwise."""
        pairs = zip(self.dumps, self.tables, strict=True)
        before, after = (layouts_of(dump, tables, self.family) for dump, tables in pairs)
        if before != after:
            return None
        old, new = self.dumps
        return affected_services(old.dump, new.dump) | affected_nft_services(*self.tables, self.family)

    def same_rules(self, table: str, chain: str) -> list[Rule]:
        """See :class:`Parts`: chains that differ are there as a whole."""
        return []


def _of_rules(old: Side, new: Side, family: IpFamily, *, others: bool) -> _Rules:
    dumps = (old.dumped(family), new.dumped(family))
    tables = (old.nft, new.nft)
    labels = {label for rules in tables for label in labels_of(rules, family, others=others)}
    rulesets = differing_rulesets(*dumps)
    for ruleset, found in zip(rulesets, differing_tables(*tables, labels), strict=True):
        ruleset.tables.update({table.label: table for table in found})
    return _Rules(family, dumps, tables, rulesets)
