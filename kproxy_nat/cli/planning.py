"""From a command's parameters and a namespace to a plan, as plan and apply both need it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.execution import OFF
from kproxy_nat.apply.facts import NamespaceFacts, read_facts
from kproxy_nat.apply.generations import InputDigest, SysctlChange
from kproxy_nat.apply.head_start import HeadStart
from kproxy_nat.apply.ownership import managed_by_kube_proxy
from kproxy_nat.apply.plan import Plan, Wanted, is_plan, make_plan, parse_plan
from kproxy_nat.apply.planning import LiveRules, cannot_read, unreadable_tables
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.sysctls import read_sysctl
from kproxy_nat.apply.tools import Variant
from kproxy_nat.apply.wanted import ROUTE_LOCALNET, Foresee, backends_for, wanted_for
from kproxy_nat.cli.node import LoadedNode, load_node
from kproxy_nat.cli.options import layout_from
from kproxy_nat.cli.rendering import json_assumptions
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import Target
from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.options import Overrides
from kproxy_nat.proxy.view import NodeView

F = TypeVar("F", bound=Callable[..., Any])

_FAMILIES = {"ipv4": (IpFamily.IPV4,), "ipv6": (IpFamily.IPV6,), "all": tuple(IpFamily)}
_NOT_RECORDED = frozenset(("sources", "output", "out", "confirm", "plan_format", "detailed_exitcode"))
_PLAN_START = 4096


def apply_options(command: F) -> F:
    """Add the options that plan and apply share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--family",
        type=click.Choice(list(_FAMILIES)),
        default="all",
        show_default=True,
        help="Which rules are looked after; the others stay as they are.",
    ),
    click.option(
        "--forwarding", is_flag=True, help="Let the namespace forward packets, too (sysctl ip_forward)."
    ),
]


def saved_plan(sources: Sequence[str]) -> Plan | None:
    """Return the plan that the only source holds; ``None`` if it holds something else.

    Raises:
        InvalidInputError: it is a plan, but not one of ours, or damaged.
    """
    if len(sources) != 1:
        return None
    path = Path(sources[0])
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            start = file.read(_PLAN_START)
            return parse_plan(start + file.read(), sources[0]) if is_plan(start) else None
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class LoadedViews:
    """The input as the namespace sees it, and how its rules are arranged.

    Attributes:
        views: of the families that are to be applied.
    """

    node: LoadedNode
    views: list[NodeView]
    layout: Layout


def load_views(params: dict[str, Any], target: Target, reporter: Reporter) -> LoadedViews:
    """Read and check the sources for the namespace.

    Raises:
        InvalidInputError: something is wrong with the input.
        ApplyError: the namespace cannot be asked.
    """
    facts = target.namespace.run(read_facts)
    node = load_node(params, reporter, lambda overrides: _completed(overrides, facts))
    views = [view for view in node.views if view.family in _FAMILIES[params["family"]]]
    usable = [view for view in views if view.family in facts.families]
    _mention_unusable([view for view in views if view not in usable], target, reporter)
    reporter.report(dict.fromkeys(problem for view in usable for problem in find_conflicts(view)))
    return LoadedViews(node, usable, layout_from(params))


def read_and_compile(
    loaded: LoadedViews, site: Site, params: dict[str, Any], head_start: HeadStart | None = None
) -> tuple[dict[Backend, LiveRules], Wanted]:
    """Return the live rules, and what is wanted, which is compiled while those are read.

    The tool that is to load the rules gets what it can of a ``head_start`` meanwhile.

    Raises:
        ApplyError: they cannot be read.
    """
    backends = site.engines.backends()
    reading = site.start_reading(backends_for(loaded.views, backends))
    foresee = partial(head_start.give, reading) if head_start else None
    wanted = _wanted(loaded, backends, params, foresee)
    return reading.rules(wanted.rules), wanted


def _wanted(
    loaded: LoadedViews, backends: Sequence[Backend], params: dict[str, Any], foresee: Foresee | None
) -> Wanted:
    node = loaded.node
    digests = [InputDigest(text.name, hashlib.sha256(text.text.encode()).hexdigest()) for text in node.texts]
    return wanted_for(
        node.cluster,
        node.options,
        loaded.views,
        loaded.layout,
        backends,
        forwarding=params["forwarding"],
        inputs=digests,
        given=_given(params),
        assumptions=json_assumptions(node.assumptions),
        foresee=foresee,
    )


def plan_for(
    action: str, site: Site, variant: Variant | None, live: Mapping[Backend, LiveRules], wanted: Wanted
) -> Plan:
    """Return the plan that makes the live rules what is wanted.

    Raises:
        ApplyError: foreign rules are in the way.
    """
    namespace = site.namespace
    settings = _unguarded(site, wanted) | wanted.sysctls
    sysctls = {n: v for n, v in settings.items() if namespace.run(read_sysctl, n) != v}
    if OFF in sysctls.values():
        # Forwarding that is switched off for all interfaces has to be switched on for some again.
        sysctls |= wanted.sysctls
    return make_plan(action, namespace.label, namespace.identity, variant, live, wanted, sysctls)


def _unguarded(site: Site, wanted: Wanted) -> dict[str, str]:
    """Return the setting that rules of iptables need and guard, as it was before, where these rules go."""
    latest = site.generations.latest()
    rules = wanted.rules.get(Backend.IPTABLES)
    if latest is None or rules is None or rules.tables:
        return {}
    changes = latest.record.original_sysctls
    return {c.name: c.before for c in changes if c.name == ROUTE_LOCALNET and is_still_ours(site, c)}


def is_still_ours(site: Site, change: SysctlChange) -> bool:
    """Whether a setting has the value that we gave it."""
    return site.namespace.run(read_sysctl, change.name) == change.after


def given_back(changes: Iterable[SysctlChange], forwarding: Sequence[str]) -> dict[str, str]:
    """Return the settings' values before; with those of interfaces that follow one for all of them."""
    before = {change.name: change.before for change in changes}
    return before | (dict.fromkeys(forwarding, "1") if OFF in before.values() else {})


def warn_of_others(live: Mapping[Backend, LiveRules], reporter: Reporter) -> None:
    """Warn if a kube-proxy looks after the rules, too, or somebody has written what cannot be read."""
    if any(managed_by_kube_proxy(rules.dump) for rules in live.values()):
        message = "a kube-proxy runs here (chain KUBE-PROXY-CANARY); it will write its own rules over these"
        reporter.report([Problem(Code.OTHER_PROXY, message, Severity.WARNING, hint="stop it first")])
    unreadable = (table for rules in live.values() for table in unreadable_tables(rules))
    reporter.report(cannot_read(table, Severity.WARNING) for table in unreadable)


def _completed(overrides: Overrides, facts: NamespaceFacts) -> Overrides:
    """Let the namespace tell what the command line does not."""
    return replace(
        overrides,
        local_addresses=overrides.local_addresses or facts.addresses,
        nfacct_available=facts.nfacct,
        tcp_be_liberal=facts.tcp_be_liberal,
    )


def _mention_unusable(views: Sequence[NodeView], target: Target, reporter: Reporter) -> None:
    for view in views:
        reporter.note(f"{view.family} is switched off in {target.namespace.label}; its rules are left alone")


def _given(params: dict[str, Any]) -> dict[str, str]:
    """Return the options that were given on the command line, as texts for the record."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {
        name: str(value)
        for name, value in sorted(params.items())
        if name not in _NOT_RECORDED and context.get_parameter_source(name) is not default
    }
