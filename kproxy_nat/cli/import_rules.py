"""``kproxy-nat import``: the Services and endpoints that rules implement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click
import yaml

from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.diff_sides import Side, load_side
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import rule_options, verbosity_options
from kproxy_nat.cli.output import json_text, write_stdout
from kproxy_nat.cli.report import Reporter
from kproxy_nat.errors import Code, InvalidInputError, Location, Problem, Severity
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.iptables import read_services
from kproxy_nat.recover.model import NodeSettings
from kproxy_nat.recover.node_objects import configuration_object, node_object
from kproxy_nat.recover.objects import Manifest, Ports, needs_zone, service_objects
from kproxy_nat.recover.settings import read_settings
from kproxy_nat.recover.sources import DumpSource

_NFACCT = "--nfacct-name"


@click.command("import", short_help="Read Services and endpoints back out of rules.")
@click.argument("sources", metavar="RULES...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "import_format",
    type=click.Choice(["yaml", "json", "rules"]),
    default="yaml",
    show_default=True,
    help="rules: no Services, but the rules themselves in canonical form, as for git's textconv.",
)
@input_options
@rule_options
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Print the Services and EndpointSlices that rules implement, with a Node and a KubeProxyConfiguration.

    Compiled again, they make the same rules. What rules do not show is left out: readiness, names of nodes,
    policies that decide about no traffic. RULES are one or two files, of both families, netns:NAME or host:.

    \b
    Examples:
      kproxy-nat import iptables.rules ip6tables.rules
      ssh node iptables-save | kproxy-nat import - -o json
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with gc_paused():
        sides = [load_side(source, params, reporter) for source in params["sources"]]
        rules = _by_family(sides)
        if params["import_format"] == "rules":
            write_stdout("".join(_canonical(dumped) for dumped in rules.values()))
            return
        objects = _objects(rules, reporter)
    write_stdout(_json(objects) if params["import_format"] == "json" else _yaml(objects))


def _by_family(sides: Iterable[Side]) -> dict[IpFamily, DumpedRules]:
    found: dict[IpFamily, DumpedRules] = {}
    for side in sides:
        for family in [*side.rules] or [*IpFamily]:
            if family in found:
                message = f"it holds {family} rules, and so does {found[family].source}"
                location = Location(side.name)
                hint = "give at most one source of each family"
                raise InvalidInputError(Problem(Code.FAMILIES_DIFFER, message, location=location, hint=hint))
            found[family] = side.dumped(family)
    return dict(sorted(found.items()))


def _canonical(rules: DumpedRules) -> str:
    return render_save(parse_save(rules.text, rules.dump.family, rules.source)) if rules.text else ""


def _objects(rules: Mapping[IpFamily, DumpedRules], reporter: Reporter) -> list[Manifest]:
    families: dict[IpFamily, tuple[Ports, NodeSettings]] = {}
    for family, dumped in rules.items():
        source = DumpSource(dumped)
        families[family] = (read_services(source), read_settings(source))
    ports = [found for found, _ in families.values()]
    if not any(settings.masquerade_mark for _, settings in families.values()):
        name = next(iter(rules.values())).source
        message = "the rules are none of kube-proxy's layout: chain KUBE-MARK-MASQ marks nothing"
        hint = "import reads rules that kproxy-nat or kube-proxy wrote"
        raise InvalidInputError(
            Problem(Code.NO_SERVICES_TO_READ, message, location=Location(name), hint=hint)
        )
    reporter.report(_left_out(ports))
    if any(_NFACCT in dumped.text for dumped in rules.values()):
        reporter.note("the rules count with nfacct objects: compile with --nfacct to get them again")
    node = node_object(families, zone=needs_zone(ports))
    return [configuration_object(families), node, *service_objects(ports)]


def _left_out(families: Iterable[Ports]) -> list[Problem]:
    """Warn of rules and shares that no manifest makes."""
    problems = []
    for ports in families:
        for key, port in ports.items():
            told = [f"a rule is none of a Service: {rule}" for rule in port.rest]
            for shares in (port.cluster, port.local):
                if len(set(shares.values())) > 1 or "" in shares:
                    told.append("its endpoints have different shares, which no Service can ask for")
            problems += [
                Problem(Code.NO_SERVICES_TO_READ, text, Severity.WARNING, subject=f"Service {key}")
                for text in told
            ]
    return problems


def _json(objects: list[Manifest]) -> str:
    document = {"apiVersion": "v1", "kind": "List", "items": objects}
    return json_text(document, indent=2)


def _yaml(objects: list[Manifest]) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump_all(objects, Dumper=dumper, sort_keys=False, width=100)
