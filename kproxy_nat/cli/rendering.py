"""From views to the texts of output files."""

from __future__ import annotations

from collections.abc import Sequence

from kproxy_nat.controlplane.assumptions import Assumption
from kproxy_nat.formats.iptables_dump import join_dump
from kproxy_nat.formats.iptables_dump_render import dump_transaction
from kproxy_nat.formats.iptables_render import RULE_FILES, render_restore
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.formats.ruleset_json import JsonAssumption, render_json
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView

NFTABLES_NAME = "nftables.nft"
JSON_NAME = "ruleset.json"


def render(
    views: Sequence[NodeView], form: str, layout: Layout, assumptions: Sequence[Assumption]
) -> dict[str, str]:
    """Return the text of each output file, by file name. A file of iptables holds one family."""
    if form == "json":
        return {JSON_NAME: _json(views, layout, assumptions)}
    if views[0].options.mode is ProxyMode.NFTABLES:
        return {NFTABLES_NAME: _nftables(views, form, layout)}
    if form == "restore":
        return {RULE_FILES[view.family]: render_restore(layout.transaction(view)) for view in views}
    return {RULE_FILES[view.family]: _saved(view, layout) for view in views}


def _saved(view: NodeView, layout: Layout) -> str:
    return join_dump(dump_transaction(layout.transaction(view), layout.jumps(view.family)))


def _nftables(views: Sequence[NodeView], form: str, layout: Layout) -> str:
    if form == "restore":
        return render_script(map(layout.nft_transaction, views))
    return render_listing(table for view in views for table in layout.nft_ruleset(view).tables.values())


def _json(views: Sequence[NodeView], layout: Layout, assumptions: Sequence[Assumption]) -> str:
    lower = layout.nft_ruleset if views[0].options.mode is ProxyMode.NFTABLES else layout.ruleset
    return render_json([lower(view) for view in views], json_assumptions(assumptions))


def json_assumptions(assumptions: Sequence[Assumption]) -> list[JsonAssumption]:
    """Return what was assumed, for documents."""
    return [JsonAssumption(a.subject, a.text, a.origin.source, a.origin.line) for a in assumptions]
