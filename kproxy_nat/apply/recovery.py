"""The way back: to the rules before an apply, after a failure, a kill, or on demand."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.generations import Generation
from kproxy_nat.apply.nfacct_objects import delete_nfacct
from kproxy_nat.apply.planners import in_loading_order, plan_change
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.sysctls import change_sysctls, read_sysctl, restore_sysctls
from kproxy_nat.errors import ApplyError, Code, NotRestoredError, Problem, Severity

Warn = Callable[[Problem], None]

PATIENCE = 60
"""Seconds to wait for other programs: until we have our turn, rules are neither the old nor the new ones."""


class WayBack(enum.StrEnum):
    """How far something has been taken back: each is reached when the step of that name is done.

    Cut off at any of them, the way back is gone again from its start.
    """

    SETTINGS_BACK = "settings back"
    IPTABLES_BACK = "iptables back"
    IP6TABLES_BACK = "ip6tables back"
    NFT_IP_BACK = "nft ip back"
    NFT_IP6_BACK = "nft ip6 back"
    VERIFIED = "verified back"
    NFACCT_BACK = "nfacct back"
    DISCARDED = "discarded"


BACK = {backend: WayBack(f"{backend} back") for backend in Backend}


def take_back(
    site: Site,
    generation: Generation,
    counted: Mapping[Backend, str],
    warn: Warn,
    reached: Callable[[WayBack], None],
) -> None:
    """Make everything what it was before ``generation``, whatever part of it was carried out, and forget it.

    Args:
        site: where.
        generation: what is to be undone.
        counted: dumps from before with counters, where they are still known.
        warn: is told what was left alone, since somebody else has changed it meanwhile.
        reached: is told each step, when it is done.

    Raises:
        NotRestoredError: it cannot be.
    """
    _bring_back(site, generation, counted, warn, reached)
    site.generations.discard(generation)
    reached(WayBack.DISCARDED)


def _bring_back(
    site: Site,
    generation: Generation,
    counted: Mapping[Backend, str],
    warn: Warn,
    reached: Callable[[WayBack], None],
) -> None:
    try:
        record = generation.record
        old = {change.name: change.before for change in record.sysctls}
        new = {change.name: change.after for change in record.sysctls}
        for problem in site.namespace.run(restore_sysctls, old, new):
            warn(problem)
        site.namespace.run(change_sysctls, dict.fromkeys(record.forwarding, "1"))
        reached(WayBack.SETTINGS_BACK)
        before = in_loading_order({b: generation.before(b) for b in generation.backends()})
        with site.exclusive(generation.changed_backends(), PATIENCE):
            for backend, rules in site.start_reading(before).rules(before).items():
                site.load(backend, plan_change(backend, rules, before[backend], counted.get(backend)))
                reached(BACK[backend])
            site.verify(before)
        reached(WayBack.VERIFIED)
        if record.nfacct:
            site.namespace.run(delete_nfacct, record.nfacct)
        reached(WayBack.NFACCT_BACK)
    except ApplyError as error:
        label = site.namespace.label
        message = f"the rules of {label} are neither the old nor the new ones, or only in part"
        hint = f"what was there before is in {generation.path}; repeat the command to try again"
        raise NotRestoredError(*error.problems, Problem(Code.NOT_RESTORED, message, hint=hint)) from None


def recover(
    site: Site, generation: Generation, warn: Warn, reached: Callable[[WayBack], None] = lambda _: None
) -> str:
    """Finish what was cut off if all of it is there, else take it back; return a sentence about it.

    The arguments are those of :func:`take_back`.

    Raises:
        NotRestoredError: it cannot be taken back.
    """
    record = generation.record
    begun = f"{_article(record.action)} of {record.time}"
    if (generation.is_confirmed or not record.needs_confirmation) and _is_complete(site, generation):
        site.generations.finish(generation)
        return f"{begun} was cut off after all its rules were in place; it was carried to the end"
    take_back(site, generation, {}, warn, reached)
    reason = "was not confirmed" if record.needs_confirmation else "was cut off"
    return f"{begun} {reason}; what was there before was brought back"


def recovered(sentence: str) -> Problem:
    """Return the warning about something that was recovered."""
    return Problem(Code.RECOVERED, sentence, Severity.WARNING)


def _article(action: str) -> str:
    return f"an {action}" if action[:1] in "aeiou" else f"a {action}"


def _is_complete(site: Site, generation: Generation) -> bool:
    try:
        site.verify({backend: generation.after(backend) for backend in generation.backends()})
    except ApplyError:
        return False
    changes = generation.record.sysctls
    return all(site.namespace.run(read_sysctl, change.name) == change.after for change in changes)
