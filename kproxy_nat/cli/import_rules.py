"""``kproxy-nat import``: the Services and endpoints that rules implement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import click
import yaml

from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.diff_sides import Side, load_side
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import layout_option, rule_options, verbosity_options
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import live_source_options
from kproxy_nat.errors import Code, InvalidInputError, Location, Problem, Severity
from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_blocks import canonical_listing
from kproxy_nat.json_text import json_text
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover import model
from kproxy_nat.recover.nft_sources import NftTableSource
from kproxy_nat.recover.node_objects import configuration_object, node_object
from kproxy_nat.recover.objects import Manifest, Ports, needs_zone, service_objects
from kproxy_nat.recover.reading import Recovered, both, recover, recover_nft
from kproxy_nat.recover.sources import DumpSource

_NFACCT = "--nfacct-name"


@click.command("import", short_help="Read Services and endpoints back out of rules.")
@click.argument("sources", metavar="RULES...", nargs=-1, required=True, shell_complete=complete_path)
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
@layout_option
@live_source_options
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Print the Services and EndpointSlices that rules implement, with a Node and a KubeProxyConfiguration.

    Compiled again, they make the same rules. What rules do not show is left out: readiness, names of nodes,
    policies that decide about no traffic. RULES are rules of iptables or nftables: files of both families,
    netns:NAME or host:.

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
            write_stdout("".join(_canonical_texts(rules)))
            return
        objects = _objects(rules, reporter)
    write_stdout(_json(objects) if params["import_format"] == "json" else _yaml(objects))


def _by_family(sides: Iterable[Side]) -> dict[IpFamily, Side]:
    found: dict[IpFamily, Side] = {}
    for side in sides:
        for family in side.families:
            if family in found:
                message = f"it holds {family} rules, and so does {found[family].name}"
                location = Location(side.name)
                hint = "give at most one source of each family"
                raise InvalidInputError(Problem(Code.FAMILIES_DIFFER, message, location=location, hint=hint))
            found[family] = side
    return dict(sorted(found.items()))


def _canonical_texts(sides: Mapping[IpFamily, Side]) -> Iterator[str]:
    """Yield rules in canonical form: those of iptables by family, then tables of nftables."""
    for family, side in sides.items():
        rules = side.dumped(family)
        if rules.text:
            yield render_save(parse_save(rules.text, rules.dump.family, rules.source))
    for side in {id(side): side for side in sides.values()}.values():
        yield from (line for _, lines in canonical_listing(side.nft) for line in lines)


def _objects(sides: Mapping[IpFamily, Side], reporter: Reporter) -> list[Manifest]:
    recovered = {family: _recovered(side, family, reporter) for family, side in sides.items()}
    families = {family: (found.ports, found.settings) for family, found in recovered.items()}
    ports = [found for found, _ in families.values()]
    if not any(settings.mode for _, settings in families.values()):
        name = next(iter(sides.values())).name
        message = "the rules are of no layout that Services can be read out of"
        hint = (
            "import reads what kproxy-nat or kube-proxy wrote, as iptables-save or nft list ruleset prints it"
        )
        raise InvalidInputError(
            Problem(Code.NO_SERVICES_TO_READ, message, location=Location(name), hint=hint)
        )
    reporter.report(_left_out(ports))
    for remark in _remarks(sides, recovered.values()):
        reporter.note(remark)
    node = node_object(families, zone=needs_zone(ports))
    return [configuration_object(families), node, *service_objects(ports)]


def _recovered(side: Side, family: IpFamily, reporter: Reporter) -> Recovered:
    """Return what rules show, without ports that have no name: an object has to have one."""
    found = both(recover(DumpSource(side.dumped(family))), recover_nft(NftTableSource(side.nft, family)))
    reporter.report(
        Problem(
            Code.NO_SERVICES_TO_READ,
            "rules do not tell which Service this is an address of; it is left out",
            Severity.WARNING,
            subject=str(key),
        )
        for key in found.ports
        if not key.is_named
    )
    return replace(found, ports={key: port for key, port in found.ports.items() if key.is_named})


def _remarks(sides: Mapping[IpFamily, Side], recovered: Iterable[Recovered]) -> Iterator[str]:
    """Yield the options that a configuration has no field for."""
    found = list(recovered)
    if any(_NFACCT in side.dumped(family).text for family, side in sides.items()):
        yield "the rules count with nfacct objects: compile with --nfacct to get them again"
    cidrs = [cidr for one in found for cidr in one.settings.service_cidrs]
    if cidrs:
        yield f"service CIDRs are known: compile with --service-cidr {','.join(cidrs)} to get the rules again"
    if any(one.settings.layout == model.COMPACT for one in found):
        yield "the layout is compact: compile with --layout compact to get the rules again"


def _left_out(families: Iterable[Ports]) -> list[Problem]:
    """Warn of rules and shares that no manifest makes."""
    problems = []
    for ports in families:
        for key, port in ports.items():
            told = [f"a rule is none of a Service: {rule}" for rule in port.rest]
            if key.service.endswith(model.CUT):
                told.append("the rules hold its name cut off: write the whole one in the manifest")
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
