"""The options of the control plane: what may be assumed where manifests leave something open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kproxy_nat.cli.options import CidrType, CommaList, flatten
from kproxy_nat.controlplane.allocation import AllocationOptions
from kproxy_nat.controlplane.completion import (
    ASSUME_NODES,
    NODE_PORT_RANGE,
    SERVICE_CIDR,
    ControlPlaneOptions,
)
from kproxy_nat.controlplane.node_networks import MAX_ASSUMED_NODES

F = TypeVar("F", bound=Callable[..., Any])


class PortRangeType(click.ParamType[tuple[int, int]]):
    """A range of ports, ``30000-32767``."""

    name = "low-high"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse the value."""
        low, dash, high = str(value).partition("-")
        if not (dash and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= 65535):
            self.fail(f"{value!r} is not a range of ports such as 30000-32767", param, ctx)
        return int(low), int(high)


def controlplane_options(command: F) -> F:
    """Add the control plane's options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--controlplane",
        type=click.Choice(["auto", "off"]),
        default="auto",
        show_default=True,
        help="auto: assume addresses, Pods and slices where the manifests leave them open, and say so. "
        "off: take manifests as they are.",
    ),
    click.option(
        "--service-cidr",
        "service_cidrs",
        type=CommaList(CidrType()),
        multiple=True,
        help="Where cluster IPs come from. In nftables mode, others of these are dropped. Default: unknown; "
        "with --controlplane auto 10.96.0.0/12,fd00:10:96::/112.",
    ),
    click.option(
        "--node-port-range", type=PortRangeType(), help="Where node ports come from. Default: 30000-32767."
    ),
    click.option(
        "--load-balancer-pool",
        "load_balancer_pools",
        type=CommaList(CidrType()),
        multiple=True,
        help="Where load balancer addresses come from. Default: none are assumed.",
    ),
    click.option(
        "--assume-nodes",
        type=click.IntRange(1, MAX_ASSUMED_NODES),
        help="How many Nodes to assume for Pods where the input has none. Default: 2, and more where Pods "
        "find no room.",
    ),
]


def controlplane_from(params: dict[str, Any]) -> ControlPlaneOptions | None:
    """Return what may be assumed; ``None`` for nothing.

    Raises:
        click.BadParameter: an option is given that only the control plane uses, and it is off.
    """
    service_cidrs = flatten(params["service_cidrs"])
    pools = flatten(params["load_balancer_pools"])
    given = {
        SERVICE_CIDR: service_cidrs,
        NODE_PORT_RANGE: params["node_port_range"],
        "--load-balancer-pool": pools,
        ASSUME_NODES: params["assume_nodes"],
    }
    if params["controlplane"] == "off":
        for option, value in given.items():
            if value and option != SERVICE_CIDR:  # Rules of nftables mode name it, too.
                raise click.BadParameter("it does not go with --controlplane off", param_hint=f"'{option}'")
        return None
    defaults = AllocationOptions()
    allocation = AllocationOptions(
        tuple(service_cidrs) or defaults.service_cidrs,
        params["node_port_range"] or defaults.node_port_range,
        tuple(pools),
    )
    stated = frozenset(option for option in (SERVICE_CIDR, NODE_PORT_RANGE, ASSUME_NODES) if given[option])
    assume_nodes = params["assume_nodes"] or ControlPlaneOptions().assume_nodes
    return ControlPlaneOptions(allocation, assume_nodes, stated)
