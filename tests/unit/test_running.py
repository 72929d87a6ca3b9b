"""Tools that get their input in two parts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kproxy_nat.apply.running import FedTool
from kproxy_nat.errors import ApplyError, Code

LONG = "".join(f"{number} \udcff é\n" for number in range(100_000))
"""More than a pipe holds, and not all of it UTF-8."""


def test_all_that_it_is_given() -> None:
    done = FedTool(["sh", "-c", "cat; echo said >&2"], LONG, (), "").finish("the rest\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LONG}the rest\n", "said\n")


def test_one_that_ends_before_it_has_all() -> None:
    done = FedTool(["sh", "-c", "echo refused >&2; exit 3"], LONG, (), "").finish(LONG)
    assert (done.returncode, done.stderr) == (3, "refused\n")


def test_one_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    tool = FedTool(
        ["sh", "-c", f'echo $$ > "{path}.new"; mv "{path}.new" "{path}"; exec sleep 600'], LONG, (), ""
    )
    while not path.exists():
        pass
    tool.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
    tool.kill()


def test_one_that_has_all_is_not_killed() -> None:
    tool = FedTool(["cat"], "first, ", (), "")
    done = tool.finish("rest")
    tool.kill()
    assert (done.returncode, done.stdout) == (0, "first, rest")


def test_one_that_is_not_there() -> None:
    with pytest.raises(ApplyError) as caught:
        FedTool(["/nowhere/iptables-restore"], LONG, (), "install it")
    assert caught.value.problems[0].code is Code.TOOL_MISSING
    assert caught.value.problems[0].hint == "install it"
