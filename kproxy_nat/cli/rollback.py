"""``kproxy-nat rollback``: back to the state before the last apply."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.apply.generations import Generation
from kproxy_nat.apply.nfacct_objects import delete_nfacct
from kproxy_nat.apply.plan import Wanted
from kproxy_nat.apply.planners import difference, in_loading_order
from kproxy_nat.apply.site import Site
from kproxy_nat.cli.carrying_out import Way, carry_out
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.planning import given_back, is_still_ours, plan_for
from kproxy_nat.cli.target import locked_site, opened_target, target_options
from kproxy_nat.errors import Code, KproxyNatError, Problem


@click.command("rollback", short_help="Go back to the state before the last apply.")
@target_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Go back to the state before the last apply (or delete), kernel settings included.

    Called again, it goes back to the one before that; the last five are kept.

    \b
    Example:
      kproxy-nat rollback --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with (
        gc_paused(),
        opened_target(params, reporter) as target,
        locked_site(target, reporter) as (site, lock),
    ):
        latest = _latest(site)
        wanted = _before(site, latest)
        made = latest.record.nfacct
        live = site.read_all(wanted.rules)
        if any(difference(backend, rules, latest.after(backend)).tables for backend, rules in live.items()):
            reporter.note("the rules have changed since that apply; these changes are lost, too")
        plan = plan_for("rollback", site, target.tools.variant, live, wanted)
        carry_out(plan, live, Way(target, site, lock, reporter, undoes=latest.number))
        if plan.is_empty:
            site.generations.discard(latest)
        site.namespace.run(delete_nfacct, made)


def _latest(site: Site) -> Generation:
    latest = site.generations.latest()
    if latest is None:
        message = f"nothing is recorded that could be taken back in {site.namespace.label}"
        hint = "records are of one namespace from its creation to its end, in --state-dir"
        raise KproxyNatError(Problem(Code.NOTHING_APPLIED, message, hint=hint))
    return latest


def _before(site: Site, generation: Generation) -> Wanted:
    rules = in_loading_order({b: generation.before(b) for b in generation.backends()})
    record = generation.record
    unchanged = (change for change in record.sysctls if is_still_ours(site, change))
    udp_services = site.generations.udp_services_before(generation)
    return Wanted(rules, given_back(unchanged, record.forwarding), udp_services)
