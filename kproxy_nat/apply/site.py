"""Where rules are applied: a namespace, the engine that writes to it, and the record of what was done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Engine
from kproxy_nat.apply.generations import Generations
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.planning import LiveRules, plan_change
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.formats.iptables_dump import Dump, split_dump
from kproxy_nat.net.addresses import IpFamily


@dataclass(frozen=True, slots=True)
class Site:
    """A namespace that is locked for us."""

    namespace: Namespace
    engine: Engine
    folder: Path

    @property
    def generations(self) -> Generations:
        """The record of what was applied here."""
        return Generations(self.folder, self.namespace.identity)

    def read(self, family: IpFamily, *, counters: bool = True) -> LiveRules:
        """Return the live rules; counters take time, and are needed only where something is written."""
        text = self.namespace.run(self.engine.save, family, counters=counters)
        return LiveRules(text, split_dump(text, family))

    def read_all(self, families: Iterable[IpFamily]) -> dict[IpFamily, LiveRules]:
        """Return the live rules of several families."""
        return {family: self.read(family) for family in families}

    def load(self, change: FamilyChange) -> None:
        """Carry out a change."""
        self.namespace.run(self.engine.load, change)

    def test(self, change: FamilyChange) -> None:
        """Let the tool check a change."""
        self.namespace.run(self.engine.test, change)

    def verify(self, wanted: Mapping[IpFamily, Dump]) -> None:
        """Read the rules back.

        Raises:
            ApplyError: they are not as they were wanted.
        """
        for family, dump in wanted.items():
            for table in plan_change(self.read(family, counters=False), dump).tables:
                differing = table.chains[0].name
                raise ApplyError(
                    Problem(
                        Code.NOT_AS_APPLIED,
                        f"{family}: chain {differing} of table {table.table} is not what was loaded",
                        hint="something else may be writing rules; see kproxy-nat doctor for known faults",
                    )
                )
