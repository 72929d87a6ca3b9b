"""``kproxy-nat delete``: remove what is ours from a namespace, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import click

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.engines import find_tools
from kproxy_nat.apply.generations import Record
from kproxy_nat.apply.nfacct_objects import delete_nfacct
from kproxy_nat.apply.plan import Wanted
from kproxy_nat.apply.planners import planner_of
from kproxy_nat.apply.planning import LiveRules, foreign_part, unreadable_tables
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Holding, Variant, other_holding
from kproxy_nat.cli.carrying_out import Way, carry_out
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.cli.planning import given_back, is_still_ours, plan_for, warn_of_others
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import Target, locked_site, opened_target, target_options
from kproxy_nat.errors import Code, KproxyNatError, Problem
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.proxy.options import ProxyMode


@click.command("delete", short_help="Remove what is ours from a namespace, nothing else.")
@target_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Remove the Service rules of a namespace, and give back what was set for them.

    Ours are the chains with kube-proxy's names and the jumps to them, whoever made them; foreign rules stay.
    In the end the rules are read again: nothing of ours may be left, and nothing foreign may have changed.
    'rollback' brings them back. Where both variants of iptables hold rules of ours, both are emptied, one
    after the other, unless --iptables chooses.

    \b
    Example:
      kproxy-nat delete --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with gc_paused(), opened_target(params, reporter) as target:
        chosen = params["variant"] is not None or target.in_process
        other = None if chosen else _other_variant(target)
        if other:
            _delete(replace(target, tools=find_tools(target.namespace, other)), reporter)
        _delete(target, reporter)


def _other_variant(target: Target) -> Variant | None:
    """Return the other variant of iptables if it holds rules of ours, too."""
    used = target.tools.variant
    holds_ours = used and target.namespace.run(other_holding, used) is Holding.OURS
    return used.other if used and holds_ours else None


def _delete(target: Target, reporter: Reporter) -> None:
    with locked_site(target, reporter) as (site, lock):
        live = site.read_all(site.engines.backends())
        warn_of_others(live, reporter)
        latest = site.generations.latest()
        record = latest.record if latest else None
        wanted = Wanted({backend: Dump(backend.family) for backend in live}, _given_back(site, record))
        plan = plan_for("delete", site, target.tools.variant, live, wanted)
        carry_out(plan, live, Way(target, site, lock, reporter))
        before = _foreign_parts(live)
        _prove(site, live, before)
        _delete_nfacct(site, record, reporter)
        foreign = sum(text.count("\n-A ") for text in before.values())
        write_stdout(
            f"{plan.namespace}: nothing of ours is left in {_looked_at(target, live)}; "
            f"foreign rules are as they were ({foreign})\n"
            if not reporter.quiet
            else ""
        )


def _looked_at(target: Target, live: Mapping[Backend, LiveRules]) -> str:
    """Return what was read: a tool that is not there tells nothing of the rules that the kernel may hold."""
    unread = [f"table {table}" for rules in live.values() for table in unreadable_tables(rules)]
    iptables = [f"iptables-{target.tools.variant}"] if target.tools.variant else []
    nftables = ["nftables"] if target.tools.nft else []
    return " and ".join([*iptables, *nftables]) + (f", {', '.join(unread)} not read" if unread else "")


def _given_back(site: Site, record: Record | None) -> dict[str, str]:
    """Return the settings that still have the values which we gave them, with those before."""
    if record is None:
        return {}
    changes = (change for change in record.original_sysctls if is_still_ours(site, change))
    return given_back(changes, record.forwarding)


def _delete_nfacct(site: Site, record: Record | None, reporter: Reporter) -> None:
    for name in site.namespace.run(delete_nfacct, record.own_nfacct) if record else ():
        reporter.note(f"the accounting object {name} stays: something else uses it")


def _foreign_parts(live: Mapping[Backend, LiveRules]) -> dict[Backend, str]:
    """Return what is not ours in iptables; no transaction of ours reaches other tables of nftables."""
    return {b: foreign_part(rules.dump) for b, rules in live.items() if b.mode is ProxyMode.IPTABLES}


def _prove(site: Site, backends: Iterable[Backend], before: Mapping[Backend, str]) -> None:
    """Look whether all of ours is gone and all else is there.

    Raises:
        KproxyNatError: it is not.
    """
    live = site.read_all(backends)
    for backend, rules in live.items():
        left = planner_of(backend).owned_rules(rules.dump)
        if left:
            message = f"{backend}: {len(left)} rules or chains are there again, such as {left[0]}"
            raise KproxyNatError(
                Problem(Code.NOT_AS_APPLIED, message, hint="something else may be writing rules")
            )
    for backend, foreign in _foreign_parts(live).items():
        if foreign != before[backend]:
            message = f"{backend}: foreign rules have changed meanwhile"
            raise KproxyNatError(Problem(Code.NOT_AS_APPLIED, message, hint="something else wrote rules"))
