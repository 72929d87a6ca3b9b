"""``kproxy-nat stats``: what each layout costs, before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import LoadedNode, gc_paused, input_options, load_node
from kproxy_nat.cli.options import overrides_from, rule_options, verbosity_options
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.json_text import json_text
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view
from kproxy_nat.stats.measures import measure_views
from kproxy_nat.stats.text import stats_text


@click.command("stats", short_help="Compare the layouts: size, and rules on the way of a first packet.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_path)
@click.option(
    "-o",
    "--output",
    "stats_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: see docs/compact-layout.md.",
)
@click.option(
    "--family",
    type=click.Choice(["ipv4", "ipv6", "all"]),
    default="all",
    show_default=True,
    help="Of which family; of all, those that have Services.",
)
@input_options
@rule_options
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show what the rules for the manifests would cost in each layout, side by side.

    How many rules, chains and bytes there are, and how many rules the first packet of a flow is compared
    with: a pod's to each cluster IP and to an address that is no Service, an outsider's to each node port,
    load balancer address and external IP. Both modes are shown unless --mode names one. Nothing is loaded.

    \b
    Examples:
      kproxy-nat stats rules/loadbalancer
      kubectl get svc,endpointslices,nodes -A -o json | kproxy-nat stats - --node node1 -o json
    """  # noqa: D301
    with gc_paused():
        node = load_node(params, reporter_of(ctx))
        views = _views(node, params)
        wanted = _families(views, params["family"])
        views = [view for view in views if view.family in wanted]
        document = measure_views(views, node.options.node_name, Hairpin(params["hairpin"]))
        if params["stats_format"] == "json":
            write_stdout(json_text(document))
        else:
            write_stdout(stats_text(document))


def _families(views: Sequence[NodeView], choice: str) -> set[IpFamily]:
    """Return the families that are shown: of all, those that have Services, or IPv4 if none has."""
    if choice != "all":
        return {family for family in IpFamily if family.lower() == choice}
    return {view.family for view in views if view.services} or {IpFamily.IPV4}


def _views(node: LoadedNode, params: dict[str, Any]) -> list[NodeView]:
    """Return the views of each mode, or of the one that was asked for."""
    if params["mode"]:
        return node.views
    chosen = replace(
        overrides_from(params), node_name=node.options.node_name, localhost_node_ports=None, nfacct=None
    )
    views: list[NodeView] = []
    for mode in ProxyMode:
        if mode is node.options.mode:
            views += node.views
        else:
            options = resolve_options(node.cluster, replace(chosen, mode=mode))
            views += (build_view(node.cluster, options, family) for family in IpFamily)
    return views
