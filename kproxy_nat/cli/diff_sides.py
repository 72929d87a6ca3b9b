"""The two sides of a difference: manifests as a node's view, or rules, from wherever they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from kproxy_nat.apply.namespaces import Namespace, open_host, open_namespace
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.tools import find_iptables
from kproxy_nat.cli.manifests import read_any_form
from kproxy_nat.cli.node import LoadedNode, load_node, require_iptables_mode
from kproxy_nat.cli.report import Reporter
from kproxy_nat.errors import Code, InvalidInputError, Location, Problem, Severity
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules, family_of_rules, load_dump
from kproxy_nat.lowering import chain_names
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset
from kproxy_nat.manifests.sources import STDIN, Reading, SourceText
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView

NAMESPACE_PREFIX = "netns:"
HOST_SOURCE = "host:"
_LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Side:
    """OLD or NEW. One that holds nothing has neither ``node`` nor ``rules``.

    Attributes:
        name: the source, as it was named.
        node: the manifests and what the node makes of them.
        rules: the rules of each family, where the source holds rules.
    """

    name: str
    node: LoadedNode | None = None
    rules: Mapping[IpFamily, DumpedRules] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the source holds nothing."""
        return self.node is None and not self.rules

    @property
    def shows_services(self) -> bool:
        """Whether Services can be read out of it."""
        return self.node is not None or any(
            chain_names.SERVICES in rules.dump.table("nat").chains for rules in self.rules.values()
        )

    def view(self, family: IpFamily) -> NodeView | None:
        """Return the node's view of a family, if the source holds manifests."""
        views = self.node.views if self.node else []
        return next((view for view in views if view.family is family), None)

    def dumped(self, family: IpFamily) -> DumpedRules:
        """Return the rules of a family; those of manifests are compiled."""
        view = self.view(family)
        if view is None:
            return self.rules.get(family) or DumpedRules(Dump(family))
        text = render_save(lower_to_ruleset(view))
        return DumpedRules(load_dump(text, family, self.name), text, self.name)


def load_side(source: str, params: dict[str, Any], reporter: Reporter) -> Side:
    """Read one side.

    Raises:
        InvalidInputError: it cannot be read, or is neither rules nor manifests.
        ApplyError: a namespace cannot be opened or asked.
    """
    if source == HOST_SOURCE:
        with open_host() as namespace:
            return Side(source, rules=_live_rules(namespace))
    if source.startswith(NAMESPACE_PREFIX):
        with open_namespace(source.removeprefix(NAMESPACE_PREFIX)) as namespace:
            return Side(source, rules=_live_rules(namespace))
    reading = read_any_form(source, recursive=params["recursive"], max_bytes=params["max_input_mib"] << 20)
    problems = [p for p in reading.problems if p.severity is Severity.ERROR]
    if problems:
        raise InvalidInputError(*problems)
    if reading.texts:
        return Side(source, _load_manifests(source, reading, params, reporter))
    reporter.report(reading.problems)
    if not reading.rules:
        reporter.note(f"{source} holds nothing")
    return Side(source, rules=_load_rules(reading.rules))


def _live_rules(namespace: Namespace) -> dict[IpFamily, DumpedRules]:
    tools = namespace.run(find_iptables)
    engine = RestoreEngine(tools, _LOCK_SECONDS)
    texts = {family: namespace.run(engine.save, family, counters=False) for family in IpFamily}
    name = f"{tools.description} of {namespace.label}"
    return {f: DumpedRules(load_dump(text, f, name), text, name) for f, text in texts.items()}


def _load_manifests(source: str, reading: Reading, params: dict[str, Any], reporter: Reporter) -> LoadedNode:
    if reading.rules:
        held = f"{reading.rules[0].name} holds rules, {reading.texts[0].name} does not"
        hint = "name a file or folder with one of the two"
        raise InvalidInputError(Problem(Code.NOT_A_MANIFEST, held, location=Location(source), hint=hint))
    if params["config"] == STDIN and source == STDIN:
        raise click.BadParameter("standard input can be read once", param_hint="'--config'")
    node = load_node({**params, "sources": (source,)}, reporter, reading=reading)
    require_iptables_mode(node.options, "compared")
    return node


def _load_rules(texts: list[SourceText]) -> dict[IpFamily, DumpedRules]:
    found: dict[IpFamily, DumpedRules] = {}
    for text in texts:
        family = family_of_rules(text.text, text.name)
        if family in found:
            message = f"these are {family} rules, and so are those of {found[family].source}"
            hint = "name one of the files"
            problem = Problem(Code.FAMILIES_DIFFER, message, location=Location(text.name), hint=hint)
            raise InvalidInputError(problem)
        found[family] = DumpedRules(load_dump(text.text, family, text.name), text.text, text.name)
    return found


def families_to_compare(old: Side, new: Side, wanted: str) -> list[IpFamily]:
    """Return the families that both sides speak of; rule files speak of those that they hold.

    ``wanted`` is one of them in lower case, or all.

    Raises:
        InvalidInputError: there is none.
    """
    limits = [set(side.rules) for side in (old, new) if side.rules]
    chosen = [family for family in IpFamily if wanted in ("all", family.lower())]
    families = [family for family in chosen if all(family in limit for limit in limits)]
    if not families:
        message = f"{old.name} holds {_listed(old)} rules, {new.name} {_listed(new)} rules"
        hint = "compare two files of the same family, and with --family that one"
        raise InvalidInputError(Problem(Code.FAMILIES_DIFFER, message, hint=hint))
    return families


def _listed(side: Side) -> str:
    return " and ".join(side.rules or IpFamily)
