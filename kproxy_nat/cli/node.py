"""From parameters to one node's view of the input: what every command with manifests begins with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from kproxy_nat.cli.controlplane_options import controlplane_from
from kproxy_nat.cli.manifests import load_cluster
from kproxy_nat.cli.options import overrides_from
from kproxy_nat.cli.report import Reporter
from kproxy_nat.controlplane.assumptions import Assumption
from kproxy_nat.controlplane.node_networks import AssumedOrigin, named_node
from kproxy_nat.manifests.sources import DEFAULT_MAX_BYTES, STDIN, Reading, SourceText
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.explain import explain
from kproxy_nat.proxy.options import NodeOptions, Overrides, ProxyMode, doubts, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class LoadedNode:
    """The input, and what one node makes of it.

    Attributes:
        views: of both families.
        assumptions: what the control plane added.
        texts: what the input was read from.
    """

    cluster: Cluster
    options: NodeOptions
    views: list[NodeView]
    assumptions: list[Assumption]
    texts: list[SourceText]


def input_options(command: F) -> F:
    """Add the options that say how manifests are read."""
    for option in reversed(_INPUT_OPTIONS):
        command = option(command)
    return command


_INPUT_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-R", "--recursive", is_flag=True, help="Look for manifests in folders below a directory, too."
    ),
    click.option("--strict", is_flag=True, help="Refuse kinds that have no part in Service rules."),
    click.option(
        "--on-error",
        type=click.Choice(["fail", "exclude"]),
        default="fail",
        show_default=True,
        help="exclude: leave broken objects out, say which, and compile the rest.",
    ),
    click.option(
        "--max-input-mib",
        type=click.IntRange(1, 1 << 20),
        default=DEFAULT_MAX_BYTES >> 20,
        show_default=True,
        help="Refuse inputs larger than this.",
    ),
]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: compiling makes many objects and no cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def load_node(
    params: dict[str, Any],
    reporter: Reporter,
    complete: Callable[[Overrides], Overrides] = lambda overrides: overrides,
    reading: Reading | None = None,
) -> LoadedNode:
    """Load and check the input; report what is doubtful; return the node's view in both families.

    Args:
        params: of a command with ``input_options``, ``rule_options`` and ``controlplane_options``.
        reporter: for warnings, remarks and explanations.
        complete: adds what is known of the node where the command line says nothing.
        reading: the sources, if they have been read already.

    Raises:
        InvalidInputError: something is wrong with the input.
        click.BadParameter: options contradict each other.
    """
    if params["config"] == STDIN and STDIN in params["sources"]:
        raise click.BadParameter("standard input can be read once", param_hint="'--config'")
    controlplane = controlplane_from(params)
    overrides = complete(overrides_from(params))
    loaded = load_cluster(
        params["sources"],
        reporter,
        config=params["config"],
        recursive=params["recursive"],
        strict=params["strict"],
        exclude_errors=params["on_error"] == "exclude",
        max_bytes=params["max_input_mib"] << 20,
        mode=params["mode"],
        controlplane=controlplane,
        reading=reading,
    )
    cluster = loaded.cluster
    overrides = _choose_assumed_node(overrides, cluster, reporter)
    options = resolve_options(cluster, overrides)
    if controlplane is None and overrides.service_cidrs and options.mode is not ProxyMode.NFTABLES:
        message = "it goes with --controlplane auto or --mode nftables"
        raise click.BadParameter(message, param_hint="'--service-cidr'")
    reporter.report(doubts(cluster, options, overrides))
    views = [build_view(cluster, options, family) for family in IpFamily]
    if reporter.verbose:
        for sentence in explain(cluster, views):
            reporter.explain(sentence)
    return LoadedNode(cluster, options, views, loaded.assumptions, loaded.texts)


def _choose_assumed_node(overrides: Overrides, cluster: Cluster, reporter: Reporter) -> Overrides:
    """Take the first of the Nodes where all are assumed: nobody could have named one.

    Another one that somebody names all the same is a Node without Pods.
    """
    assumed = [node.value.metadata.name for node in cluster.nodes if isinstance(node.origin, AssumedOrigin)]
    if not assumed or len(assumed) < len(cluster.nodes) or overrides.node_name in assumed:
        return overrides
    if overrides.node_name:
        cluster.nodes.append(named_node(overrides.node_name))
        reporter.note(f"no Pod is on {overrides.node_name}: they are on {', '.join(assumed)}")
        return overrides
    reporter.note(f"rules are the view of {assumed[0]}, the first assumed Node; --node chooses another")
    return replace(overrides, node_name=assumed[0])
