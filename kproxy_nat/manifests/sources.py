"""Reading sources: files, directories, revisions and standard input, as text that is safe to parse."""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kproxy_nat.errors import Code, Location, Problem, Severity
from kproxy_nat.git.repository import PREFIX as GIT_PREFIX
from kproxy_nat.git.repository import GitError
from kproxy_nat.manifests.git_sources import find_git_files

MANIFEST_SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_MAX_BYTES = 256 << 20
STDIN = "-"

_OTHER_SCHEMES = ("netns:", "host:", "cluster:")
_SIGNIFICANT_LINE = re.compile(r"^(?!\s*(?:#.*)?$).*$", re.MULTILINE)
_RULE_FILE = re.compile(
    r"\*\w+\s*$|:\S+ (?:-|ACCEPT|DROP) \[|(?:\[\d+:\d+\] )?-A \S"
    r"|(?:(?:add|create|delete|destroy|flush|insert|list|replace) +)?(?:table|ruleset)(?:\s|$)"
    r"|(?:add|create|delete|destroy|flush|insert|replace) +(?:chain|rule|set|map|element) "
)
_NFT_JSON = re.compile(r'\s*\{\s*"nftables"\s*:')
_OWN_DOCUMENT = re.compile(r'\s*\{\s*"format"\s*:\s*"kproxy-nat/(\w+)"')
_PLAN = "plan"


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of one file or stream; ``named`` if the user named it, not a directory that holds it."""

    name: str
    text: str
    named: bool = True


@dataclass(slots=True)
class Reading:
    """What was read: texts in a stable order, and the problems met on the way.

    Attributes:
        any_form: whether rule files are taken, too, and sources that hold nothing.
        texts: manifests.
        rules: rule files, if ``any_form``.
    """

    any_form: bool = False
    texts: list[SourceText] = field(default_factory=list)
    rules: list[SourceText] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    def refuse(self, code: Code, source: str, message: str, hint: str = "", *, line: int = 0) -> None:
        """Note that ``source`` cannot be used."""
        self.problems.append(Problem(code, message, location=Location(source, line), hint=hint))


def read_sources(
    sources: Sequence[str],
    stdin: BinaryIO,
    *,
    recursive: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    any_form: bool = False,
) -> Reading:
    """Read every source; directories yield their manifests, sorted by path.

    With ``any_form`` rule files are taken, too; a directory without manifests yields whatever files it holds,
    and a device, or a directory with nothing in it, may be empty: so others show what was added or removed.
    """
    reading = Reading(any_form)
    for source in dict.fromkeys(sources):
        if source == STDIN:
            _add_text(reading, "stdin", stdin.read(max_bytes + 1), max_bytes, named=True)
        elif source.startswith(GIT_PREFIX):
            _read_git(reading, source, recursive=recursive, max_bytes=max_bytes)
        elif not source or not os.path.exists(source):
            hint = _not_found_hint(source)
            reading.refuse(Code.SOURCE_NOT_FOUND, source or "''", "no such file or directory", hint)
        elif os.path.isdir(source):
            _read_directory(reading, Path(source), recursive=recursive, max_bytes=max_bytes)
        else:
            _read_file(reading, Path(source), max_bytes, named=not any_form or Path(source).is_file())
    return reading


def _not_found_hint(source: str) -> str:
    if source.startswith(_OTHER_SCHEMES):
        return "manifests are read from files, directories, git:REV:PATH and '-' (standard input)"
    path = Path(source)
    try:
        nearby = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{path.parent} is not a directory that can be read"
    close = difflib.get_close_matches(path.name, nearby, n=1, cutoff=0.75)
    return f"did you mean {path.parent / close[0]}?" if close else ""


def _read_git(reading: Reading, source: str, *, recursive: bool, max_bytes: int) -> None:
    try:
        found = find_git_files(source, MANIFEST_SUFFIXES, recursive=recursive, others=reading.any_form)
        for name, data in found.contents():
            if name not in reading.files:
                reading.files.add(name)
                _add_text(reading, name, data, max_bytes, named=not found.is_folder)
    except GitError as error:
        reading.refuse(Code.SOURCE_NOT_FOUND, source, error.message, error.hint)
        return
    for path in found.submodules:
        message = f"{path} is a submodule; its manifests are not read"
        reading.problems.append(
            Problem(Code.SUBMODULE, message, Severity.WARNING, Location(source), hint="read it from within")
        )
    if not found.entries and not reading.any_form:
        hint = _elsewhere(below=found.below)
        reading.refuse(Code.DIRECTORY_WITHOUT_MANIFESTS, source, "the directory holds no manifests", hint)


def _elsewhere(*, below: bool) -> str:
    return "they are in folders below it: add -R" if below else f"looked for {', '.join(MANIFEST_SUFFIXES)}"


def _read_directory(reading: Reading, directory: Path, *, recursive: bool, max_bytes: int) -> None:
    try:
        paths = sorted(_manifest_paths(directory, recursive=recursive))
        if not paths and reading.any_form:
            paths = sorted(Path(e.path) for e in os.scandir(directory) if e.is_file() and e.name[0] != ".")
    except OSError as error:
        reading.refuse(Code.SOURCE_UNREADABLE, str(directory), error.strerror or str(error))
        return
    before = len(reading.texts) + len(reading.problems)
    new = any(os.path.realpath(path) not in reading.files for path in paths)
    for path in paths:
        _read_file(reading, path, max_bytes, named=False)
    if reading.any_form:
        return
    if new and len(reading.texts) + len(reading.problems) == before:
        reading.refuse(Code.SOURCE_EMPTY, str(directory), "all manifests in the directory are empty")
    if not paths:
        below = not recursive and any(_manifest_paths(directory, recursive=True))
        message = "the directory holds no manifests"
        reading.refuse(Code.DIRECTORY_WITHOUT_MANIFESTS, str(directory), message, _elsewhere(below=below))


def _manifest_paths(directory: Path, *, recursive: bool) -> Iterator[Path]:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            if recursive and not entry.name.startswith("."):
                yield from _manifest_paths(Path(entry.path), recursive=True)
        elif entry.name.endswith(MANIFEST_SUFFIXES) and _holds_text(entry):
            yield Path(entry.path)


def _holds_text(entry: os.DirEntry[str]) -> bool:
    """Tell a file from a pipe or device, which could block for ever; what cannot be told is tried."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _read_file(reading: Reading, path: Path, max_bytes: int, *, named: bool) -> None:
    identity = os.path.realpath(path)
    if identity in reading.files:
        return
    reading.files.add(identity)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        reading.refuse(Code.SOURCE_UNREADABLE, str(path), error.strerror or str(error))
        return
    _add_text(reading, str(path), data, max_bytes, named=named)


def _add_text(reading: Reading, name: str, data: bytes, max_bytes: int, *, named: bool) -> None:
    if len(data) > max_bytes:
        message = f"the input is larger than {max_bytes >> 20} MiB"
        hint = "split it, or raise the limit with --max-input-mib"
        reading.refuse(Code.SOURCE_TOO_LARGE, name, message, hint)
        return
    try:
        text = _decode(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "a manifest is UTF-8 text"
        reading.refuse(Code.SOURCE_NOT_TEXT, name, f"not UTF-8 text: {error.reason}", hint, line=line)
        return
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        hint = "a manifest is UTF-8 text"
        reading.refuse(Code.SOURCE_NOT_TEXT, name, "not text: it holds NUL bytes", hint, line=line)
        return
    first = _SIGNIFICANT_LINE.search(text)
    if first is None:
        if named:
            hint = (
                "/dev/null stands for nothing" if reading.any_form else "a manifest has at least one object"
            )
            reading.refuse(Code.SOURCE_EMPTY, name, "the input is empty", hint)
    elif own := _OWN_DOCUMENT.match(text):
        message = f"this was written by kproxy-nat ({own[1]}) and is not a manifest"
        hint = (
            "a plan is carried out on its own, from a file: kproxy-nat apply FILE" if own[1] == _PLAN else ""
        )
        reading.refuse(Code.NOT_A_MANIFEST, name, message, hint)
    elif not (_RULE_FILE.match(first[0]) or _NFT_JSON.match(text)):
        reading.texts.append(SourceText(name, text, named))
    elif reading.any_form:
        reading.rules.append(SourceText(name, text, named))
    else:
        line = text.count("\n", 0, first.start()) + 1
        message = "this is a rule file, not a manifest"
        reading.refuse(
            Code.NOT_A_MANIFEST, name, message, "kproxy-nat import makes manifests of it", line=line
        )


def _decode(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark, which some shells write on redirection.

    Line ends of other systems become line feeds.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf16 else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
