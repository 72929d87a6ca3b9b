"""Running a tool that reads or writes rules, which are tens of megabytes.

What tools print goes to files in memory (memfd_create(2)) rather than to pipes, and what they are given
mostly comes from there, too: a tool works at its own pace, and nobody has to pump.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import MappingProxyType
from typing import BinaryIO

from kproxy_nat.errors import ApplyError, Code, Problem

_ENCODING = "utf-8"
_ERRORS = "surrogateescape"
_PIPE_BYTES = 1 << 20
"""So that a tool has something to read while the processors are busy; what pipe(7) allows anybody."""
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Lets glibc (since 2.35) ask for huge pages. For each rule, the iptables tools search lists of chains
that are spread over all of their memory.
"""


class RuleRefusedError(ApplyError):
    """The tool or the kernel refused the rules, and said because of which one."""

    def __init__(self, problem: Problem, rule: str) -> None:
        super().__init__(problem)
        self.rule = rule


def run_tool(
    command: Sequence[str | Path],
    text: str,
    inherited: Sequence[int],
    hint: str,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a tool in the namespace of the calling thread; bytes that are not UTF-8 pass unchanged.

    Args:
        command: the program and its arguments.
        text: its standard input.
        inherited: open files that it gets, too.
        hint: what to do when it is not there.
        environment: what it gets besides that of :func:`tool_environment`.

    Raises:
        ApplyError: it cannot be started.
    """
    try:
        with memory_file(text) as given, memory_file() as printed, memory_file() as said:
            status = subprocess.run(
                command,
                env={**tool_environment(), **environment},
                stdin=given,
                stdout=printed,
                stderr=said,
                check=False,
                pass_fds=inherited,
            ).returncode
            return subprocess.CompletedProcess(command, status, _content(printed), _content(said))
    except OSError as error:
        raise _cannot_run(command, hint, error) from None


class FedTool:
    """A tool that gets its input from a pipe, part by part, while others work; for the rest it has to wait.

    When we are killed, the pipe ends where we were.

    Args:
        command: as those of :func:`run_tool`, by which it is started.
        inherited: open files that the tool gets, too.
        hint: what to do when it is not there.
        environment: as that of :func:`run_tool`.

    Raises:
        ApplyError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        inherited: Sequence[int],
        hint: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._command = command
        with ExitStack() as files:
            try:
                self._printed, self._said = (files.enter_context(memory_file()) for _ in range(2))
                self._process = subprocess.Popen(
                    command,
                    env={**tool_environment(), **environment},
                    stdin=subprocess.PIPE,
                    stdout=self._printed,
                    stderr=self._said,
                    pass_fds=inherited,
                )
            except OSError as error:
                raise _cannot_run(command, hint, error) from None
            self._files = files.pop_all()
        self._enlarge_pipe()
        self._has_all = False
        self._failure: BaseException | None = None
        self._waiting: SimpleQueue[Iterable[str] | None] = SimpleQueue()
        self._writer = Thread(target=self._write_waiting, daemon=True)
        self._writer.start()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended before it was told to."""
        return self._process.poll() is not None

    def feed(self, parts: Iterable[str]) -> None:
        """Give it more, and return at once: parts are made, and wait to be read, in a thread of their own."""
        self._waiting.put(parts)

    def finish(self, rest: Iterable[str]) -> subprocess.CompletedProcess[str]:
        """Give it the rest, and return when it is done; nothing of the rest if a part cannot be made."""
        self._has_all = True
        self._end_of_writing()
        try:
            if self._failure is not None:
                raise self._failure
            self._write(list(rest))
        except BaseException:
            self._process.kill()
            self._ended()
            raise
        return self._ended()

    def kill(self) -> None:
        """End it, unless it is getting the rest."""
        if not self._has_all:
            self._has_all = True
            self._process.kill()
            self._end_of_writing()
            self._ended()

    def _enlarge_pipe(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # A smaller one will do.
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _end_of_writing(self) -> None:
        self._waiting.put(None)
        self._writer.join()

    def _write_waiting(self) -> None:
        try:
            for parts in iter(self._waiting.get, None):
                self._write(parts)
        except BaseException as error:  # noqa: BLE001 # It is for the thread that waits for this one.
            self._failure = error

    def _write(self, parts: Iterable[str]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has ended, and says why.
            for part in parts:
                self._process.stdin.write(part.encode(_ENCODING, _ERRORS))
                self._process.stdin.flush()

    def _ended(self) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with self._files:
            status = self._process.wait()
            return subprocess.CompletedProcess(
                self._command, status, _content(self._printed), _content(self._said)
            )


def refused_line(pattern: re.Pattern[str], said: str, text: str) -> str:
    """Return the line of ``text`` that a tool complains about, if it says which.

    Args:
        pattern: how the tool names a line; its first group is the number, from 1.
        said: the complaint.
        text: what the tool was given.
    """
    found = pattern.search(said)
    lines = text.split("\n")
    number = int(found[1]) if found else 0
    return lines[number - 1] if 0 < number <= len(lines) else ""


def tool_environment() -> dict[str, str]:
    """Return the environment that tools get."""
    return {"GLIBC_TUNABLES": _HUGE_PAGES, **os.environ}


def _cannot_run(command: Sequence[str | Path], hint: str, error: OSError) -> ApplyError:
    message = f"cannot run {command[0]}: {error.strerror or error}"
    return ApplyError(Problem(Code.TOOL_MISSING, message, hint=hint))


def memory_file(text: str = "") -> BinaryIO:
    """Return a file in memory, open at the start of this text."""
    file = os.fdopen(os.memfd_create("kproxy-nat"), "w+b")
    file.write(text.encode(_ENCODING, _ERRORS))
    file.seek(0)
    return file


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(_ENCODING, _ERRORS)
