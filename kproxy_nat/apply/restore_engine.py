"""The engine that speaks through ``iptables-save`` and ``iptables-restore``, of either variant."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from itertools import chain, takewhile
from pathlib import Path

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Loading
from kproxy_nat.apply.restore_text import COMMIT, restore_parts, restore_text
from kproxy_nat.apply.running import FedTool, RuleRefusedError, refused_line, run_tool
from kproxy_nat.apply.tools import IptablesTools, install_hint
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.net.addresses import IpFamily

_LOCKED = 4
"""The exit status when the lock stayed taken (iptables(8), RESOURCE_PROBLEM)."""

_OWN_NAME = re.compile(r"^ip6?tables[a-z-]*( v[\d.]+( \(\w+\))?)?: ")
_FAILED_LINE = re.compile(r"line:? (\d+)")
_HINT = install_hint("iptables")


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
        """See :class:`Engine`."""
        text = restore_text(change)
        self.check(change.family, self._run([*self._restore(change.family), "--test"], text), text)

    def prepare(self, change: FamilyChange) -> Loading:
        """See :class:`Engine`. The tool parses the first table; that for legacy tables holds their lock."""
        return _Load(self, change)

    def start(self, family: IpFamily, parts: Iterable[str]) -> FedTool:
        """Start the tool that loads rules, with the first parts of their text."""
        return FedTool(self._restore(family), parts, self._inherited, _HINT)

    def check(self, family: IpFamily, done: subprocess.CompletedProcess[str], text: str) -> None:
        """Raise an ApplyError if the tool that was given ``text`` refused it."""
        if done.returncode:
            raise self._refusal(self._tools.restore[family], done, text)

    def _restore(self, family: IpFamily) -> list[str | Path]:
        return [self._tools.restore[family], "--wait", str(self._wait), "--noflush", "--counters"]

    def _run(self, command: Sequence[str | Path], text: str) -> subprocess.CompletedProcess[str]:
        return run_tool(command, text, self._inherited, _HINT)

    def _refusal(self, program: Path, done: subprocess.CompletedProcess[str], text: str) -> ApplyError:
        lines = (_OWN_NAME.sub("", line).strip() for line in done.stderr.splitlines())
        said = "; ".join(line for line in lines if line)
        said = said or f"it ended with status {done.returncode}"
        if "Permission denied" in said:
            return ApplyError(Problem(Code.NOT_PERMITTED, f"{program.name}: {said}", hint="run as root"))
        if done.returncode == _LOCKED and "lock" in said:
            message = f"another program has held the lock of {program.name} for {self._wait} s"
            hint = "try again, or wait longer with --wait"
            return ApplyError(Problem(Code.XTABLES_LOCKED, message, hint=hint))
        rule = refused_line(_FAILED_LINE, said, text)
        hint = f"the rule is: {rule}" if rule else "kproxy-nat doctor tells what the kernel lacks"
        return RuleRefusedError(Problem(Code.RULES_REFUSED, said, subject=program.name, hint=hint), rule)


class _Load:
    """See :class:`Loading`. Of a table that the tool was given, nothing changes without the line COMMIT.

    It parses what is declared, which takes it long, while the rules are put into words.
    """

    def __init__(self, engine: RestoreEngine, change: FamilyChange) -> None:
        self._engine = engine
        self._change = change
        self._parts = restore_parts(change)
        first = takewhile(lambda part: part != COMMIT, self._parts)
        self._tool = engine.start(change.family, first)

    def commit(self) -> None:
        """See :class:`Loading`."""
        done = self._tool.finish(chain((COMMIT,), self._parts))
        text = restore_text(self._change) if done.returncode else ""
        self._engine.check(self._change.family, done, text)

    def abandon(self) -> None:
        """See :class:`Loading`."""
        self._tool.kill()
