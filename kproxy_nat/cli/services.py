"""``kproxy-nat services``: Services with the addresses and ports that a cluster would give them."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.cli.listing import list_objects, listing_options, stored
from kproxy_nat.cli.manifests import LoadedCluster
from kproxy_nat.cli.tables import services_table
from kproxy_nat.controlplane.stored import Object, stored_service
from kproxy_nat.manifests.typed_objects import TypedObjects


@click.command("services", short_help="Show Services with the addresses a cluster would give them.")
@listing_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show Services as a cluster would hold them: with addresses, node ports and defaults.

    \b
    Examples:
      kproxy-nat services rules/tutorial/1-clusterip
      kproxy-nat services k8s/ -R -o wide
      kproxy-nat services k8s/ -R -o yaml > services.yaml
    """  # noqa: D301
    list_objects(ctx, params, services_table, _chosen)


def _chosen(loaded: LoadedCluster, typed: TypedObjects) -> list[Object]:
    return stored("Service", loaded.cluster.services, typed, stored_service)
