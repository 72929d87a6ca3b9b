"""What carries rules into the kernel, whatever tool or library that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.net.addresses import IpFamily


class Loading(Protocol):
    """A change that is about to be carried out: nothing is changed yet."""

    def commit(self) -> None:
        """Carry it out: each table whole or not at all, one after the other in the order given."""
        ...

    def abandon(self) -> None:
        """Let nothing come of it; once it is being carried out, this does nothing."""
        ...


class Begun(Protocol):
    """A change whose beginning the tool has read before all of it was known: nothing is changed yet."""

    def go_on(self, change: FamilyChange) -> Loading | None:
        """Return the loading of a change that begins so; of another one, or if the tool is gone, nothing."""
        ...

    def abandon(self) -> None:
        """Let nothing come of it, unless the change is being carried out."""
        ...


class Engine(Protocol):
    """Reads and writes the iptables rules of the namespace that the calling thread is in.

    All methods raise ``ApplyError`` when the tool is missing, not permitted, waits in vain for the lock or
    refuses.
    """

    @property
    def description(self) -> str:
        """The tool or library with its variant and version, for records and messages."""
        ...

    def save(self, family: IpFamily, *, counters: bool) -> str:
        """Return the live rules, with or without counters, as ``iptables-save`` prints them."""
        ...

    def test(self, change: FamilyChange) -> None:
        """Let the tool check a change, and change nothing."""
        ...

    def exclusive(self, wait: int | None = None) -> AbstractContextManager[None]:
        """Keep other programs from writing meanwhile, as far as they let themselves be kept.

        Begin, prepare and commit within such a context. It may be entered within another one.

        Args:
            wait: seconds to wait for who is writing, if they are others than usual.
        """
        ...

    def begin(self, family: IpFamily, table: str, chains: Sequence[str]) -> Begun | None:
        """Begin with a change that declares these user chains first, if that spares time.

        Args:
            family: of the rules.
            table: the first one that changes.
            chains: sorted by name.
        """
        ...

    def prepare(self, change: FamilyChange) -> Loading:
        """Begin with what takes long about a change, and return before that is done."""
        ...


class Unprepared:
    """The :class:`Loading` of an engine that has nothing to prepare.

    Args:
        load: carries out the change.
    """

    def __init__(self, load: Callable[[], None]) -> None:
        self._load = load

    def commit(self) -> None:
        """See :class:`Loading`."""
        self._load()

    def abandon(self) -> None:
        """See :class:`Loading`."""
