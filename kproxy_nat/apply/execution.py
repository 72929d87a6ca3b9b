"""Carrying out a change: rehearsed, recorded, watched over, verified; all of it or nothing."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Loading
from kproxy_nat.apply.generations import Generation, Record, SysctlChange
from kproxy_nat.apply.head_start import HeadStart
from kproxy_nat.apply.nfacct_objects import ensure_nfacct, list_nfacct
from kproxy_nat.apply.planners import planner_of
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.recovery import Warn, WayBack, take_back
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.sysctls import change_sysctls, enabled_forwarding, read_sysctl
from kproxy_nat.apply.wanted import FORWARDING
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.formats.iptables_dump import Dump


class Step(enum.StrEnum):
    """How far a change has come: each is reached when the step of that name is done."""

    REHEARSED = "rehearsed"
    RECORDED = "recorded"
    WATCHED = "watched"
    NFACCT_MADE = "nfacct made"
    SYSCTLS_CLOSED = "sysctls closed"
    IPTABLES_LOADED = "iptables loaded"
    IP6TABLES_LOADED = "ip6tables loaded"
    NFT_IP_LOADED = "nft ip loaded"
    NFT_IP6_LOADED = "nft ip6 loaded"
    SYSCTLS_OPENED = "sysctls opened"
    VERIFIED = "verified"
    CONFIRMED = "confirmed"
    FINISHED = "finished"


OFF = "0"
"""Settings that are switched off are so before the rules that guard them go, others once those are there.

Rules keep neighbours away from the loopback network that route_localnet opens (CVE-2020-8558).
"""

LOADED = {backend: Step(f"{backend} loaded") for backend in Backend}


class Watch(Protocol):
    """Something that brings the old rules back when this process dies."""

    def over(self, generation: Generation) -> None:
        """Begin: from now on the generation is recovered when we die."""
        ...

    def until_confirmed(self, seconds: float) -> None:
        """Bring the old rules back unless the new ones, which are in place, are confirmed in time."""
        ...

    def decided(self) -> None:
        """Leave the matter to us again, as long as we live."""
        ...


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Ask somebody, for so long, whether the new rules may stay."""

    seconds: float
    ask: Callable[[Generation, float], bool]


@dataclass(frozen=True, slots=True)
class Execution:
    """What is to be done, and who wants to know of it.

    Attributes:
        changes: for each backend that is looked after, also those without a change, in the order of loading.
        sysctls: values wanted.
        nfacct: accounting objects that the rules refer to.
        reached: is told each step, when it is done; also those of the way back.
        warn: is told of what is doubtful and does not stop us.
        head_start: what the tool was told already.
    """

    changes: Mapping[Backend, FamilyChange]
    sysctls: Mapping[str, str]
    nfacct: Sequence[str]
    record: Record
    confirmation: Confirmation | None = None
    reached: Callable[[Step | WayBack], None] = field(default=lambda _: None)
    warn: Warn = field(default=lambda _: None)
    head_start: HeadStart | None = None


def execute(
    site: Site,
    live: Mapping[Backend, LiveRules],
    work: Execution,
    watch: Callable[[], AbstractContextManager[Watch]],
) -> Generation:
    """Carry out a change of ``live``, all of it or nothing; return its record.

    Raises:
        ApplyError: it failed, and all is as it was before.
        NotRestoredError: it failed, and so did the way back.
    """
    rehearse(site, work.changes)
    work.reached(Step.REHEARSED)
    with watch() as watchdog, _exclusive(site, work) as exclusive, _prepared(site, work) as prepared:
        before = {backend: planner_of(backend).owned_part(rules.dump) for backend, rules in live.items()}
        after = {b: planner_of(b).predict(before[b], change) for b, change in work.changes.items()}
        generation = _begin(site, work, before, after)
        work.reached(Step.RECORDED)
        try:
            watchdog.over(generation)
            work.reached(Step.WATCHED)
            _carry_out(site, after, work, prepared)
            exclusive.close()
            _confirm(generation, work.confirmation, watchdog)
            work.reached(Step.CONFIRMED)
            _check_still_there(site)
        except BaseException:
            _abandon(prepared)
            counted = {backend: rules.text for backend, rules in live.items()}
            take_back(site, generation, counted, work.warn, work.reached)
            raise
        finished = site.generations.finish(generation)
        work.reached(Step.FINISHED)
    return finished


def rehearse(site: Site, changes: Mapping[Backend, FamilyChange]) -> None:
    """Let the tool check everything but what is committed first: that is refused or taken whole anyway.

    Raises:
        ApplyError: the tool refuses something.
    """
    first = True
    for backend, change in changes.items():
        later = change.tables[1:] if first else change.tables
        if later:
            site.test(backend, FamilyChange(change.family, later))
        first = first and not change.tables


@contextmanager
def _exclusive(site: Site, work: Execution) -> Iterator[ExitStack]:
    """Keep other programs from writing until all is in place, or taken back; wait now for who is writing."""
    with ExitStack() as exclusive:
        if work.head_start:
            exclusive.callback(work.head_start.close)
        exclusive.enter_context(site.exclusive(b for b, change in work.changes.items() if change.tables))
        yield exclusive


@contextmanager
def _prepared(site: Site, work: Execution) -> Iterator[dict[Backend, Loading]]:
    """Prepare what is carried out first, while the record is written."""
    first = next((backend for backend, change in work.changes.items() if change.tables), None)
    prepared = {} if first is None else {first: _prepare(site, first, work)}
    try:
        yield prepared
    finally:
        _abandon(prepared)


def _prepare(site: Site, backend: Backend, work: Execution) -> Loading:
    change = work.changes[backend]
    begun = work.head_start.take(backend, change) if work.head_start else None
    return begun or site.prepare(backend, change)


def _abandon(prepared: Mapping[Backend, Loading]) -> None:
    for loading in prepared.values():
        loading.abandon()


def _begin(
    site: Site, work: Execution, before: Mapping[Backend, Dump], after: Mapping[Backend, Dump]
) -> Generation:
    record = work.record
    for name, value in work.sysctls.items():
        current = site.namespace.run(read_sysctl, name)
        if current != value:
            record.sysctls.append(SysctlChange(name, current or "", value))
    for family, name in FORWARDING.items():
        if any(change.name == name and change.before == OFF for change in record.sysctls):
            record.forwarding += site.namespace.run(enabled_forwarding, family)
    if work.nfacct:
        present = site.namespace.run(list_nfacct)
        record.nfacct.extend(name for name in work.nfacct if name not in present)
    _carry_on(record, site.generations.latest())
    record.needs_confirmation = work.confirmation is not None
    return site.generations.begin(record, before, after)


def _carry_on(record: Record, latest: Generation | None) -> None:
    """Note what has to be given back in the end, whichever apply has changed it."""
    earlier = latest.record if latest else None
    changed = {change.name: change for change in (earlier.original_sysctls if earlier else ())}
    for change in record.sysctls:
        first = changed.get(change.name, change)
        changed[change.name] = SysctlChange(change.name, first.before, change.after)
    record.original_sysctls = [change for change in changed.values() if change.before != change.after]
    record.forwarding = record.forwarding or (earlier.forwarding if earlier else [])
    record.own_nfacct = list(dict.fromkeys([*(earlier.own_nfacct if earlier else ()), *record.nfacct]))


def _carry_out(
    site: Site, after: Mapping[Backend, Dump], work: Execution, prepared: Mapping[Backend, Loading]
) -> None:
    if work.nfacct:
        site.namespace.run(ensure_nfacct, work.nfacct)
    work.reached(Step.NFACCT_MADE)
    closing = {name: value for name, value in work.sysctls.items() if value == OFF}
    site.namespace.run(change_sysctls, closing)
    work.reached(Step.SYSCTLS_CLOSED)
    for backend, change in work.changes.items():
        if backend in prepared:
            site.commit(prepared[backend])
        else:
            site.load(backend, change)
        work.reached(LOADED[backend])
    site.namespace.run(change_sysctls, {n: v for n, v in work.sysctls.items() if n not in closing})
    work.reached(Step.SYSCTLS_OPENED)
    site.verify({backend: after[backend] for backend, change in work.changes.items() if change.tables})
    work.reached(Step.VERIFIED)


def _confirm(generation: Generation, confirmation: Confirmation | None, watchdog: Watch) -> None:
    if confirmation is None:
        return
    watchdog.until_confirmed(confirmation.seconds)
    confirmed = confirmation.ask(generation, confirmation.seconds)
    if confirmed:
        generation.confirm()
    watchdog.decided()
    if not confirmed:
        message = f"not confirmed within {confirmation.seconds:g} s"
        hint = "what was there before is back; apply again, and confirm"
        raise ApplyError(Problem(Code.NOT_CONFIRMED, message, hint=hint))


def _check_still_there(site: Site) -> None:
    if not site.namespace.still_there():
        message = f"namespace {site.namespace.label} was deleted meanwhile"
        raise ApplyError(Problem(Code.NAMESPACE_NOT_FOUND, message))
