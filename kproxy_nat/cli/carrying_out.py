"""Carrying out a plan from the command line: with words, and with a question where one was asked for."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from kproxy_nat import __version__
from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.conntrack import remove_stale_flows
from kproxy_nat.apply.execution import Confirmation, Execution, execute
from kproxy_nat.apply.generations import FORMAT, VERSION, Generation, Record
from kproxy_nat.apply.head_start import HeadStart
from kproxy_nat.apply.locking import Lock
from kproxy_nat.apply.plan import Plan
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.watchdog import watchdog
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.cli.plan_text import plan_text, summary_lines
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import Target

_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Way:
    """How a plan is carried out.

    Attributes:
        confirm: how many seconds somebody has to confirm it.
        undoes: the number of the generation that it takes back.
        head_start: what the tool was told already.
    """

    target: Target
    site: Site
    lock: Lock
    reporter: Reporter
    confirm: float | None = None
    undoes: int = 0
    head_start: HeadStart | None = None


def carry_out(plan: Plan, live: Mapping[Backend, LiveRules], way: Way) -> Generation | None:
    """Carry out a plan, and say what was done; return its record, or nothing if there was nothing to do.

    Raises:
        ApplyError: it failed, and all is as it was before.
        NotRestoredError: it failed, and so did the way back.
    """
    reporter = way.reporter
    if reporter.verbose and not plan.is_empty:
        reporter.note(f"the plan:\n{plan_text(plan, color=False)}")
    generation = None if plan.is_empty else _execute(plan, live, way)
    lines = [*summary_lines(plan), *_remove_stale_flows(plan, way)]
    if generation is not None:
        lines.append(f"{plan.namespace}: {plan.action} done and verified")
    write_stdout("".join(f"{line}\n" for line in lines) if not reporter.quiet else "")
    return generation


def _execute(plan: Plan, live: Mapping[Backend, LiveRules], way: Way) -> Generation:
    confirmation = Confirmation(way.confirm, partial(_ask, way)) if way.confirm else None
    work = Execution(
        plan.changes,
        plan.sysctls,
        plan.nfacct,
        _record(plan, way),
        confirmation,
        reached=way.reporter.explain,
        warn=lambda problem: way.reporter.report([problem]),
        head_start=way.head_start,
    )
    watch = partial(watchdog, way.site, plan.variant, way.lock)
    return execute(way.site, live, work, watch)


def _record(plan: Plan, way: Way) -> Record:
    return Record(
        FORMAT,
        VERSION,
        __version__,
        plan.action,
        plan.namespace,
        plan.identity,
        datetime.now(UTC).isoformat(timespec="seconds"),
        plan.variant,
        way.site.engines.of(next(iter(plan.changes)).mode).description,
        plan.inputs,
        plan.options,
        plan.services,
        undoes=way.undoes,
        udp_services=plan.udp_services,
    )


def _remove_stale_flows(plan: Plan, way: Way) -> list[str]:
    lines: list[str] = []
    for family, services in plan.udp_services.items():
        removal = way.site.namespace.run(remove_stale_flows, services, family)
        way.reporter.report(removal.problems)
        lines += (f"{plan.namespace}: removed stale flow {flow}" for flow in removal.flows)
    return lines


def _ask(way: Way, generation: Generation, seconds: float) -> bool:
    """Wait for somebody to confirm, here or with ``kproxy-nat confirm``; return whether somebody did."""
    here = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    label = way.site.namespace.label
    answer = (
        "type y to keep it, n to go back"
        if here
        else f"confirm with: kproxy-nat confirm {way.target.options}"
    )
    way.reporter.note(f"{label}: in place; {answer}; the old rules come back in {seconds:g} s")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if generation.is_confirmed:
            return True
        if here and select.select([sys.stdin], [], [], _PAUSE)[0]:
            word = sys.stdin.readline()
            if word.strip().lower() in ("y", "yes"):
                return True
            if not word or word.strip().lower() in ("n", "no"):
                return False
        elif not here:
            time.sleep(_PAUSE)
    return generation.is_confirmed
