"""Running a tool that reads or writes rules."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from kproxy_nat.errors import ApplyError, Code, Problem


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
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
            pass_fds=inherited,
        )
    except OSError as error:
        message = f"cannot run {command[0]}: {error.strerror or error}"
        raise ApplyError(Problem(Code.TOOL_MISSING, message, hint=hint)) from None
