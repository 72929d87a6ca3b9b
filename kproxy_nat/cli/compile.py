"""``kproxy-nat compile``: manifests in, rules out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options, load_node
from kproxy_nat.cli.options import layout_from, layout_option, rule_options, verbosity_options
from kproxy_nat.cli.output import make_directory, write_files, write_stdout
from kproxy_nat.cli.rendering import render
from kproxy_nat.cli.report import Reporter
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView


@click.command("compile", short_help="Compile manifests to the rules that kube-proxy would write.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_path)
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
@input_options
@rule_options
@layout_option
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Compile manifests to the rules that kube-proxy would write on one node.

    A SOURCE is a file, a directory or '-' (standard input) with Kubernetes YAML or JSON as kubectl prints it:
    Services, EndpointSlices, Endpoints, Nodes, a KubeProxyConfiguration. What these leave open and a cluster
    would fill in (cluster IPs, node ports, endpoints from Pods and workloads) is assumed and listed. Other
    kinds are passed over and counted.

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
    with gc_paused():
        node = load_node(params, reporter)
        views = node.views
        families = _families(params, node.options.mode)
        chosen = [view for view in views if view.family in families]
        reporter.report(dict.fromkeys(problem for view in chosen for problem in find_conflicts(view)))
        if params["family"] is None and len(chosen) < len(views):
            _mention_other_family(views, chosen, reporter)
        layout = layout_from(params)
        _write(render(chosen, params["form"], layout, node.assumptions), params, reporter)


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
