"""``kproxy-nat compile``: manifests in, rules out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kproxy_nat.cli.controlplane_options import controlplane_from, controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.manifests import load_cluster
from kproxy_nat.cli.options import overrides_from, rule_options, verbosity_options
from kproxy_nat.cli.output import make_directory, write_files, write_stdout
from kproxy_nat.cli.rendering import render
from kproxy_nat.cli.report import Reporter
from kproxy_nat.controlplane.assumptions import Assumption
from kproxy_nat.controlplane.node_networks import AssumedOrigin
from kproxy_nat.manifests.sources import DEFAULT_MAX_BYTES, STDIN
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.explain import explain
from kproxy_nat.proxy.options import Overrides, ProxyMode, doubts, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view


@click.command("compile", short_help="Compile manifests to the rules that kube-proxy would write.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR/",
    help="Write there instead of stdout; a directory gets a file a family.",
)
@click.option(
    "--form",
    type=click.Choice(["save", "restore", "json"]),
    default="save",
    show_default=True,
    help="save: as iptables-save or nft lists it. restore: kube-proxy's transaction, for iptables-restore "
    "--noflush (without the jumps from built-in chains) or nft -f. json: see docs/ruleset-json.md.",
)
@click.option(
    "--family",
    type=click.Choice(["ipv4", "ipv6", "all"]),
    help="Default: all in nftables mode, in a directory and in JSON, else ipv4.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look for manifests in folders below a directory, too.")
@click.option("--strict", is_flag=True, help="Refuse kinds that have no part in Service rules.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "exclude"]),
    default="fail",
    show_default=True,
    help="exclude: leave broken objects out, say which, and compile the rest.",
)
@click.option(
    "--max-input-mib",
    type=click.IntRange(1, 1 << 20),
    default=DEFAULT_MAX_BYTES >> 20,
    show_default=True,
    help="Refuse inputs larger than this.",
)
@rule_options
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Compile manifests to the rules that kube-proxy would write on one node.

    A SOURCE is a file, a directory or '-' (standard input) with Kubernetes YAML or JSON as kubectl prints it:
    Services, EndpointSlices, Endpoints, Nodes, a KubeProxyConfiguration. Other kinds are passed over and
    counted.

    \b
    Examples:
      kproxy-nat compile rules/clusterip
      kubectl get svc,endpointslices,nodes -A -o json | kproxy-nat compile - --node node1
      kproxy-nat compile k8s/ -R --cluster-cidr 10.244.0.0/16 -o out/
      kproxy-nat -v compile k8s/ -o /dev/null
    """  # noqa: D301
    reporter = reporter_of(ctx)
    if params["output"] == "":
        raise click.BadParameter("give a file or a directory", param_hint="'--output'")
    if params["config"] == STDIN and STDIN in params["sources"]:
        raise click.BadParameter("standard input can be read once", param_hint="'--config'")
    with _gc_paused():
        views, assumptions = _views(params, reporter)
        families = _families(params, views[0].options.mode)
        chosen = [view for view in views if view.family in families]
        reporter.report(dict.fromkeys(problem for view in chosen for problem in find_conflicts(view)))
        if params["family"] is None and len(chosen) < len(views):
            _mention_other_family(views, chosen, reporter)
        _write(render(chosen, params["form"], assumptions), params, reporter)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: compiling makes many objects and no cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _families(params: dict[str, Any], mode: ProxyMode) -> tuple[IpFamily, ...]:
    named = {"ipv4": (IpFamily.IPV4,), "ipv6": (IpFamily.IPV6,), "all": tuple(IpFamily)}
    one_file = mode is ProxyMode.NFTABLES or params["form"] == "json"
    both = one_file or _is_directory(params["output"])
    if params["family"] == "all" and not both:
        raise click.BadParameter(
            "two families need a directory: -o DIR/ (iptables files hold one family)", param_hint="'--family'"
        )
    return named[params["family"] or ("all" if both else "ipv4")]


def _is_directory(output: str | None) -> bool:
    return output is not None and (output.endswith("/") or Path(output).is_dir())


def _views(params: dict[str, Any], reporter: Reporter) -> tuple[list[NodeView], list[Assumption]]:
    """Load and check the input; return the node's view in both families, and what was assumed."""
    controlplane = controlplane_from(params)
    overrides = overrides_from(params)
    if controlplane is not None:
        overrides = replace(overrides, service_cidrs=controlplane.allocation.service_cidrs)
    cluster, assumptions = load_cluster(
        params["sources"],
        reporter,
        config=params["config"],
        recursive=params["recursive"],
        strict=params["strict"],
        exclude_errors=params["on_error"] == "exclude",
        max_bytes=params["max_input_mib"] << 20,
        mode=params["mode"],
        controlplane=controlplane,
    )
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
    return views, assumptions


def _choose_assumed_node(overrides: Overrides, cluster: Cluster, reporter: Reporter) -> Overrides:
    """Take the first of the Nodes where all are assumed: nobody could have named one."""
    assumed = [node.value.metadata.name for node in cluster.nodes if isinstance(node.origin, AssumedOrigin)]
    if overrides.node_name or not assumed or len(assumed) < len(cluster.nodes):
        return overrides
    reporter.note(f"rules are the view of {assumed[0]}, the first assumed Node; --node chooses another")
    return replace(overrides, node_name=assumed[0])


def _mention_other_family(views: Sequence[NodeView], chosen: Sequence[NodeView], reporter: Reporter) -> None:
    for view in views:
        if view not in chosen and view.services:
            count = len(view.services)
            ports = "service port has" if count == 1 else "service ports have"
            reporter.note(
                f"{count} {ports} {view.family} rules, too: see --family ipv6, or write both with -o DIR/"
            )


def _write(texts: dict[str, str], params: dict[str, Any], reporter: Reporter) -> None:
    output = params["output"]
    if output is None or output == "-":
        write_stdout("".join(texts.values()))
        return
    if _is_directory(output):
        paths = {Path(output) / name: text for name, text in texts.items()}
        make_directory(Path(output))
    else:
        paths = {Path(output): text for text in texts.values()}
    write_files(paths)
    for path in paths:
        reporter.explain(f"wrote {path}")
