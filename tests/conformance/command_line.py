"""The command line, called in this process."""

from __future__ import annotations

import contextlib
import io

from kproxy_nat.cli.main import main


def run(*arguments: object) -> tuple[int, str, str]:
    """Run ``kproxy-nat`` and return its exit status, what it printed, and what it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    status: int | str | None = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
    assert isinstance(status, int)
    return status, out.getvalue(), err.getvalue()


def compiled(*arguments: object) -> str:
    """Run ``kproxy-nat compile``, which has to succeed, and return the rules."""
    status, out, err = run("compile", *arguments)
    assert status == 0, err
    return out
