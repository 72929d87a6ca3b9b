"""The engine that speaks through ``iptables-save`` and ``iptables-restore``, of either variant."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from types import MappingProxyType

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Begun, Loading, Unprepared
from kproxy_nat.apply.restore_text import COMMIT, declarations, restore_parts, restore_text
from kproxy_nat.apply.running import FedTool, RuleRefusedError, refused_line, run_tool
from kproxy_nat.apply.tools import IptablesTools, Variant, Version, install_hint
from kproxy_nat.apply.xtables_lock import LOCK_VARIABLE, XtablesLock
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.net.addresses import IpFamily

_OWN_NAME = re.compile(r"^ip6?tables[a-z-]*( v[\d.]+( \(\w+\))?)?: ")
_FAILED_LINE = re.compile(r"line:? (\d+)")
_LOCKED = 4
"""The exit status when the lock stayed taken (iptables(8), RESOURCE_PROBLEM)."""
_HINT = install_hint("iptables")
_PRIVATE_LOCK = {LOCK_VARIABLE: "/proc/self/fd/1"}
"""What the tool prints goes to a file of its own, whose lock nobody else wants."""
_PRIVATE_LOCK_SINCE: Version = (1, 8, 9)
"""Earlier ones may not know the variable."""


class RestoreEngine:
    """See :class:`kproxy_nat.apply.engine.Engine`.

    Args:
        tools: which variant.
        wait: seconds to wait for the lock of the legacy tools.
        inherited: open files that the tool gets, too: a lock in them lasts while it runs, even when the
            caller was killed.
    """

    def __init__(self, tools: IptablesTools, wait: int, inherited: Sequence[int] = ()) -> None:
        self._tools = tools
        self._wait = wait
        self._inherited = inherited
        is_legacy = tools.variant is Variant.LEGACY
        self._locks_itself = is_legacy and tools.version < _PRIVATE_LOCK_SINCE
        self._lock = XtablesLock(wait) if is_legacy and not self._locks_itself else None

    @property
    def description(self) -> str:
        """See :class:`Engine`."""
        return self._tools.description

    def save(self, family: IpFamily, *, counters: bool) -> str:
        """See :class:`Engine`."""
        program = self._tools.save[family]
        done = self._run([program, "--counters"] if counters else [program], "")
        if done.returncode:
            raise self._refusal(program, done, "")
        return done.stdout

    def test(self, change: FamilyChange) -> None:
        """See :class:`Engine`. It changes nothing, so there is no need for the lock, which may be our own."""
        text = restore_text(change)
        self.check(change.family, self._restore(change.family, text, "--test"), text)

    def exclusive(self, wait: int | None = None) -> AbstractContextManager[None]:
        """See :class:`Engine`. The nf_tables variant has no lock, and old tools take theirs themselves.

        Others would wait for it with an alarm (1.8.9), which goes off when they have it for long, and makes
        them take a pause of our text for its end.
        """
        return self._lock.held(wait) if self._lock else nullcontext()

    def begin(self, family: IpFamily, table: str, chains: Sequence[str]) -> Begun | None:
        """See :class:`Engine`."""
        return None if self._locks_itself else _BegunLoad(self, family, declarations(table, chains))

    def prepare(self, change: FamilyChange) -> Loading:
        """See :class:`Engine`. The tool parses the first table."""
        if self._locks_itself:
            return Unprepared(partial(self._load, change))
        return _Load(self, change, restore_parts(change), self.start(change.family))

    def start(self, family: IpFamily) -> FedTool:
        """Start the tool that loads rules. It holds the lock, too, until it ends, also when we are killed."""
        command, inherited = self._restore_command(family), self._inherited
        if self._lock:
            assert self._lock.descriptor is not None
            inherited = (*inherited, self._lock.descriptor)
        return FedTool(command, inherited, _HINT, _PRIVATE_LOCK)

    def check(self, family: IpFamily, done: subprocess.CompletedProcess[str], text: str) -> None:
        """Raise an ApplyError if the tool that was given ``text`` refused it."""
        if done.returncode:
            raise self._refusal(self._tools.restore[family], done, text)

    def _load(self, change: FamilyChange) -> None:
        text = restore_text(change)
        self.check(change.family, self._restore(change.family, text), text)

    def _restore(self, family: IpFamily, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        own_lock = {} if self._locks_itself else _PRIVATE_LOCK
        return self._run([*self._restore_command(family), *options], text, own_lock)

    def _restore_command(self, family: IpFamily) -> list[str | Path]:
        # With 0 it would wait for ever.
        waiting = ("--wait", str(max(self._wait, 1))) if self._locks_itself else ()
        return [self._tools.restore[family], *waiting, "--noflush", "--counters"]

    def _run(
        self, command: Sequence[str | Path], text: str, environment: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        return run_tool(command, text, self._inherited, _HINT, environment)

    def _refusal(self, program: Path, done: subprocess.CompletedProcess[str], text: str) -> ApplyError:
        lines = (_OWN_NAME.sub("", line).strip() for line in done.stderr.splitlines())
        said = "; ".join(line for line in lines if line)
        said = said or f"it ended with status {done.returncode}"
        if "Permission denied" in said:
            return ApplyError(Problem(Code.NOT_PERMITTED, f"{program.name}: {said}", hint="run as root"))
        if done.returncode == _LOCKED and "holding the xtables lock" in said:
            message = f"another program has held the lock of {program.name} for {max(self._wait, 1)} s"
            hint = "try again, or wait longer with --wait"
            return ApplyError(Problem(Code.XTABLES_LOCKED, message, hint=hint))
        rule = refused_line(_FAILED_LINE, said, text)
        hint = f"the rule is: {rule}" if rule else "kproxy-nat doctor tells what the kernel lacks"
        return RuleRefusedError(Problem(Code.RULES_REFUSED, said, subject=program.name, hint=hint), rule)


class _BegunLoad:
    """See :class:`Begun`. The tool parses declarations, which takes it long, while rules are made."""

    def __init__(self, engine: RestoreEngine, family: IpFamily, declared: str) -> None:
        self._engine = engine
        self._declared = declared
        self._tool = engine.start(family)
        self._tool.feed((declared,))

    def go_on(self, change: FamilyChange) -> Loading | None:
        """See :class:`Begun`."""
        parts = restore_parts(change)
        if next(parts, "") != self._declared or self._tool.has_ended:
            return None
        return _Load(self._engine, change, parts, self._tool)

    def abandon(self) -> None:
        """See :class:`Begun`."""
        self._tool.kill()


class _Load:
    """See :class:`Loading`. Of a table that the tool was given, nothing changes without the line COMMIT.

    It parses what it has while the rest is put into words.
    """

    def __init__(
        self, engine: RestoreEngine, change: FamilyChange, parts: Iterator[str], tool: FedTool
    ) -> None:
        self._engine = engine
        self._change = change
        self._parts = parts
        self._tool = tool
        tool.feed(takewhile(lambda part: part != COMMIT, parts))

    def commit(self) -> None:
        """See :class:`Loading`."""
        done = self._tool.finish(chain((COMMIT,), self._parts))
        text = restore_text(self._change) if done.returncode else ""
        self._engine.check(self._change.family, done, text)

    def abandon(self) -> None:
        """See :class:`Loading`."""
        self._tool.kill()
