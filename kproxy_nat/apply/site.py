"""Where rules are applied: a namespace, the engine that writes to it, and the record of what was done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engines import Engines
from kproxy_nat.apply.generations import Generations
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.planners import plan_change, planner_of
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.formats.iptables_dump import Dump


@dataclass(frozen=True, slots=True)
class Site:
    """A namespace that is locked for us."""

    namespace: Namespace
    engines: Engines
    folder: Path

    @property
    def generations(self) -> Generations:
        """The record of what was applied here."""
        return Generations(self.folder, self.namespace.identity)

    def read(self, backend: Backend, *, counters: bool = True) -> LiveRules:
        """Return the live rules; counters take time, and are needed only where something is written."""
        text = self.namespace.run(self.engines.of(backend.mode).save, backend.family, counters=counters)
        return LiveRules(text, planner_of(backend).split(text, backend.family))

    def read_all(self, backends: Iterable[Backend]) -> dict[Backend, LiveRules]:
        """Return the live rules of several backends."""
        return {backend: self.read(backend) for backend in backends}

    def load(self, backend: Backend, change: FamilyChange) -> None:
        """Carry out a change."""
        self.namespace.run(self.engines.of(backend.mode).load, change)

    def test(self, backend: Backend, change: FamilyChange) -> None:
        """Let the tool check a change."""
        self.namespace.run(self.engines.of(backend.mode).test, change)

    def verify(self, wanted: Mapping[Backend, Dump]) -> None:
        """Read the rules back.

        Raises:
            ApplyError: they are not as they were wanted.
        """
        for backend, dump in wanted.items():
            for table in plan_change(backend, self.read(backend, counters=False), dump).tables:
                differing = table.chains[0].name if table.chains else "none"
                raise ApplyError(
                    Problem(
                        Code.NOT_AS_APPLIED,
                        f"{backend}: chain {differing} of table {table.table} is not what was loaded",
                        hint="something else may be writing rules; see kproxy-nat doctor for known faults",
                    )
                )
