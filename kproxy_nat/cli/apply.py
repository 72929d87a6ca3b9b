"""``kproxy-nat apply``: the rules of a namespace become what the manifests say, or stay as they are."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.apply.blame import blame
from kproxy_nat.apply.head_start import HeadStart
from kproxy_nat.apply.plan import Plan, check_current
from kproxy_nat.apply.running import RuleRefusedError
from kproxy_nat.cli.carrying_out import Way, carry_out
from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import layout_option, rule_options, verbosity_options
from kproxy_nat.cli.planning import (
    LoadedViews,
    apply_options,
    load_views,
    plan_for,
    read_and_compile,
    saved_plan,
    warn_of_others,
)
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import Target, locked_site, opened_target, target_options


@click.command("apply", short_help="Make the rules of a namespace what the manifests say.")
@click.argument("sources", metavar="SOURCE...|PLAN", nargs=-1, required=True, shell_complete=complete_path)
@click.option("--create", is_flag=True, help="Create the namespace if it is not there.")
@click.option(
    "--confirm",
    type=click.FloatRange(1, 86400),
    metavar="SECONDS",
    help="Bring the old rules back unless somebody confirms in time: with y here, or kproxy-nat confirm.",
)
@target_options
@apply_options
@input_options
@rule_options
@layout_option
@controlplane_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Make the Service rules of a namespace what the manifests say, or leave everything as it was.

    The change is the smallest that does it: chains that stay are not written, foreign rules are not touched,
    counters go on. What was loaded is read back and compared; on any failure, on Ctrl-C, and even when this
    command is killed, what was there before comes back.

    \b
    Examples:
      kproxy-nat apply k8s/ --netns demo --create
      kproxy-nat apply k8s/ --host --node node1 --confirm 30
      kproxy-nat apply change.plan --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    plan = saved_plan(params["sources"])
    if plan is not None:
        _take_variant(plan, params)
    with gc_paused(), opened_target(params, reporter, create=params["create"]) as target:
        if plan is not None:
            _apply_plan(plan, target, reporter, params["confirm"])
            return
        _apply_sources(target, reporter, params)


def _take_variant(plan: Plan, params: dict[str, Any]) -> None:
    """Let the plan choose the variant that it was made for."""
    if params["variant"] not in (None, plan.variant):
        raise click.BadParameter(f"the plan is for the {plan.variant} variant", param_hint="'--iptables'")
    params["variant"] = plan.variant


def _apply_plan(plan: Plan, target: Target, reporter: Reporter, confirm: float | None) -> None:
    with locked_site(target, reporter) as (site, lock):
        live = site.read_all(plan.changes)
        check_current(plan, target.namespace.identity, live)
        carry_out(plan, live, Way(target, site, lock, reporter, confirm))


def _apply_sources(target: Target, reporter: Reporter, params: dict[str, Any]) -> None:
    """Keep what was read and compiled to this function: while it is there, collecting garbage takes long."""
    loaded = load_views(params, target, reporter)
    try:
        _apply_views(loaded, target, reporter, params)
    except RuleRefusedError as error:
        raise blame(error, loaded.views, loaded.layout) from None


def _apply_views(loaded: LoadedViews, target: Target, reporter: Reporter, params: dict[str, Any]) -> None:
    with locked_site(target, reporter) as (site, lock), HeadStart(site) as head_start:
        # Whoever reads what -v tells may take his time; others must not have to wait for that.
        live, wanted = read_and_compile(loaded, site, params, None if reporter.verbose else head_start)
        plan = plan_for("apply", site, target.tools.variant, live, wanted)
        warn_of_others(live, reporter)
        way = Way(target, site, lock, reporter, params["confirm"], head_start=head_start)
        carry_out(plan, live, way)
