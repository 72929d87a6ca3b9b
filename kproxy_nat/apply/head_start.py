"""A head start for the tool: it reads which chains there will be while their rules are still being made.

With 10,000 Services either of them takes about a second. What the tool was told turns out to be right when
the plan begins in the same way, as it does where there was nothing of ours before; else it is told anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from types import TracebackType

from kproxy_nat.apply import ownership
from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Begun, Loading
from kproxy_nat.apply.site import Reading, Site
from kproxy_nat.apply.tools import OUR_CHAINS
from kproxy_nat.errors import ApplyError
from kproxy_nat.ruleset.transactions import DeclareChain, DeclareChains, Transaction


class HeadStart:
    """The beginning of what is loaded first; meanwhile other programs are kept from writing.

    At the end of the context, or when it is closed, both end; what has been taken is not affected.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._first: Backend | None = None
        self._begun: Future[Begun | None] | None = None
        self._exclusive = ExitStack()

    def __enter__(self) -> HeadStart:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the tool, if it is not carrying out the change, and let others write again."""
        with self._exclusive:
            self._abandon()

    def give(self, reading: Reading, backend: Backend, transaction: Transaction) -> None:
        """Tell the tool what the rules for ``backend`` will declare, if they are the first and all is new."""
        if self._first is not None:
            return
        self._first = backend
        live = reading.known(backend)
        if live is None or any(f"\n:{chain} " in live for chain in OUR_CHAINS):
            return
        with suppress(ApplyError):  # Others are writing: it will be waited for them when the plan is made.
            self._exclusive.enter_context(self._site.exclusive([backend], wait=0))
            table = ownership.TABLES[0]
            self._begun = self._site.start_beginning(backend, table, sorted(_declared(transaction, table)))

    def take(self, backend: Backend, change: FamilyChange) -> Loading | None:
        """Return the loading of a change that begins as was foreseen; of another one there is none.

        Raises:
            ApplyError: the tool is not there.
        """
        begun = self._begun.result() if self._begun and backend is self._first else None
        loading = begun.go_on(change) if begun else None
        if loading is None:
            self._abandon()
        return loading

    def _abandon(self) -> None:
        if self._begun and self._begun.exception() is None and (begun := self._begun.result()):
            begun.abandon()


def _declared(transaction: Transaction, table: str) -> Iterator[str]:
    for part in transaction.tables:
        for command in part.commands if part.table == table else ():
            if isinstance(command, DeclareChains):
                yield from command.names
            elif isinstance(command, DeclareChain):
                yield command.name
