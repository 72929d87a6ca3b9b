"""``kproxy-nat diff``: what changed between two revisions, rule sets, or namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.diff_html import review_html
from kproxy_nat.cli.diff_json import review_json
from kproxy_nat.cli.diff_levels import compare
from kproxy_nat.cli.diff_markdown import review_markdown
from kproxy_nat.cli.diff_places import with_places
from kproxy_nat.cli.diff_sides import Side, families_to_compare, load_side
from kproxy_nat.cli.diff_text import review_text
from kproxy_nat.cli.diff_unified import unified_text
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import layout_option, rule_options, verbosity_options
from kproxy_nat.cli.output import stdout_has_color, write_stdout
from kproxy_nat.cli.target import live_source_options
from kproxy_nat.diff.facts import Topic
from kproxy_nat.diff.review import Level, Review, filtered
from kproxy_nat.errors import Code, InvalidInputError, KproxyNatError, Problem
from kproxy_nat.formats.nft_listing import CHAIN
from kproxy_nat.lowering.chain_names import SERVICES
from kproxy_nat.manifests.sources import STDIN
from kproxy_nat.net.addresses import IpFamily

DIFFERENT = 1
"""The exit status when the sides differ, as with ``diff`` and ``kubectl diff``."""

TROUBLE = 2
"""The exit status of errors that would otherwise say that the sides differ."""


@click.command("diff", short_help="Show what changed between two revisions, rule sets or namespaces.")
@click.argument("old", metavar="OLD", shell_complete=complete_path)
@click.argument("new", metavar="NEW", shell_complete=complete_path)
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    help="service: what changed for Services. structural: rule by rule. text: a unified diff of canonical "
    "text. Default: service, where both sides have any, else structural.",
)
@click.option(
    "-o",
    "--output",
    "diff_format",
    type=click.Choice(["text", "json", "markdown", "html"]),
    default="text",
    show_default=True,
    help="markdown: for a pull request. html: a page by itself.",
)
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="[NAMESPACE/]NAME[:PORT]",
    help="Look at this Service only; may be repeated.",
)
@click.option(
    "--only",
    "topics",
    multiple=True,
    type=click.Choice([topic.value for topic in Topic]),
    help="Look at differences of this kind only; may be repeated.",
)
@click.option(
    "--family",
    type=click.Choice(["ipv4", "ipv6", "all"]),
    default="all",
    show_default=True,
    help="Compare this family only.",
)
@click.option(
    "--scope",
    type=click.Choice(["all", "ours"]),
    default="all",
    show_default=True,
    help="ours: only chains of kube-proxy's layout, and the jumps to them.",
)
@input_options
@rule_options
@layout_option
@live_source_options
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show what changed from OLD to NEW, and what the change does to traffic.

    OLD and NEW are manifests or rules: a file, a directory, '-' (standard input), git:REV[:PATH],
    netns:NAME, netns:pid:N, or host: for the host's own rules. Manifests are compiled where the other side
    holds rules. Exit status: 0 same, 1 different, more for errors.

    \b
    Examples:
      kproxy-nat diff git:HEAD~1:k8s/ git:HEAD:k8s/
      ssh node iptables-save | kproxy-nat diff - k8s/ --node node1
      kproxy-nat diff netns:demo k8s/ --level structural --scope ours
      kproxy-nat diff git:main:k8s/ k8s/ -o markdown
    """  # noqa: D301
    if params["level"] == Level.TEXT and params["diff_format"] != "text":
        raise click.BadParameter("level text is a text", param_hint="'--output'")
    if params["old"] == params["new"] == STDIN:
        raise click.BadParameter("standard input can be read once", param_hint="'NEW'")
    reporter_of(ctx).bug_status = TROUBLE
    try:
        with gc_paused():
            different = _compare(ctx, params)
    except KproxyNatError as error:
        error.exit_status = max(error.exit_status, TROUBLE)
        raise
    if different:
        ctx.exit(DIFFERENT)


def _compare(ctx: click.Context, params: dict[str, Any]) -> bool:
    """Write what differs; return whether anything does."""
    reporter = reporter_of(ctx)
    old = load_side(params["old"], params, reporter)
    new = load_side(params["new"], params, reporter)
    level = _level(params["level"], old, new)
    if level is not Level.SERVICE and (params["services"] or params["topics"]):
        raise click.UsageError(f"--service and --only look at Services, but the level is {level}")
    families = families_to_compare(old, new, params["family"])
    color = stdout_has_color(ctx)
    if level is Level.TEXT:
        text = unified_text(old, new, families, color=color)
        write_stdout(text)
        return bool(text)
    review = _review(old, new, level, families, params)
    renderers = {"json": review_json, "markdown": review_markdown, "html": review_html}
    render = renderers.get(params["diff_format"])
    write_stdout(render(review) if render else review_text(review, color=color))
    return review.changed


def _review(
    old: Side, new: Side, level: Level, families: Sequence[IpFamily], params: dict[str, Any]
) -> Review:
    ours = params["scope"] == "ours"
    reviews = [
        compare(old, new, f, services=level is Level.SERVICE, ours=ours, others=f is families[0])
        for f in families
    ]
    review = Review(old.name, new.name, level, reviews, len(families) > 1)
    review = filtered(review, set(params["services"]), set(map(Topic, params["topics"])))
    placed = [
        replace(family, services=with_places(family.services, old.node, new.node))
        for family in review.families
    ]
    return replace(review, families=placed)


def _lists_iptables(side: Side) -> bool:
    """Whether nft listed the tables of iptables, with Services in them."""
    return any((CHAIN, SERVICES) in table.blocks for table in side.tables.listed.values())


def _level(wanted: str | None, old: Side, new: Side) -> Level:
    """Return the level of the comparison: the highest that both sides allow, unless one is wanted.

    Raises:
        InvalidInputError: a side has no Services to compare.
    """
    without = [side for side in (old, new) if not side.shows_services and not side.is_empty]
    if wanted != Level.SERVICE:
        return Level(wanted) if wanted else Level.STRUCTURAL if without else Level.SERVICE
    if without:
        side = without[0]
        is_nft = bool(side.tables.listed) and not side.rules
        held = "table kube-proxy of nftables" if is_nft else "chain KUBE-SERVICES or KPN-SERVICES"
        message = f"{side.name} has no rules of Services: {held} is not there"
        hint = "--level structural compares any rules"
        if _lists_iptables(side):
            hint += "; for Services give what iptables-save prints: nft lists rules of iptables in part only"
        raise InvalidInputError(Problem(Code.LEVEL_UNAVAILABLE, message, hint=hint))
    return Level.SERVICE
