"""From a rule that the kernel refused back to the manifest that it was made for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kproxy_nat.apply.restore_engine import RuleRefusedError
from kproxy_nat.errors import ApplyError, Location
from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.rules import RuleOrigin


def blame(error: RuleRefusedError, views: Iterable[NodeView], layout: Layout) -> ApplyError:
    """Return the error with the Service and the line of the manifest, where the rule was made for one."""
    arguments = error.rule.partition("-A ")[2]
    for view in views:
        origin = _origin(layout, view, *arguments.split(" ", 1)) if " " in arguments else None
        if origin is not None:
            place = Location(origin.source, origin.line)
            problem = replace(error.problems[0], location=place, subject=f"Service {origin.subject}")
            return ApplyError(problem)
    return error


def _origin(layout: Layout, view: NodeView, chain: str, arguments: str) -> RuleOrigin | None:
    for _, candidate, rule in layout.ruleset(view).rules():
        if candidate.name == chain and rule.origin and render_rule(rule, view.family) == arguments:
            return rule.origin
    return None
