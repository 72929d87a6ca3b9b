"""Reading the proxy's options out of the rules that do not belong to a Service."""

from __future__ import annotations

from kproxy_nat.formats.iptables_render import render_rule
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.recover import model
from kproxy_nat.recover.balancing import jump_target
from kproxy_nat.recover.model import KUBE_PROXY, NodeSettings
from kproxy_nat.recover.sources import RuleSource
from kproxy_nat.ruleset.actions import Drop, Masquerade, SetMark
from kproxy_nat.ruleset.matches import Comment, CtState
from kproxy_nat.ruleset.rules import Rule


def read_settings(source: RuleSource) -> NodeSettings:
    """Return what the rules show of the proxy's options.

    Raises:
        InvalidInputError: a rule is broken.
    """
    marks = [
        a.value for r in source.rules("nat", names.MARK_MASQ) for a in r.actions if isinstance(a, SetMark)
    ]
    masquerades = [
        a for r in source.rules("nat", names.POSTROUTING) for a in r.actions if isinstance(a, Masquerade)
    ]
    return NodeSettings(
        mode=model.IPTABLES if marks else "",
        layout=KUBE_PROXY if marks else "",
        masquerade_mark=marks[0] if marks else 0,
        node_ports_on=tuple(
            _condition(rule, source)
            for rule in source.rules("nat", names.SERVICES)
            if jump_target(rule) == names.NODE_PORTS
        ),
        guards_localhost=any(map(_drops, source.rules("filter", names.KUBELET_FIREWALL))),
        drops_invalid=any(
            _drops(rule) and any(isinstance(m, CtState) and m.states == ("INVALID",) for m in rule.matches)
            for rule in source.rules("filter", names.FORWARD)
        ),
        random_fully=any(action.random_fully for action in masquerades),
    )


def _drops(rule: Rule) -> bool:
    return any(isinstance(action, Drop) for action in rule.actions)


def _condition(rule: Rule, source: RuleSource) -> str:
    matches = tuple(match for match in rule.matches if not isinstance(match, Comment))
    return render_rule(Rule(matches, ()), source.family)
