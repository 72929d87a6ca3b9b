"""Tools that get their input in two parts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from kproxy_nat.apply.running import FedTool
from kproxy_nat.errors import ApplyError, Code
from tests.patience import patient

LONG = "".join(f"{number} \udcff é\n" for number in range(100_000))
"""More than a pipe holds, and not all of it UTF-8."""


def fed(program: str, *parts: Iterable[str]) -> FedTool:
    tool = FedTool(["sh", "-c", program], (), "")
    for part in parts:
        tool.feed(part)
    return tool


def test_all_that_it_is_given() -> None:
    done = fed("cat; echo said >&2", [LONG]).finish(["the ", "rest\n"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LONG}the rest\n", "said\n")


def test_one_that_ends_before_it_has_all() -> None:
    done = fed("echo refused >&2; exit 3", [LONG], [LONG]).finish([LONG])
    assert (done.returncode, done.stderr) == (3, "refused\n")


def test_one_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    tool = fed(f'echo $$ > "{path}.new"; mv "{path}.new" "{path}"; exec sleep 600', [LONG], [LONG])
    while not path.exists():
        pass
    tool.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
    tool.kill()


def test_one_that_has_all_is_not_killed() -> None:
    tool = fed("exec cat", ["first", ", "])
    done = tool.finish(["rest"])
    tool.kill()
    assert (done.returncode, done.stdout) == (0, "first, rest")


def test_parts_are_made_while_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "read"

    def parts() -> Iterator[str]:
        yield "first\n"
        deadline = time.monotonic() + patient(60)
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield "second\n"

    done = fed(f'read line; > "{path}"; cat', parts()).finish(())
    assert done.stdout == "second\n"


def test_more_is_given_at_once_and_read_in_turn() -> None:
    """Neither waits until the tool has read what it was given before, though the pipe holds less."""
    tool = fed("read line; cat", [LONG], ["more\n"], (part for part in ("still ", "more\n")))
    done = tool.finish(["the rest\n"])
    assert done.stdout == f"{LONG[LONG.index(chr(10)) + 1 :]}more\nstill more\nthe rest\n"


def test_nothing_comes_after_a_part_that_cannot_be_made(tmp_path: Path) -> None:
    path = tmp_path / "given"

    def parts() -> Iterator[str]:
        yield "first\n"
        raise LookupError("no second")

    end = ["COMMIT\n"]
    cases: list[tuple[list[Iterable[str]], Iterable[str]]] = [
        ([parts()], end),
        ([parts(), end], ()),
        ([], chain(["first\n", *end], parts())),
    ]
    for fed_parts, rest in cases:
        tool = fed(f'echo $$ > "{path}.pid"; exec cat > "{path}"', *fed_parts)
        with pytest.raises(LookupError, match="no second"):
            tool.finish(rest)
        tool.kill()
        assert not path.exists() or "COMMIT" not in path.read_text()
        with suppress(FileNotFoundError, ValueError), pytest.raises(ProcessLookupError):
            os.kill(int(Path(f"{path}.pid").read_text()), 0)


def test_one_that_is_not_there() -> None:
    with pytest.raises(ApplyError) as caught:
        FedTool(["/nowhere/iptables-restore"], (), "install it")
    assert caught.value.problems[0].code is Code.TOOL_MISSING
    assert caught.value.problems[0].hint == "install it"
