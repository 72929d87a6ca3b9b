"""Reading the proxy's options out of the rules that do not belong to a Service."""

from __future__ import annotations

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering import compact_names
from kproxy_nat.recover import model
from kproxy_nat.recover.iptables_layouts import jump_target
from kproxy_nat.recover.model import NodeSettings
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Drop, Masquerade, Return, SetMark
from kproxy_nat.ruleset.matches import Comment, CtState, Mark
from kproxy_nat.ruleset.rules import Rule


def read_settings(source: RuleSource) -> NodeSettings:
    """Return what the rules show of the proxy's options.

    Raises:
        InvalidInputError: a rule is broken.
    """
    marks = [
        a.value for r in source.rules("nat", names.MARK_MASQ) for a in r.actions if isinstance(a, SetMark)
    ]
    if not marks:
        return _read_compact(source)
    masquerades = [
        a for r in source.rules("nat", names.POSTROUTING) for a in r.actions if isinstance(a, Masquerade)
    ]
    return NodeSettings(
        mode=model.IPTABLES,
        layout=model.KUBE_PROXY,
        masquerade_mark=marks[0],
        node_ports_on=tuple(
            _condition(rule, source)
            for rule in source.rules("nat", names.SERVICES)
            if jump_target(rule) == names.NODE_PORTS
        ),
        guards_localhost=any(map(_drops, source.rules("filter", names.KUBELET_FIREWALL))),
        drops_invalid=any(map(_drops_invalid, source.rules("filter", names.FORWARD))),
        random_fully=any(action.random_fully for action in masquerades),
        masquerades_hairpin=True,
    )


def _read_compact(source: RuleSource) -> NodeSettings:
    """Return what rules of the compact layout show."""
    postrouting = source.rules("nat", compact_names.POSTROUTING)
    marks_ = [
        match.value
        for rule in postrouting
        for match in rule.matches
        if isinstance(match, Mark) and rule.actions == (Return(),)
    ]
    if not marks_:
        return NodeSettings()
    masquerades = [a for rule in postrouting for a in rule.actions if isinstance(a, Masquerade)]
    return NodeSettings(
        mode=model.IPTABLES,
        layout=model.COMPACT,
        masquerade_mark=marks_[0],
        node_ports_on=_compact_node_ports(source),
        guards_localhost=any(map(_drops, source.rules("filter", compact_names.INPUT))),
        drops_invalid=any(map(_drops_invalid, source.rules("filter", compact_names.FORWARD))),
        random_fully=bool(masquerades) and all(action.random_fully for action in masquerades),
        masquerades_hairpin=any(CtState in map(type, rule.matches) for rule in postrouting),
    )


def _compact_node_ports(source: RuleSource) -> tuple[str, ...] | None:
    if not source.rules("nat", compact_names.NODE_PORTS):
        return None
    return tuple(
        _condition(rule, source)
        for rule in source.rules("nat", compact_names.SERVICES)
        if jump_target(rule) == compact_names.NODE_PORTS
    )


def _drops_invalid(rule: Rule) -> bool:
    return _drops(rule) and any(isinstance(m, CtState) and m.states == ("INVALID",) for m in rule.matches)


def _drops(rule: Rule) -> bool:
    return any(isinstance(action, Drop) for action in rule.actions)


def _condition(rule: Rule, source: RuleSource) -> str:
    matches = tuple(match for match in rule.matches if not isinstance(match, Comment))
    return render_rule(Rule(matches, ()), source.family)
