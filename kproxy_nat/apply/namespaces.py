"""Network namespaces: how they are named, and how work is done inside of one.

A namespace is a property of a thread (setns(2)), so the work is done by a worker thread of its own: commands
that it starts and sockets that it opens are inside, and the caller's threads stay where they are.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from kproxy_nat.errors import ApplyError, Code, Problem

NAMED = Path("/run/netns")
"""Where iproute2 keeps namespaces by name."""

PID_PREFIX = "pid:"
HOST = "host"

_OWN = Path("/proc/self/ns/net")
_INITIAL = Path("/proc/1/ns/net")
_NS_GET_NSTYPE = 0xB703
"""The request of ioctl_ns(2) that tells the kind of a namespace."""
_CLONE_NEWNET = 0x40000000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a namespace from all others, also from one of the same name before or after it."""

    boot_id: str
    device: int
    inode: int


class Namespace:
    """An open network namespace. It stays usable, though empty of its name, when somebody deletes it.

    Attributes:
        label: the shortest name for it, which messages and the state directory use.
        identity: see :class:`Identity`.
    """

    def __init__(self, label: str, descriptor: int) -> None:
        self.label = label
        self.identity = _identity(descriptor)
        self._descriptor = descriptor
        self._worker = ThreadPoolExecutor(1, "namespace", initializer=self._enter)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown()
        os.close(self._descriptor)

    @property
    def is_host(self) -> bool:
        """Whether this is the namespace that the caller asked for by ``--host``."""
        return self.label == HOST

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what ``function`` returns when it is called inside of the namespace."""
        return self._worker.submit(function, *args, **kwargs).result()

    def _enter(self) -> None:
        if self.is_host:
            return
        from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

        netns.setns(self._descriptor)


def open_namespace(name: str, *, create: bool = False) -> Namespace:
    """Open the namespace of that name, path, or process (``pid:N``); with ``create``, make it if need be.

    Raises:
        ApplyError: it is not there, may not be opened, or is the caller's own: that is the host's namespace,
            which must be asked for as such.
    """
    path = _path(name)
    if create and not path.exists():
        _create(name, path)
    namespace = _open(name, path)
    if namespace.identity in {_path_identity(own) for own in (_OWN, _INITIAL)}:
        with namespace:
            raise _refusal(
                Code.HOST_NOT_NAMED,
                f"{name} is the namespace that this command runs in",
                "to change the rules of the host itself, say so with --host",
            )
    return namespace


def open_host() -> Namespace:
    """Open the caller's own namespace."""
    return Namespace(HOST, os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))


def _path(name: str) -> Path:
    if name.startswith(PID_PREFIX):
        pid = name.removeprefix(PID_PREFIX)
        if not (pid.isascii() and pid.isdigit()):
            raise _refusal(Code.NAMESPACE_NOT_FOUND, f"{pid!r} is no process id", "write pid:N")
        return Path("/proc") / pid / "ns" / "net"
    if "/" in name:
        return Path(name)
    if name in ("", ".", ".."):
        raise _refusal(Code.NAMESPACE_NOT_FOUND, f"{name!r} cannot name a namespace", "ip netns lists names")
    return NAMED / name


def _create(name: str, path: Path) -> None:
    if path.parent != NAMED:
        message = f"cannot create {name}: only a namespace with a name can be created"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, "give a plain name, as to ip netns add")
    from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

    try:
        netns.create(path.name)
    except OSError as error:
        raise _os_refusal(f"cannot create namespace {name}", error) from None
    if not path.exists():
        raise _refusal(Code.NOT_PERMITTED, f"cannot create namespace {name}", "run as root")


def _open(name: str, path: Path) -> Namespace:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        known = ", ".join(sorted(entry.name for entry in NAMED.iterdir())) if NAMED.is_dir() else ""
        hint = f"there are: {known}" if known else "ip netns lists those that have names"
        message = f"there is no namespace {name}"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, f"{hint}; --create makes it") from None
    except OSError as error:
        raise _os_refusal(f"cannot open namespace {name}", error) from None
    try:
        _check_is_namespace(name, descriptor)
        return Namespace(_label(path, _identity(descriptor)), descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _check_is_namespace(name: str, descriptor: int) -> None:
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        message = f"{name} is no network namespace"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, "ip netns lists namespaces")


def _label(path: Path, identity: Identity) -> str:
    """Return the name under which iproute2 knows the namespace, or one made of its number."""
    if path.parent == NAMED:
        return path.name
    for entry in sorted(NAMED.iterdir()) if NAMED.is_dir() else ():
        if _path_identity(entry) == identity:
            return entry.name
    return f"net-{identity.inode}"


def _path_identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Identity(_boot_id(), found.st_dev, found.st_ino)


def _identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return Identity(_boot_id(), found.st_dev, found.st_ino)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _os_refusal(message: str, error: OSError) -> ApplyError:
    not_permitted = isinstance(error, PermissionError)
    code = Code.NOT_PERMITTED if not_permitted else Code.NAMESPACE_NOT_FOUND
    return _refusal(code, f"{message}: {error.strerror or error}", "run as root" if not_permitted else "")


def _refusal(code: Code, message: str, hint: str) -> ApplyError:
    return ApplyError(Problem(code, message, hint=hint))
