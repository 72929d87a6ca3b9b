"""Outputs that are no regular files are written to, never replaced."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from kproxy_nat.cli.output import write_files


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_files({pipe: "rules\n"})
    reader.join(timeout=10)
    assert received == ["rules\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    write_files({link: "new"})
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    write_files({tmp_path / "a": "1", tmp_path / "b": "2"})
    write_files({tmp_path / "a": "3", tmp_path / "b": "4"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "3", "b": "4"}
