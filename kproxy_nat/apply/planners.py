"""How the rules of a backend are cut up, compared and put together again, by the mode that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kproxy_nat.apply import nft_planning, planning
from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.formats.iptables_dump import Dump, join_dump, split_dump
from kproxy_nat.formats.nft_dump import join_listing, split_listing
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode


@dataclass(frozen=True, slots=True)
class Planner:
    """The functions of one mode; those for iptables are documented in ``apply.planning``.

    Attributes:
        split: cuts the text of an engine, or of a record, into chains; faster if it is told what dump they
            are expected to be like.
        join: writes the text of a record.
        plan_change: takes the live rules, those wanted, and a text with counters or ``None``.
    """

    split: Callable[[str, IpFamily, Dump | None], Dump]
    join: Callable[[Dump], str]
    plan_change: Callable[[LiveRules, Dump, str | None], FamilyChange]
    difference: Callable[[LiveRules, Dump], FamilyChange]
    predict: Callable[[Dump, FamilyChange], Dump]
    owned_part: Callable[[Dump], Dump]
    owned_rules: Callable[[Dump], list[str]]


_PLANNERS = {
    ProxyMode.IPTABLES: Planner(
        split_dump,
        join_dump,
        planning.plan_change,
        planning.difference,
        planning.predict,
        planning.owned_part,
        planning.owned_rules,
    ),
    ProxyMode.NFTABLES: Planner(
        lambda text, family, _like: split_listing(text, family),
        join_listing,
        nft_planning.plan_change,
        nft_planning.plan_change,
        nft_planning.predict,
        nft_planning.owned_part,
        nft_planning.owned_rules,
    ),
}


def planner_of(backend: Backend) -> Planner:
    """Return the functions for the rules of a backend."""
    return _PLANNERS[backend.mode]


def in_loading_order(wanted: Mapping[Backend, Dump]) -> dict[Backend, Dump]:
    """Return the same with those that hold rules first: new rules stand before old ones go."""
    order = sorted(wanted, key=lambda backend: not planner_of(backend).owned_rules(wanted[backend]))
    return {backend: wanted[backend] for backend in order}


def plan_change(backend: Backend, live: LiveRules, wanted: Dump, counted: str | None = None) -> FamilyChange:
    """Return the change from the live rules to those wanted; see :func:`planning.plan_change`.

    Raises:
        ApplyError: foreign rules are in the way.
    """
    return planner_of(backend).plan_change(live, wanted, counted)


def difference(backend: Backend, live: LiveRules, wanted: Dump) -> FamilyChange:
    """Return where the live rules are not as they were wanted; see :func:`planning.difference`.

    Raises:
        ApplyError: they cannot be told.
    """
    return planner_of(backend).difference(live, wanted)
