"""``kproxy-nat apply``: the rules of a namespace become what the manifests say, or stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from kproxy_nat.apply.plan import Plan, Wanted, check_current
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Variant
from kproxy_nat.cli.carrying_out import Way, carry_out
from kproxy_nat.cli.controlplane_options import controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import rule_options, verbosity_options
from kproxy_nat.cli.planning import (
    apply_options,
    load_wanted,
    plan_for,
    saved_plan,
    warn_of_kube_proxy,
)
from kproxy_nat.cli.target import locked_site, opened_target, target_options
from kproxy_nat.net.addresses import IpFamily


@click.command("apply", short_help="Make the rules of a namespace what the manifests say.")
@click.argument("sources", metavar="SOURCE...|PLAN", nargs=-1, required=True)
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
    with gc_paused(), opened_target(params, reporter, create=params["create"]) as target:
        source = saved_plan(params["sources"]) or load_wanted(params, target, reporter)
        with locked_site(target, reporter) as (site, lock):
            live = site.read_all(source.changes if isinstance(source, Plan) else source.rules)
            warn_of_kube_proxy(live, reporter)
            plan = _plan(source, site, target.tools.variant, live)
            carry_out(plan, live, Way(target, site, lock, reporter, params["confirm"]))


def _plan(source: Plan | Wanted, site: Site, variant: Variant, live: Mapping[IpFamily, LiveRules]) -> Plan:
    if isinstance(source, Wanted):
        return plan_for("apply", site, variant, live, source)
    check_current(source, site.namespace.identity, live)
    return source
