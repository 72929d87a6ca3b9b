"""``kproxy-nat plan``: what apply would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kproxy_nat.apply.plan import bind, render_plan
from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import layout_option, rule_options, verbosity_options
from kproxy_nat.cli.output import stdout_has_color, write_files, write_stdout
from kproxy_nat.cli.plan_text import plan_text
from kproxy_nat.cli.planning import apply_options, load_views, plan_for, read_and_compile, warn_of_others
from kproxy_nat.cli.target import UNFINISHED, opened_target, target_options

CHANGES = 2
"""The exit status for a plan that is not empty, where it is asked for."""

STDOUT = "-"


@click.command("plan", short_help="Show what apply would change in a namespace.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_path)
@click.option(
    "--out", metavar="FILE", shell_complete=complete_path, help="Keep the plan, for kproxy-nat apply FILE."
)
@click.option(
    "-o",
    "--output",
    "plan_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: see docs/apply.md.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with status 2 if there is something to change.")
@target_options
@apply_options
@input_options
@rule_options
@layout_option
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Show what apply would change: every rule that comes or goes, compared with the live rules.

    Only reads. A plan kept with --out is carried out by 'kproxy-nat apply FILE' as it stands, and refused
    when the live rules have changed meanwhile.

    \b
    Examples:
      kproxy-nat plan k8s/ --netns demo
      kproxy-nat plan k8s/ --netns demo --out change.plan && kproxy-nat apply change.plan --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with gc_paused(), opened_target(params, reporter) as target:
        site = target.site()
        live, wanted = read_and_compile(load_views(params, target, reporter), site, params)
        if site.generations.unfinished() is not None:
            reporter.note(f"{target.namespace.label}: {UNFINISHED}; apply brings it to an end first")
        plan = plan_for("apply", site, target.tools.variant, live, wanted)
        warn_of_others(live, reporter)
        as_json = params["plan_format"] == "json" or params["out"] == STDOUT
        text = render_plan(bind(plan, live)) if as_json or params["out"] else ""
    if params["out"] not in (None, "", STDOUT):
        write_files({Path(params["out"]): text})
    write_stdout(text if as_json else plan_text(plan, color=stdout_has_color(ctx)))
    if params["detailed_exitcode"] and not plan.is_empty:
        ctx.exit(CHANGES)
