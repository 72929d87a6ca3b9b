"""The two sides of a difference: manifests as a node's view, or rules, from wherever they are read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from kproxy_nat.apply.engines import find_tools
from kproxy_nat.apply.namespaces import Namespace, open_host, open_namespace
from kproxy_nat.apply.nft_ruleset import IPTABLES_LABELS, STANDBY_LABELS, list_ruleset
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.tools import IptablesTools, Variant
from kproxy_nat.cli.manifests import read_any_form
from kproxy_nat.cli.node import LoadedNode, load_node
from kproxy_nat.cli.options import layout_from
from kproxy_nat.cli.report import Reporter
from kproxy_nat.cli.target import HOST_SOURCE, NAMESPACE_PREFIX, recorded_variant
from kproxy_nat.errors import ApplyError, Code, InvalidInputError, Location, Problem, Severity
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.iptables_rule_files import DumpedRules, family_of_rules, load_dump
from kproxy_nat.formats.nft_rule_files import NftRules, from_tables, is_nft, load_nft
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.manifests.sources import STDIN, Reading, SourceText
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.recover.reading import layouts_of
from kproxy_nat.ruleset.rules import NFT_FAMILIES

_LOCK_SECONDS = 10
_NO_TABLES = NftRules({})


@dataclass(frozen=True)
class Side:
    """OLD or NEW. One that holds nothing has neither ``node`` nor rules.

    Attributes:
        name: the source, as it was named.
        node: the manifests and what the node makes of them.
        rules: the rules of iptables of each family, where the source holds such.
        tables: the tables of nftables, where it holds such.
        layout: what manifests are compiled to.
    """

    name: str
    node: LoadedNode | None = None
    rules: Mapping[IpFamily, DumpedRules] = field(default_factory=dict)
    tables: NftRules = _NO_TABLES
    layout: Layout = field(default_factory=Layout)

    @property
    def is_empty(self) -> bool:
        """Whether the source holds nothing."""
        return self.node is None and not self.holds_rules

    @property
    def holds_rules(self) -> bool:
        """Whether the source holds rules, not manifests."""
        return bool(self.rules or self.tables.listed)

    @property
    def families(self) -> list[IpFamily]:
        """The families that the source has rules of; all, if it does not matter or cannot be told."""
        held = {family for family, nft in NFT_FAMILIES.items() if nft in self._nft_families}
        return [family for family in IpFamily if family in held | self.rules.keys()] or list(IpFamily)

    @functools.cached_property
    def _nft_families(self) -> set[str]:
        return {table.family for table in self.tables.listed.values()}

    @property
    def shows_services(self) -> bool:
        """Whether Services can be read out of it."""
        return self.node is not None or any(
            layouts_of(self.rules.get(family), self.tables, family) for family in IpFamily
        )

    @property
    def mode(self) -> ProxyMode | None:
        """The mode that manifests are compiled for."""
        return self.node.options.mode if self.node else None

    def view(self, family: IpFamily) -> NodeView | None:
        """Return the node's view of a family, if the source holds manifests."""
        views = self.node.views if self.node else []
        return next((view for view in views if view.family is family), None)

    def dumped(self, family: IpFamily) -> DumpedRules:
        """Return the rules of iptables of a family; those of manifests are compiled."""
        view = self.view(family)
        if view is None or self.mode is ProxyMode.NFTABLES:
            return self.rules.get(family) or DumpedRules(Dump(family))
        text = render_save(self.layout.ruleset(view))
        return DumpedRules(load_dump(text, family, self.name), text, self.name)

    @functools.cached_property
    def nft(self) -> NftRules:
        """The tables of nftables; those of manifests are compiled."""
        if self.node is None or self.mode is not ProxyMode.NFTABLES:
            return self.tables
        rulesets = map(self.layout.nft_ruleset, self.node.views)
        return from_tables((table for r in rulesets for table in r.tables.values()), self.name)


def load_side(source: str, params: dict[str, Any], reporter: Reporter) -> Side:
    """Read one side.

    Raises:
        InvalidInputError: it cannot be read, or is neither rules nor manifests.
        ApplyError: a namespace cannot be opened or asked.
    """
    if source == HOST_SOURCE:
        with open_host() as namespace:
            return _live_side(source, namespace, params)
    if source.startswith(NAMESPACE_PREFIX):
        with open_namespace(source.removeprefix(NAMESPACE_PREFIX)) as namespace:
            return _live_side(source, namespace, params)
    reading = read_any_form(source, recursive=params["recursive"], max_bytes=params["max_input_mib"] << 20)
    problems = [p for p in reading.problems if p.severity is Severity.ERROR]
    if problems:
        raise InvalidInputError(*problems)
    if reading.texts:
        node = _load_manifests(source, reading, params, reporter)
        return Side(source, node, layout=layout_from(params))
    reporter.report(reading.problems)
    if not reading.rules:
        reporter.note(f"{source} holds nothing")
    own = [text for text in reading.rules if not is_nft(text.text)]
    tables = [text for text in reading.rules if is_nft(text.text)]
    reporter.report(_cut_off(tables))
    joined = _joined([load_nft(text.text, text.name) for text in tables])
    return Side(source, rules=_load_rules(own), tables=joined)


def _cut_off(texts: Iterable[SourceText]) -> Iterator[Problem]:
    """Warn of scripts of nft that end within a line: the words that are there may be a command already."""
    for text in texts:
        if text.text.rstrip(" \t")[-1:] not in ("\n", "}"):
            location = Location(text.name, text.text.count("\n") + 1)
            message, hint = "the last line does not end", "the text may have been cut off"
            yield Problem(Code.RULES_UNFINISHED, message, Severity.WARNING, location=location, hint=hint)


def _live_side(source: str, namespace: Namespace, params: dict[str, Any]) -> Side:
    """Read the rules of iptables, of one variant, and the tables of nftables that are not that one's."""
    asked = Variant(params["variant"]) if params["variant"] else None
    variant = asked or recorded_variant(namespace, params["state_dir"])
    tools = find_tools(namespace, variant)
    if tools.nft is None and isinstance(tools.iptables, ApplyError):
        raise tools.iptables
    rules: dict[IpFamily, DumpedRules] = {}
    if isinstance(tools.iptables, IptablesTools):
        engine = RestoreEngine(tools.iptables, _LOCK_SECONDS)
        name = f"{tools.iptables.description} of {namespace.label}"
        texts = {family: namespace.run(engine.save, family, counters=False) for family in IpFamily}
        rules = {f: DumpedRules(load_dump(text, f, name), text, name) for f, text in texts.items()}
    listing = namespace.run(list_ruleset, tools.nft) if tools.nft else ""
    tables = load_nft(listing, f"nft of {namespace.label}")
    others = IPTABLES_LABELS if tools.variant is Variant.NFT else frozenset()
    return Side(source, rules=rules, tables=tables.without(others | STANDBY_LABELS))


def _load_manifests(source: str, reading: Reading, params: dict[str, Any], reporter: Reporter) -> LoadedNode:
    if reading.rules:
        held = f"{reading.rules[0].name} holds rules, {reading.texts[0].name} does not"
        hint = "name a file or folder with one of the two"
        raise InvalidInputError(Problem(Code.NOT_A_MANIFEST, held, location=Location(source), hint=hint))
    if params["config"] == STDIN and source == STDIN:
        raise click.BadParameter("standard input can be read once", param_hint="'--config'")
    try:
        return load_node({**params, "sources": (source,)}, reporter, reading=reading)
    except InvalidInputError as error:
        raise InvalidInputError(*map(_of_either_kind, error.problems)) from None


def _of_either_kind(problem: Problem) -> Problem:
    """Say of what is no manifest how rules would be told."""
    if problem.code is not Code.NOT_A_MANIFEST:
        return problem
    hint = "manifests begin with apiVersion and kind, rules with *TABLE or table FAMILY NAME {"
    return dataclasses.replace(problem, hint=hint)


def _load_rules(texts: Sequence[SourceText]) -> dict[IpFamily, DumpedRules]:
    found: dict[IpFamily, DumpedRules] = {}
    for text in texts:
        family = family_of_rules(text.text, text.name)
        if family in found:
            raise _held_twice(f"{family} rules", text.name, found[family].source)
        found[family] = DumpedRules(load_dump(text.text, family, text.name), text.text, text.name)
    return found


def _joined(files: Sequence[NftRules]) -> NftRules:
    """Return the tables of several files as one."""
    if len(files) < 2:
        return files[0] if files else _NO_TABLES
    joined = files[0]
    for other in files[1:]:
        twice = sorted(joined.listed.keys() & other.listed.keys())
        if twice:
            raise _held_twice(f"rules of table {twice[0]}", other.source, joined.source)
        joined = joined.joined(other)
    return joined


def _held_twice(what: str, source: str, other: str) -> InvalidInputError:
    message = f"these are {what}, and so are those of {other}"
    hint = "name one of the files"
    return InvalidInputError(Problem(Code.FAMILIES_DIFFER, message, location=Location(source), hint=hint))


def families_to_compare(old: Side, new: Side, wanted: str) -> list[IpFamily]:
    """Return the families that both sides speak of; rule files speak of those that they hold.

    ``wanted`` is one of them in lower case, or all.

    Raises:
        InvalidInputError: there is none.
    """
    limits = [side.families for side in (old, new) if side.holds_rules]
    chosen = [family for family in IpFamily if wanted in ("all", family.lower())]
    families = [family for family in chosen if all(family in limit for limit in limits)]
    if not families:
        message = f"{old.name} holds {_listed(old)} rules, {new.name} {_listed(new)} rules"
        hint = "compare two files of the same family, and with --family that one"
        raise InvalidInputError(Problem(Code.FAMILIES_DIFFER, message, hint=hint))
    return families


def _listed(side: Side) -> str:
    return " and ".join(side.families)
