"""Where rules are applied: a namespace, the engine that writes to it, and the record of what was done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Begun, Loading
from kproxy_nat.apply.engines import Engines
from kproxy_nat.apply.generations import Generations
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.planners import difference, planner_of
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.formats.iptables_dump import Dump

_SETTLING = 0.2
"""Seconds after which rules that are not as they should be are read once more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Live rules that are being read, one backend after the other."""

    texts: Mapping[Backend, Future[str]]

    def known(self, backend: Backend) -> str | None:
        """Return the text of the rules, if they are read by now."""
        text = self.texts[backend]
        return text.result() if text.done() and text.exception() is None else None

    def rules(self, like: Mapping[Backend, Dump]) -> dict[Backend, LiveRules]:
        """Return the rules, when all are read; that they are expected to be ``like`` others saves time.

        Raises:
            ApplyError: they cannot be read.
        """
        texts = {backend: text.result() for backend, text in self.texts.items()}
        return {b: LiveRules(t, planner_of(b).split(t, b.family, like.get(b))) for b, t in texts.items()}


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

    def start_reading(self, backends: Iterable[Backend], *, counters: bool = True) -> Reading:
        """Begin to read the live rules; counters take time, and are needed only to write rules.

        Raises:
            ApplyError: what it needs is not there.
        """
        engines = {backend: self.engines.of(backend.mode) for backend in backends}
        start = self.namespace.start
        return Reading({b: start(e.save, b.family, counters=counters) for b, e in engines.items()})

    def read_all(self, backends: Iterable[Backend]) -> dict[Backend, LiveRules]:
        """Return the live rules of several backends, with counters."""
        return self.start_reading(backends).rules({})

    @contextmanager
    def exclusive(self, backends: Iterable[Backend], wait: int | None = None) -> Iterator[None]:
        """Keep other programs from writing there meanwhile; see :meth:`Engine.exclusive`.

        It is waited for in the caller's thread, which can be interrupted; nothing has begun then.
        """
        with ExitStack() as stack:
            for backend in backends:
                stack.enter_context(self.engines.of(backend.mode).exclusive(wait))
            yield

    def start_beginning(self, backend: Backend, table: str, chains: Sequence[str]) -> Future[Begun | None]:
        """Start to begin with a change that declares these chains first; see :meth:`Engine.begin`."""
        engine = self.engines.of(backend.mode)
        return self.namespace.start(engine.begin, backend.family, table, chains)

    def prepare(self, backend: Backend, change: FamilyChange) -> Loading:
        """Begin with what takes long about a change that is not empty."""
        return self.namespace.run(self.engines.of(backend.mode).prepare, change)

    def commit(self, loading: Loading) -> None:
        """Carry out a change that was prepared."""
        self.namespace.run(loading.commit)

    def load(self, backend: Backend, change: FamilyChange) -> None:
        """Prepare and carry out a change."""
        if change.tables:
            with self.exclusive([backend]):
                self.commit(self.prepare(backend, change))

    def test(self, backend: Backend, change: FamilyChange) -> None:
        """Let the tool check a change."""
        self.namespace.run(self.engines.of(backend.mode).test, change)

    def verify(self, wanted: Mapping[Backend, Dump]) -> None:
        """Read the rules back; once more if they differ.

        The kernel enlarges the hash table of a set of nftables some time after elements were added. A listing
        that is made meanwhile begins anew in other order, and elements may be missing (nft_rhash_walk).

        Raises:
            ApplyError: they are not as they were wanted.
        """
        if self._difference(wanted):
            time.sleep(_SETTLING)
            message = self._difference(wanted)
            if message:
                hint = "something else may be writing rules; see kproxy-nat doctor for known faults"
                raise ApplyError(Problem(Code.NOT_AS_APPLIED, message, hint=hint))

    def _difference(self, wanted: Mapping[Backend, Dump]) -> str:
        """Return where live rules are not as they were wanted, empty if nowhere."""
        for backend, rules in self.start_reading(wanted, counters=False).rules(wanted).items():
            for table in difference(backend, rules, wanted[backend]).tables:
                differing = table.chains[0].name if table.chains else "none"
                return f"{backend}: chain {differing} of table {table.table} is not what was loaded"
        return ""
