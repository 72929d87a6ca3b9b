"""The engine that speaks to ip_tables in process, by python-iptables: legacy tables only.

It needs no other program, and reads with code that shares nothing with ``iptables-legacy-save`` but the
extensions of libxtables.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

from kproxy_nat.apply.changes import FamilyChange, TableChange
from kproxy_nat.apply.engine import Loading, Unprepared
from kproxy_nat.apply.tools import legacy_tables
from kproxy_nat.apply.xtables_lock import XtablesLock
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.net.addresses import IpFamily

NAME = "python-iptables"

_LIBRARY = threading.Lock()
"""Held while the library works: it and libxtables have one state for the whole process."""


class PythonIptablesEngine:
    """See :class:`kproxy_nat.apply.engine.Engine`.

    Args:
        wait: seconds to wait for the lock of the legacy tools.

    Raises:
        ApplyError: python-iptables is not installed, or cannot be loaded.
    """

    def __init__(self, wait: int) -> None:
        self._lock = XtablesLock(wait)
        _load_library()

    @property
    def description(self) -> str:
        """See :class:`Engine`."""
        from importlib.metadata import version  # noqa: PLC0415 # slow to load

        return f"{NAME} {version(NAME)}"

    def save(self, family: IpFamily, *, counters: bool) -> str:
        """See :class:`Engine`. Tables that do not exist yet are not made.

        Raises:
            ApplyError: also when a rule is there that the installed extensions do not know.
        """
        from kproxy_nat.apply.python_iptables_tables import dump_table  # noqa: PLC0415 # an extra

        with _LIBRARY:
            tables = legacy_tables(family)
            return "".join(dump_table(family, name, counters=counters) for name in tables)

    def test(self, change: FamilyChange) -> None:
        """See :class:`Engine`. All is done but the commit, so what only the kernel refuses is not noticed."""
        with _LIBRARY:
            for part in change.tables:
                self._carry_out(change.family, part, commit=False)

    def exclusive(self, wait: int | None = None) -> AbstractContextManager[None]:
        """See :class:`Engine`. The library knows nothing of the lock of the legacy tools."""
        return self._lock.held(wait)

    def begin(self, family: IpFamily, table: str, chains: Sequence[str]) -> None:
        """See :class:`Engine`."""

    def prepare(self, change: FamilyChange) -> Loading:
        """See :class:`Engine`."""
        return Unprepared(partial(self._load, change))

    def _load(self, change: FamilyChange) -> None:
        with _LIBRARY:
            for part in change.tables:
                self._carry_out(change.family, part, commit=True)

    def _carry_out(self, family: IpFamily, part: TableChange, *, commit: bool) -> None:
        """Change one table; without ``commit``, as far as that can be done without the kernel."""
        from kproxy_nat.apply.python_iptables_tables import change_table, translated  # noqa: PLC0415 # an extra

        commands = translated(family, part)
        change_table(family, part.table, commands, commit=commit)


def _load_library() -> None:
    try:
        import kproxy_nat.apply.python_iptables_tables  # noqa: F401, PLC0415 # an extra, and slow to load
    except Exception as error:  # noqa: BLE001 # where C libraries are missing it fails in many ways
        message = f"{NAME} cannot be loaded: {error}"
        hint = (
            "pip install 'kproxy-nat[python-iptables]'; to install it needs gcc and libc6-dev, "
            "to run libxtables, libip4tc and libip6tc, which come with the package iptables"
        )
        raise ApplyError(Problem(Code.TOOL_MISSING, message, hint=hint)) from None
