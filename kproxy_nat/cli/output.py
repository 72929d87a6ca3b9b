"""Writing results: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from kproxy_nat.errors import Code, Location, OutputError, Problem


class _UnwritableError(OSError):
    """An error of the operating system with the output as the user named it."""

    def __init__(self, number: int | None, reason: str | None, output: Path) -> None:
        super().__init__(number, reason)
        self.output = output


def write_files(contents: Mapping[Path, str]) -> None:
    """Write all files, each by way of a temporary one beside it; none is changed when one cannot be written.

    Links are followed. What is there and no regular file (a device, a pipe) is written to, never replaced.

    Raises:
        OutputError: a file cannot be written.
    """
    streams = {path: text for path, text in contents.items() if _is_stream(path)}
    path = Path()
    with contextlib.ExitStack() as cleaning:
        try:
            staged = []
            for path in (path for path in contents if path not in streams):
                staged.append((_stage(path.resolve(), contents[path], cleaning), path))
            for path, text in streams.items():
                path.write_text(text, encoding="utf-8")
            _replace_all(staged, cleaning)
        except OSError as error:
            reason = error.strerror or str(error)
            place = Location(str(getattr(error, "output", path)))
            hint = "the directory must be there and writable"
            problem = Problem(Code.OUTPUT_UNWRITABLE, f"cannot write: {reason}", location=place, hint=hint)
            raise OutputError(problem) from None


def write_stdout(text: str) -> None:
    """Write ``text`` to standard output.

    Raises:
        OutputError: it is closed, or its device is full.
        BrokenPipeError: its reader has gone.
    """
    try:
        if sys.stdout is None:
            raise OSError(0, "it is closed")
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"cannot write: {error.strerror or error}"
        raise OutputError(
            Problem(Code.OUTPUT_UNWRITABLE, message, location=Location("standard output"))
        ) from None


def stdout_has_color(ctx: click.Context) -> bool:
    """Whether standard output wants colours, as ``--color`` and NO_COLOR have it."""
    choice = ctx.find_root().params.get("color", "auto")
    if choice != "auto":
        return bool(choice == "always")
    return sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def make_directory(path: Path) -> None:
    """Make the output's directory, unless it is there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the directory: {error.strerror or error}"
        raise OutputError(Problem(Code.OUTPUT_UNWRITABLE, message, location=Location(str(path)))) from None


def _is_stream(path: Path) -> bool:
    """Tell a device or pipe from a file that can be replaced (and from a directory, which cannot)."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _replace_all(staged: list[tuple[Path, Path]], cleaning: contextlib.ExitStack) -> None:
    """Move all temporary files to their places; put back what was there if one move fails."""
    moved: list[tuple[Path, Path | None]] = []
    for temporary, path in staged:
        target = path.resolve()
        try:
            backup = _backup(target, cleaning)
            temporary.replace(target)
        except OSError as error:
            for earlier, kept in moved:
                earlier.unlink() if kept is None else kept.replace(earlier)
            raise _UnwritableError(error.errno, error.strerror, path) from None
        moved.append((target, backup))


def _backup(path: Path, cleaning: contextlib.ExitStack) -> Path | None:
    """Keep what is at ``path`` under another name, until the end."""
    if not path.is_file():
        return None
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    backup = Path(name)
    cleaning.callback(backup.unlink, missing_ok=True)
    shutil.copy2(path, backup)
    return backup


def _stage(path: Path, text: str, cleaning: contextlib.ExitStack) -> Path:
    """Write ``text`` to a new file beside ``path``, with the permissions that ``path`` has or would get."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    cleaning.callback(temporary.unlink, missing_ok=True)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask())
    return temporary


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
