"""``kproxy-nat status``: what a namespace holds, compared with what was applied."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import click
import msgspec

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import ChainChange, Lines
from kproxy_nat.apply.engines import find_tools
from kproxy_nat.apply.generations import Generation, InputDigest
from kproxy_nat.apply.planners import difference
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.service_counters import ServiceCounters, service_counters
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.sysctls import read_sysctl
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.node import gc_paused
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.cli.planning import warn_of_others
from kproxy_nat.cli.target import UNFINISHED, Target, left_iptables_rules, opened_target, target_options
from kproxy_nat.errors import Code, KproxyNatError, Problem
from kproxy_nat.json_text import json_text

DRIFT = 1
"""The exit status when the live rules are not those that were applied."""

FORMAT = "kproxy-nat/status"
VERSION = 1


class Drift(enum.StrEnum):
    """What became of a chain since it was applied."""

    GONE = "gone"
    NEW = "new"
    CHANGED = "changed"


_WORDS = {Drift.GONE: ": it is gone", Drift.NEW: ": it was not applied", Drift.CHANGED: ""}
_MOVED = ": its rules are in another order"


class Difference(msgspec.Struct, frozen=True):
    """A chain that is not as it was applied: rules that are missing, and rules that were not applied.

    One that has ``changed`` with neither has its rules in another order.
    """

    backend: Backend
    table: str
    chain: str
    change: Drift
    missing: list[str]
    unexpected: list[str]


class SettingDifference(msgspec.Struct, frozen=True):
    """A kernel setting that has not the value which it was given."""

    name: str
    applied: str
    live: str | None


class Status(msgspec.Struct, frozen=True):
    """The whole; action, engine and inputs are those of the last command.

    Attributes:
        since: when each backend was looked after last; a command may be about one family only.
        unfinished: whether a command is under way, or was cut off.
    """

    format: str
    version: int
    namespace: str
    action: str
    time: str
    engine: str
    inputs: list[InputDigest]
    since: dict[Backend, str]
    in_step: bool
    drift: list[Difference]
    settings: list[SettingDifference]
    unfinished: bool
    services: list[ServiceCounters]


@click.command("status", short_help="Compare a namespace with what was applied to it.")
@click.option(
    "-o",
    "--output",
    "status_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: see docs/apply.md.",
)
@target_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Compare the live rules with what was applied, and tell since when, and what went through each Service.

    Exit status: 0 in step, 1 drift or nothing applied.

    \b
    Example:
      kproxy-nat status --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with gc_paused(), opened_target(params, reporter) as target:
        site = target.site()
        latest = site.generations.latest()
        if latest is None:
            message = f"nothing was applied to {target.namespace.label}"
            hint = "records are of one namespace from its creation to its end, in --state-dir"
            raise KproxyNatError(Problem(Code.NOTHING_APPLIED, message, hint=hint))
        applied = site.generations.by_backend()
        live = _read(target, applied, as_applied=params["variant"] is None and not target.in_process)
        warn_of_others(live, reporter)
        status = _status(site, latest, applied, live)
    as_json = params["status_format"] == "json"
    text = json_text(status) if as_json else ""
    write_stdout(text or "".join(f"{line}\n" for line in _lines(status)))
    if not status.in_step:
        ctx.exit(DRIFT)


def _read(
    target: Target, applied: Mapping[Backend, Generation], *, as_applied: bool
) -> dict[Backend, LiveRules]:
    """Return the live rules, read ``as_applied``: of each family by the variant that it was applied with."""
    elsewhere = {
        backend: generation.record.variant
        for backend, generation in applied.items()
        if as_applied
        and generation.record.variant != target.tools.variant
        and left_iptables_rules(backend, generation)
    }
    live = target.site().read_all(backend for backend in applied if backend not in elsewhere)
    for backend, variant in elsewhere.items():
        place = replace(target, tools=find_tools(target.namespace, variant))
        live |= place.site().read_all([backend])
    return {backend: live[backend] for backend in applied}


def _status(
    site: Site,
    latest: Generation,
    applied: Mapping[Backend, Generation],
    live: Mapping[Backend, LiveRules],
) -> Status:
    record = latest.record
    drift = [d for backend, rules in live.items() for d in _drift(applied[backend], backend, rules)]
    settings = [
        SettingDifference(change.name, change.after, value)
        for change in record.original_sysctls
        if (value := site.namespace.run(read_sysctl, change.name)) != change.after
    ]
    return Status(
        FORMAT,
        VERSION,
        site.namespace.label,
        record.action,
        record.time,
        record.engine,
        record.inputs,
        {backend: generation.record.time for backend, generation in applied.items()},
        not drift and not settings,
        drift,
        settings,
        site.generations.unfinished() is not None,
        [c for backend, rules in live.items() for c in service_counters(rules.text, backend.family)],
    )


def _drift(applied: Generation, backend: Backend, live: LiveRules) -> Iterator[Difference]:
    for table in difference(backend, live, applied.after(backend)).tables:
        for chain in table.chains:
            yield _difference(backend, table.table, chain)


def _difference(backend: Backend, table: str, chain: ChainChange) -> Difference:
    held, applied = chain.before or (), chain.after or ()
    change = Drift.GONE if chain.before is None else Drift.NEW if chain.after is None else Drift.CHANGED
    return Difference(backend, table, chain.name, change, _without(applied, held), _without(held, applied))


def _without(lines: Lines, others: Lines) -> list[str]:
    return [line for line in lines if line not in set(others)]


def _lines(status: Status) -> Iterator[str]:
    name = status.namespace
    inputs = ", ".join(source.source for source in status.inputs)
    origin = f", from {inputs}" if inputs else ""
    yield f"{name}: {status.action} of {status.time} with {status.engine}{origin}"
    others = {backend: time for backend, time in status.since.items() if time != status.time}
    yield from (f"{name}: {backend} as of {time}" for backend, time in others.items())
    if status.unfinished:
        yield f"{name}: {UNFINISHED}"
    yield f"{name}: {'in step' if status.in_step else 'drift'}"
    for drift in status.drift:
        place = f"{drift.backend} {drift.table} {drift.chain}"
        moved = drift.change is Drift.CHANGED and not (drift.missing or drift.unexpected)
        yield f"  {place}{_WORDS[drift.change]}{_MOVED if moved else ''}"
        yield from (f"    - {line}" for line in drift.missing)
        yield from (f"    + {line}" for line in drift.unexpected)
    for setting in status.settings:
        yield f"  {setting.name} is {setting.live}, not {setting.applied}"
    for service in status.services:
        yield from _service_lines(service)


def _service_lines(service: ServiceCounters) -> Iterator[str]:
    yield f"{service.service} ({service.family}), connections:"
    width = max(
        len(text) for text in [f.to for f in service.frontends] + [e.endpoint for e in service.endpoints]
    )
    for frontend in service.frontends:
        yield f"  {frontend.to:<{width}}  {frontend.connections}"
    for endpoint in service.endpoints:
        yield f"    {endpoint.endpoint:<{width}}  {endpoint.connections}"
