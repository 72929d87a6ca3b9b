"""Running a tool that reads or writes rules, which are tens of megabytes.

The texts are files in memory (memfd_create(2)) rather than pipes: a tool works at its own pace, nobody has to
pump, and what it is given is there to its end, also when the caller is killed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from kproxy_nat.errors import ApplyError, Code, Problem

_ENCODING = "utf-8"
_ERRORS = "surrogateescape"


class RuleRefusedError(ApplyError):
    """The tool or the kernel refused the rules, and said because of which one."""

    def __init__(self, problem: Problem, rule: str) -> None:
        super().__init__(problem)
        self.rule = rule


def run_tool(
    command: Sequence[str | Path], text: str, inherited: Sequence[int], hint: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool in the namespace of the calling thread; bytes that are not UTF-8 pass unchanged.

    Args:
        command: the program and its arguments.
        text: its standard input.
        inherited: open files that it gets, too.
        hint: what to do when it is not there.

    Raises:
        ApplyError: it cannot be started.
    """
    try:
        with _memory() as given, _memory() as printed, _memory() as said:
            given.write(text.encode(_ENCODING, _ERRORS))
            given.seek(0)
            status = subprocess.run(
                command, stdin=given, stdout=printed, stderr=said, check=False, pass_fds=inherited
            ).returncode
            return subprocess.CompletedProcess(command, status, _content(printed), _content(said))
    except OSError as error:
        message = f"cannot run {command[0]}: {error.strerror or error}"
        raise ApplyError(Problem(Code.TOOL_MISSING, message, hint=hint)) from None


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


def _memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("kproxy-nat"), "w+b")


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(_ENCODING, _ERRORS)
