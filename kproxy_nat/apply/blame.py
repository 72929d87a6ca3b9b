"""From a rule that the kernel refused back to the manifest that it was made for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from kproxy_nat.apply.running import RuleRefusedError
from kproxy_nat.errors import ApplyError, Location
from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.formats.nft_render import listed_rule
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.rules import Rule, RuleOrigin

_RULE = re.compile(r"(?:\[\S+\] )?-A (?P<chain>\S+) (?P<words>.*)")
_NFT_RULE = re.compile(r"add rule \S+ \S+ (?P<chain>\S+) (?P<words>.*)")


def blame(error: RuleRefusedError, views: Iterable[NodeView], layout: Layout) -> ApplyError:
    """Return the error with the Service and the line of the manifest, where the rule was made for one."""
    refused = _RULE.fullmatch(error.rule) or _NFT_RULE.fullmatch(error.rule)
    for view in views:
        origin = _origin(layout, view, refused["chain"], refused["words"]) if refused else None
        if origin is not None:
            place = Location(origin.source, origin.line)
            problem = replace(error.problems[0], location=place, subject=f"Service {origin.subject}")
            return ApplyError(problem)
    return error


def _origin(layout: Layout, view: NodeView, chain: str, words: str) -> RuleOrigin | None:
    for candidate, rule, text in _rules(layout, view):
        if candidate == chain and rule.origin and text(rule) == words:
            return rule.origin
    return None


def _rules(layout: Layout, view: NodeView) -> Iterator[tuple[str, Rule, Callable[[Rule], str]]]:
    """Yield each rule with its chain and what tells how the tool was given it."""
    if view.options.mode is ProxyMode.NFTABLES:
        for table, chain, rule in layout.nft_ruleset(view).rules():
            yield chain.name, rule, partial(listed_rule, table=table)
    else:
        for _, chain, rule in layout.ruleset(view).rules():
            yield chain.name, rule, partial(render_rule, family=view.family)
