"""Writing results: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kproxy_nat.errors import Code, Location, OutputError, Problem


def write_files(contents: Mapping[Path, str]) -> None:
    """Write all files, each by way of a temporary one beside it; none is changed when one cannot be written.

    Raises:
        OutputError: a file cannot be written.
    """
    staged: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, text in contents.items():
            staged.append((_stage(path, text), path))
        while staged:
            temporary, path = staged[0]
            temporary.replace(path)
            staged.pop(0)
    except OSError as error:
        place = Location(str(path))
        problem = Problem(Code.OUTPUT_UNWRITABLE, f"cannot write: {error.strerror or error}", location=place)
        raise OutputError(problem) from None
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _stage(path: Path, text: str) -> Path:
    """Write ``text`` to a new file beside ``path``, with the permissions that ``path`` has or would get."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
