"""Views of random clusters in both modes and layouts, and what is read out of their rules."""

from __future__ import annotations

from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules, load_dump
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.formats.nft_rule_files import NftRules, load_nft
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.recover.nft_sources import NftTableSource
from kproxy_nat.recover.reading import Recovered, recover, recover_nft
from kproxy_nat.recover.sources import DumpSource
from kproxy_nat.ruleset.rules import Ruleset

KUBE_PROXY, COMPACT = Layout(LayoutName.KUBE_PROXY), Layout(LayoutName.COMPACT)


def is_nft(view: NodeView) -> bool:
    return view.options.mode is ProxyMode.NFTABLES


def lowered(view: NodeView, layout: Layout) -> Ruleset:
    """Return the rules of a view in its mode."""
    return layout.nft_ruleset(view) if is_nft(view) else layout.ruleset(view)


def as_dump(view: NodeView, layout: Layout) -> DumpedRules:
    text = render_save(layout.ruleset(view))
    return DumpedRules(load_dump(text, view.family), text)


def as_tables(view: NodeView, layout: Layout) -> NftRules:
    return load_nft(render_listing(lowered(view, layout).tables.values()))


def read_back(view: NodeView, layout: Layout) -> Recovered:
    """Return what the text of the rules shows."""
    if is_nft(view):
        return recover_nft(NftTableSource(as_tables(view, layout), view.family))
    return recover(DumpSource(as_dump(view, layout)))
