"""``kproxy-nat nodes``: the Nodes of manifests, or those assumed in their place."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.cli.listing import list_objects, listing_options, stored
from kproxy_nat.cli.manifests import LoadedCluster
from kproxy_nat.cli.tables import nodes_table
from kproxy_nat.controlplane.stored import Object, stored_node
from kproxy_nat.manifests.typed_objects import TypedObjects


@click.command("nodes", short_help="Show the Nodes, given or assumed.")
@listing_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show the Nodes that Pods run on: those that the manifests hold, or those assumed in their place.

    \b
    Examples:
      kproxy-nat nodes rules/tutorial/1-clusterip
      kproxy-nat nodes k8s/ -R -o wide
      kproxy-nat nodes k8s/ -R -o yaml > nodes.yaml
    """  # noqa: D301
    list_objects(ctx, params, nodes_table, _chosen)


def _chosen(loaded: LoadedCluster, typed: TypedObjects) -> list[Object]:
    return stored("Node", loaded.cluster.nodes, typed, stored_node)
