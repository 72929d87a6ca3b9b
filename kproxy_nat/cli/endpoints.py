"""``kproxy-nat endpoints``: the EndpointSlices of manifests, given or derived."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.cli.listing import list_objects, listing_options, stored
from kproxy_nat.cli.manifests import LoadedCluster
from kproxy_nat.cli.tables import slices_table
from kproxy_nat.controlplane.stored import Object, stored_slice
from kproxy_nat.manifests.typed_objects import TypedObjects


@click.command("endpoints", short_help="Show the EndpointSlices that a cluster would derive.")
@listing_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show EndpointSlices: those that the manifests hold, and those that a cluster would derive.

    They come from the Pods that selectors find, and from Endpoints of Services without selector.

    \b
    Examples:
      kproxy-nat endpoints rules/tutorial/1-clusterip
      kproxy-nat endpoints k8s/ -R -o wide
      kproxy-nat endpoints k8s/ -R -o yaml > endpoints.yaml
    """  # noqa: D301
    list_objects(ctx, params, slices_table, _chosen)


def _chosen(loaded: LoadedCluster, typed: TypedObjects) -> list[Object]:
    return stored("EndpointSlice", loaded.cluster.slices, typed, stored_slice)
