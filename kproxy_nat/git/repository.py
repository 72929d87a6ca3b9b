"""What a revision of a git repository holds, read with ``git ls-tree`` and ``git cat-file``: no checkout.

A revision is resolved once to the tree it names, so that a branch that moves meanwhile changes nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

PREFIX = "git:"

_TREE_MODE = "040000"
_FILE_MODES = ("100644", "100755")
_SUBMODULE_MODE = "160000"


class GitError(Exception):
    """A revision or path that cannot be read; ``hint`` is the remedy, where one is known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file, folder or submodule in a tree: its mode, the id of its object, and its path."""

    mode: str
    object_id: str
    path: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode == _TREE_MODE

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.mode in _FILE_MODES

    @property
    def is_submodule(self) -> bool:
        """Whether it is a commit of another repository, whose files are not in this one."""
        return self.mode == _SUBMODULE_MODE


@dataclass(frozen=True, slots=True)
class Revision:
    """A source ``git:REV[:PATH]``: the name of a revision, and a path in it, as they were written."""

    name: str
    path: str

    @classmethod
    def parse(cls, source: str) -> Revision:
        """Split a source. The path begins after the first colon that is outside of braces, as in git.

        Raises:
            GitError: the revision is missing.
        """
        text = source.removeprefix(PREFIX)
        depth = 0
        for position, character in enumerate(text):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == ":" and depth == 0:
                return cls._checked(text[:position], text[position + 1 :])
        return cls._checked(text, "")

    @classmethod
    def _checked(cls, name: str, path: str) -> Revision:
        if not name or name.startswith("-"):
            raise GitError(
                "the revision is missing", "write git:REV or git:REV:PATH, such as git:HEAD~1:k8s/"
            )
        return cls(name, path.rstrip("/"))

    def source_of(self, path: str) -> str:
        """Return how a file of this revision is named in messages."""
        return f"{PREFIX}{self.name}:{path}"


def find_entry(revision: Revision) -> TreeEntry:
    """Return what is at the path of a revision, as git reads ``REV:PATH``.

    A path is seen from the top of the repository; one that begins with ``./`` or ``../``, from where one
    stands.

    Raises:
        GitError: there is no git, no repository, no such revision, or no such path in it.
    """
    top = _git("rev-parse", "--show-prefix").strip()
    try:
        tree = _git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision.name}^{{tree}}"
        ).strip()
    except GitError:
        known = "a shallow clone lacks older commits: git fetch --unshallow" if _is_shallow() else ""
        raise GitError(
            f"git knows no revision {revision.name!r}", known or "git log lists revisions"
        ) from None
    path = _from_top(top, revision.path)
    if path == ".":
        return TreeEntry(_TREE_MODE, tree, "")
    listed = list(_tree_entries("ls-tree", "-z", "--full-tree", tree, "--", path))
    if not listed:
        raise GitError(f"revision {revision.name} holds no {path}", _nearby(revision, tree, path))
    return listed[0]


def list_folder(folder: TreeEntry, *, recursive: bool) -> list[TreeEntry]:
    """Return the entries of a folder, sorted by path; with ``recursive``, those of folders below it, too.

    Raises:
        GitError: the tree cannot be read.
    """
    arguments = ("ls-tree", "-z", "--full-tree", *(("-r",) if recursive else ()), folder.object_id)
    prefix = f"{folder.path}/" if folder.path else ""
    return [TreeEntry(e.mode, e.object_id, prefix + e.path) for e in _tree_entries(*arguments)]


def read_files(entries: Sequence[TreeEntry]) -> Iterator[bytes]:
    """Yield the content of each file, in order.

    Raises:
        GitError: an object is not there, as in a partial clone without its server.
    """
    if not entries:
        return
    wanted = "".join(f"{entry.object_id}\n" for entry in entries).encode()
    output = _run(("cat-file", "--batch"), wanted)
    position = 0
    for entry in entries:
        end = output.index(b"\n", position)
        words = output[position:end].split()
        if len(words) != 3 or words[1] != b"blob":
            raise GitError(f"git has no content for {entry.path}")
        size = int(words[2])
        yield output[end + 1 : end + 1 + size]
        position = end + 1 + size + 1


def _from_top(top: str, path: str) -> str:
    """Return a path as seen from the top of the repository."""
    relative = path.split("/", maxsplit=1)[0] in (".", "..")
    parts: list[str] = []
    for part in PurePosixPath(top if relative else ".", path.lstrip("/")).parts:
        if part == ".." and parts:
            parts.pop()
        elif part == "..":
            raise GitError(f"{path} is outside of the repository")
        else:
            parts.append(part)
    return "/".join(parts) or "."


def _nearby(revision: Revision, tree: str, path: str) -> str:
    """Say what is there instead of a path that is not."""
    parent, _, name = path.rpartition("/")
    folder = f"{parent}/" if parent else ""
    siblings = [
        e.path for e in _tree_entries("ls-tree", "-z", "--full-tree", tree, *((folder,) if folder else ()))
    ]
    alike = [sibling for sibling in siblings if name.lower() in sibling.rpartition("/")[2].lower()]
    shown = ", ".join((alike or siblings)[:5])
    return f"{revision.name} has {shown}" if shown else f"{revision.name} has no folder {parent}"


def _tree_entries(*arguments: str) -> Iterator[TreeEntry]:
    for line in _git(*arguments).split("\0"):
        if line:
            head, _, path = line.partition("\t")
            mode, _, object_id = head.split()
            yield TreeEntry(mode, object_id, path)


def _is_shallow() -> bool:
    return _git("rev-parse", "--is-shallow-repository").strip() == "true"


def _git(*arguments: str) -> str:
    return _run(arguments, b"").decode(errors="surrogateescape")


def _run(arguments: Sequence[str], stdin: bytes) -> bytes:
    try:
        done = subprocess.run(("git", *arguments), input=stdin, capture_output=True, check=False)
    except OSError as error:
        raise GitError(f"cannot run git: {error.strerror or error}", "install git") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().removeprefix("fatal: ").partition("\n")[0]
        hint = "git: sources are read from the repository that one stands in" if "repository" in said else ""
        raise GitError(f"git: {said or f'it ended with status {done.returncode}'}", hint)
    return done.stdout
