"""The record of what was applied to a namespace: a folder of plain files for each time.

``0007.unfinished`` is written whole and flushed before anything is changed, and renamed to ``0007`` when all
is done: an unfinished one tells whoever comes next that a command was cut off, and what was there before.

::

    STATE_DIR/NAMESPACE/lock             held by who changes the namespace; its process id
                        busy             held by whatever still writes to the kernel
                        notes            what a watchdog did; shown once
                        0007/record.json
                             before.iptables.rules    ours before it, and built-in chains
                             after.iptables.rules     the same after it
                             (the same for ip6tables, nft-ip and nft-ip6)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.namespaces import Identity
from kproxy_nat.apply.planners import planner_of
from kproxy_nat.apply.tools import Variant
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.json_text import json_text, parse_json_text
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.udp_flows import UdpServices

FORMAT = "kproxy-nat/record"
VERSION = 1
KEPT = 5
"""How many generations stay; each allows one more roll-back."""

_RECORD = "record.json"
_CONFIRMED = "confirmed"
_UNFINISHED = ".unfinished"


class InputDigest(msgspec.Struct, frozen=True):
    """A manifest file (or ``-``) and the SHA-256 of its text."""

    source: str
    sha256: str


class SysctlChange(msgspec.Struct, frozen=True):
    """A kernel setting that was changed, with its value before."""

    name: str
    before: str
    after: str


class Record(msgspec.Struct, omit_defaults=True):
    """What was done, when, from what, and with which options; human-readable JSON.

    Attributes:
        sysctls: the settings that this changed.
        nfacct: the accounting objects that this made.
        original_sysctls: all that were changed since the first apply, with their values before that.
        own_nfacct: all objects that were made since the first apply.
        undoes: the number of the generation that this took back; both count as none from then on.
        forwarding: settings of interfaces that were on before forwarding was switched on for all of them.
        udp_services: where UDP traffic went from then on, for whoever goes back to it.
    """

    format: str
    version: int
    program: str
    action: str
    namespace: str
    identity: Identity
    time: str
    variant: Variant | None
    engine: str
    inputs: list[InputDigest] = []
    options: dict[str, str] = {}
    services: dict[IpFamily, int] = {}
    digests: dict[Backend, str] = {}
    sysctls: list[SysctlChange] = []
    nfacct: list[str] = []
    original_sysctls: list[SysctlChange] = []
    own_nfacct: list[str] = []
    forwarding: list[str] = []
    needs_confirmation: bool = False
    undoes: int = 0
    udp_services: dict[IpFamily, UdpServices] = {}


class Generation:
    """One folder of the record."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def number(self) -> int:
        """The number, from 1."""
        return int(self.path.name.partition(".")[0])

    @functools.cached_property
    def record(self) -> Record:
        """The record.

        Raises:
            ApplyError: it is damaged, or of another version.
        """
        path = self.path / _RECORD
        try:
            record = parse_json_text(path.read_bytes(), Record)
        except OSError as error:
            raise self._damaged(f"cannot read {path}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise self._damaged(f"cannot read {path}: {error}") from None
        if (record.format, record.version) != (FORMAT, VERSION):
            raise self._damaged(f"{path} is not a record of version {VERSION}")
        return record

    def before(self, backend: Backend) -> Dump:
        """Return our rules as they were before."""
        return self._rules("before", backend)

    def after(self, backend: Backend) -> Dump:
        """Return our rules as they were applied."""
        return self._rules("after", backend)

    def backends(self) -> list[Backend]:
        """Return the backends that were looked after, in the order of loading."""
        return list(self.record.digests)

    def changed_backends(self) -> list[Backend]:
        """Return those of the backends whose rules were to be others than before, as far as is known."""
        return [backend for backend in self.backends() if not self._is_same_text(backend)]

    def _is_same_text(self, backend: Backend) -> bool:
        before, after = (self.path / _rule_file(when, backend) for when in ("before", "after"))
        try:
            return before.read_bytes() == after.read_bytes()
        except OSError:
            return False

    def confirm(self) -> None:
        """Note that somebody confirmed.

        Raises:
            ApplyError: it cannot be noted; it may have been taken back meanwhile.
        """
        path = self.path / _CONFIRMED
        try:
            path.touch()
        except OSError as error:
            raise _unusable(f"cannot write {path}: {error.strerror}") from None

    @property
    def is_confirmed(self) -> bool:
        """Whether somebody confirmed."""
        return (self.path / _CONFIRMED).exists()

    def _rules(self, when: str, backend: Backend) -> Dump:
        path = self.path / _rule_file(when, backend)
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise self._damaged(f"cannot read {path}: {error.strerror}") from None
        return planner_of(backend).split(text, backend.family, None)

    def _damaged(self, message: str) -> ApplyError:
        return _unusable(message, f"remove {self.path}, and do without rolling back to before it")


class Generations:
    """All generations of one namespace.

    Args:
        folder: the namespace's folder in the state directory; it must be there.
        identity: the namespace's. Records of an earlier one with the same name are of no use.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._folder = folder
        self._identity = identity

    def latest(self) -> Generation | None:
        """Return the last finished generation, if it is of this very namespace."""
        return next(self._newest_first(), None)

    def udp_services_before(self, generation: Generation) -> dict[IpFamily, UdpServices]:
        """Return where UDP traffic went before a generation, in the families that it looked after."""
        families = {backend.family for backend in generation.backends()}
        found: dict[IpFamily, UdpServices] = {}
        for earlier in self._newest_first():
            if earlier.number < generation.number:
                services = earlier.record.udp_services
                found |= {f: services[f] for f in services.keys() & families if f not in found}
        return found

    def by_backend(self) -> dict[Backend, Generation]:
        """Return the last generation of each backend; the very last may be about one family only."""
        found: dict[Backend, Generation] = {}
        for generation in self._newest_first():
            found |= {b: generation for b in generation.backends() if b not in found}
        return found

    def unfinished(self) -> Generation | None:
        """Return the generation of a command that is under way or was cut off."""
        return next(filter(self._is_ours, self._unfinished()), None)

    def begin(
        self, record: Record, before: Mapping[Backend, Dump], after: Mapping[Backend, Dump]
    ) -> Generation:
        """Write a new unfinished generation, safe on the disk; records of earlier namespaces go.

        Raises:
            ApplyError: it cannot be written.
        """
        self._tidy()
        finished = self._finished()
        number = finished[-1].number + 1 if finished else 1
        staging = self._folder / f"{number:04}.writing"
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            for backend, dump in before.items():
                _write_rules(staging / _rule_file("before", backend), dump, finished[-1:], backend)
            for backend, dump in after.items():
                path = staging / _rule_file("after", backend)
                record.digests[backend] = _write_rules(path, dump, finished[-1:], backend)
            _write_record(staging, record)
            unfinished = staging.with_suffix(_UNFINISHED)
            staging.rename(unfinished)
            _flush(self._folder)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise _unusable(f"cannot write the state directory: {error.strerror}") from None
        return Generation(unfinished)

    def finish(self, generation: Generation) -> Generation:
        """Let the generation be the latest, and drop what it makes superfluous."""
        finished = generation.path.with_suffix("")
        generation.path.rename(finished)
        _flush(self._folder)
        self._tidy()
        return Generation(finished)

    def discard(self, generation: Generation) -> None:
        """Remove a generation; one that is half removed counts as none."""
        doomed = generation.path.with_suffix(".discarded")
        shutil.rmtree(doomed, ignore_errors=True)  # What is left of an earlier one would be in the way.
        with contextlib.suppress(OSError):
            generation.path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove generations that were taken back, of earlier namespaces, or too old.

        What is unfinished of an earlier namespace goes, too: its rules went with that.
        """
        for generation in self._unfinished():
            if not self._is_ours(generation):
                self.discard(generation)
        current = {generation.number for generation in self._current() if self._is_ours(generation)}
        kept = sorted(current)[-KEPT:]
        for generation in self._finished():
            if generation.number not in kept:
                self.discard(generation)

    def _is_ours(self, generation: Generation) -> bool:
        return generation.record.identity == self._identity

    def _current(self) -> list[Generation]:
        """Return the finished generations without those that were taken back, and what took them back."""
        finished = self._finished()
        undone = {number for g in finished if g.record.undoes for number in (g.number, g.record.undoes)}
        return [generation for generation in finished if generation.number not in undone]

    def _newest_first(self) -> Iterator[Generation]:
        return (generation for generation in reversed(self._current()) if self._is_ours(generation))

    def _finished(self) -> list[Generation]:
        paths = (path for path in self._folder.glob("*") if path.name.isdecimal())
        return sorted(_readable(paths), key=lambda generation: generation.number)

    def _unfinished(self) -> Iterator[Generation]:
        return _readable(self._folder.glob(f"*{_UNFINISHED}"))


def _readable(paths: Iterable[Path]) -> Iterator[Generation]:
    """Yield generations without those that whoever holds the lock has removed or renamed meanwhile.

    Raises:
        ApplyError: the record of one is damaged.
    """
    for generation in map(Generation, paths):
        try:
            generation.record  # noqa: B018 # It is read once, and kept.
        except ApplyError:
            if generation.path.exists():
                raise
        else:
            yield generation


def namespace_folder(state_dir: Path, name: str) -> Path:
    """Return the folder for a namespace's records, made if need be.

    Raises:
        ApplyError: it cannot be made.
    """
    folder = state_dir / name
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(f"cannot make {folder}: {error.strerror}") from None
    return folder


def add_note(folder: Path, note: str) -> None:
    """Leave a sentence for the next command to show."""
    with contextlib.suppress(OSError), (folder / "notes").open("a", encoding="utf-8") as file:
        file.write(f"{note}\n")


def take_notes(folder: Path) -> Iterator[str]:
    """Yield the sentences that were left, and forget them."""
    path = folder / "notes"
    with contextlib.suppress(OSError):
        notes = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
        yield from notes


def _write(path: Path, text: bytes) -> None:
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _rule_file(when: str, backend: Backend) -> str:
    return f"{when}.{backend.replace(' ', '-')}.rules"


def _write_rules(path: Path, dump: Dump, latest: Sequence[Generation], backend: Backend) -> str:
    """Write rules, and return their digest.

    Those of the latest generation are linked, not written again, where they are there and can be.
    """
    text = planner_of(backend).join(dump).encode(errors="surrogateescape")
    digest = hashlib.sha256(text).hexdigest()
    for generation in latest:
        if generation.record.digests.get(backend) == digest:
            with contextlib.suppress(OSError):
                os.link(generation.path / _rule_file("after", backend), path)
                return digest
    _write(path, text)
    return digest


def _write_record(folder: Path, record: Record) -> None:
    temporary = folder / f"{_RECORD}.new"
    _write(temporary, json_text(record, indent=2).encode())
    temporary.replace(folder / _RECORD)
    _flush(folder)


def _flush(folder: Path) -> None:
    """Flush a folder's entries: names are safe on the disk only then (rename(2), fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(message: str, hint: str = "--state-dir names another directory") -> ApplyError:
    return ApplyError(Problem(Code.STATE_UNUSABLE, message, hint=hint))
