"""What carries rules into the kernel, whatever tool or library that is."""

from __future__ import annotations

from typing import Protocol

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.net.addresses import IpFamily


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

    def load(self, change: FamilyChange) -> None:
        """Carry out a change: each table whole or not at all, one after the other in the order given."""
        ...
