"""Sources of the form ``git:REV[:PATH]``: which files of a revision are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kproxy_nat.git.repository import (
    GitError,
    Revision,
    TreeEntry,
    find_entry,
    list_folder,
    read_files,
)


@dataclass(frozen=True, slots=True)
class GitFiles:
    """The files that a source names; ``below`` tells of files that only ``recursive`` would read.

    Attributes:
        submodules: folders that belong to another repository, which git does not show the files of.
    """

    revision: Revision
    entries: list[TreeEntry]
    is_folder: bool
    below: bool
    submodules: list[str]

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each file.

        Raises:
            GitError: git cannot read one.
        """
        names = (self.revision.source_of(entry.path) for entry in self.entries)
        return zip(names, read_files(self.entries), strict=True)


def find_git_files(source: str, suffixes: tuple[str, ...], *, recursive: bool, others: bool) -> GitFiles:
    """Find the files of a source: one by name, or those of a folder that end with one of ``suffixes``.

    With ``others``, a folder without any such file yields all its files.

    Raises:
        GitError: there is no such revision or path, or it is no file or folder.
    """
    revision = Revision.parse(source)
    entry = find_entry(revision)
    if entry.is_submodule:
        raise GitError(
            f"{entry.path} is a submodule", "read it from within: its files are in a repository of its own"
        )
    if not entry.is_folder:
        return GitFiles(revision, [entry], is_folder=False, below=False, submodules=[])
    inside = list_folder(entry, recursive=recursive)
    files = [e for e in inside if e.is_file and not _is_hidden(entry, e)]
    chosen = [e for e in files if e.path.endswith(suffixes)]
    if not chosen and others:
        chosen = files
    submodules = [e.path for e in inside if e.is_submodule]
    below = not chosen and any(e.path.endswith(suffixes) for e in list_folder(entry, recursive=True))
    return GitFiles(revision, chosen, is_folder=True, below=below, submodules=submodules)


def _is_hidden(folder: TreeEntry, entry: TreeEntry) -> bool:
    """Whether a folder on the way to a file is hidden, as with directories on disk."""
    inner = entry.path.removeprefix(f"{folder.path}/" if folder.path else "")
    return any(part.startswith(".") for part in inner.split("/")[:-1])
