"""Where rules are read from: rule sets in memory, and dumps of which only some Services are wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kproxy_nat.formats.iptables_rule_files import DumpedRules
from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering import compact_names
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.canonical import canonical_rule
from kproxy_nat.ruleset.rules import Rule, Ruleset

_DISPATCH_CHAINS = {
    "nat": (names.SERVICES, names.NODE_PORTS),
    "filter": (names.SERVICES, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL, names.NODE_PORTS),
}
_TREES = tuple(
    prefix for root, prefix in compact_names.BRANCH_PREFIXES.items() if root != compact_names.HAIRPIN
)
_ROOTS = frozenset(compact_names.BRANCH_PREFIXES) - {compact_names.HAIRPIN}

_OWNER = re.compile(r'--comment (?:"([^" ]+/[^" ]+)[" ]|([^" ]+/\S+))')


class RuleSource(Protocol):
    """Rules of one family, chain by chain, in canonical form."""

    @property
    def family(self) -> IpFamily:
        """The family."""
        ...

    def rules(self, table: str, chain: str) -> Sequence[Rule]:
        """Return the rules of a chain; none of a chain that is not there."""
        ...


@dataclass(frozen=True, slots=True)
class RulesetSource:
    """A rule set in memory."""

    ruleset: Ruleset
    _known: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)

    @property
    def family(self) -> IpFamily:
        """See :class:`RuleSource`."""
        return self.ruleset.family

    def rules(self, table: str, chain: str) -> Sequence[Rule]:
        """See :class:`RuleSource`."""
        if (table, chain) not in self._known:
            held = self.ruleset.tables.get(table)
            found = held.chains.get(chain) if held else None
            self._known[table, chain] = [canonical_rule(rule) for rule in found.rules] if found else []
        return self._known[table, chain]


@dataclass(frozen=True, slots=True)
class DumpSource:
    """A dump; with ``services``, only the rules of these (and of no Service) in the dispatch chains.

    ``services`` are names with their port: what the first word of a rule's comment says.
    """

    dumped: DumpedRules
    services: Collection[str] | None = None
    _known: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)

    @property
    def family(self) -> IpFamily:
        """See :class:`RuleSource`."""
        return self.dumped.dump.family

    def rules(self, table: str, chain: str) -> Sequence[Rule]:
        """See :class:`RuleSource`.

        Raises:
            InvalidInputError: a rule is broken.
        """
        if self.services is None or not is_dispatch(table, chain):
            return self.dumped.rules(table, chain)
        if (table, chain) not in self._known:
            lines = self.dumped.dump.table(table).chains.get(chain, "").splitlines(keepends=True)
            wanted = "".join(line for line in lines if self._is_wanted(line))
            self._known[table, chain] = self.dumped.parse(table, chain, wanted) if wanted else []
        return self._known[table, chain]

    def _is_wanted(self, line: str) -> bool:
        owner = owner_of(line)
        return not owner or (self.services is not None and owner in self.services)


def is_dispatch(table: str, chain: str) -> bool:
    """Whether each rule of a chain belongs to a Service, named by its comment, or leads to such a chain."""
    return chain in _DISPATCH_CHAINS.get(table, ()) or chain in _ROOTS or chain.startswith(_TREES)


def owner_of(line: str) -> str:
    """Return the service port that a rule's comment names, empty if it names none."""
    found = _OWNER.search(line)
    return (found[1] or found[2]) if found else ""
