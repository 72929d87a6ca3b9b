"""Network namespaces: how they are named, and how work is done inside of one.

A namespace is a property of a thread (setns(2)), so the work is done by a worker thread of its own: commands
that it starts and sockets that it opens are inside, and the caller's threads stay where they are.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
_SO_NETNS_COOKIE = 71
"""From asm-generic/socket.h."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_MAKING = 1.0
"""Seconds within which a namespace that somebody makes is made."""
_PAUSE = 0.02

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a namespace from all others, also from one of the same name before or after it.

    Attributes:
        boot_id: of the running system.
        cookie: the kernel's number for it, never used twice until the next boot (SO_NETNS_COOKIE, since
            Linux 5.14); before that its inode, which may be used again.
    """

    boot_id: str
    cookie: int


class Namespace:
    """An open network namespace. It stays usable, though empty of its name, when somebody deletes it.

    Attributes:
        label: the shortest name for it, which messages and the state directory use.
        path: where it was opened.
        descriptor: the open file.
        created: whether it was not there before it was opened.
        is_host: whether it is the one that the caller is in and asked for as such; it is not entered.
        identity: see :class:`Identity`.
    """

    def __init__(
        self, label: str, path: Path, descriptor: int, *, is_host: bool = False, created: bool = False
    ) -> None:
        self.label = label
        self.created = created
        self.is_host = is_host
        self.path = path
        self.descriptor = descriptor
        self._worker = ThreadPoolExecutor(1, "namespace")
        self.run(self._enter)
        self.identity = Identity(_BOOT_ID.read_text().strip(), self.run(_cookie) or _inode(descriptor)[1])

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown()
        os.close(self.descriptor)

    @property
    def folder(self) -> str:
        """The name of its folder in the state directory, which no other namespace has at the same time."""
        return self.label if self.is_host else f"netns-{self.label}"

    @property
    def option(self) -> tuple[str, ...]:
        """The words that name it on a command line, of this machine or of another terminal."""
        if self.is_host:
            return ("--host",)
        named = _path_inode(NAMED / self.label) == _inode(self.descriptor)
        return "--netns", self.label if named else str(self.path)

    def still_there(self) -> bool:
        """Whether its path still leads to it."""
        return _path_inode(self.path) == _inode(self.descriptor)

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what ``function`` returns when it is called inside of the namespace."""
        return self.start(function, *args, **kwargs).result()

    def start(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Begin to call ``function`` inside of the namespace, once what was begun before is done."""
        return self._worker.submit(function, *args, **kwargs)

    def _enter(self) -> None:
        if self.is_host:
            return
        from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

        netns.setns(self.descriptor)


def open_namespace(name: str, *, create: bool = False, hint: str = "") -> Namespace:
    """Open the namespace of that name, path, or process (``pid:N``); with ``create``, make it if need be.

    Args:
        name: of ``ip netns``, a path, or ``pid:N``.
        create: whether to make one that has a name and is not there.
        hint: what else to say to somebody who names one that is not there.

    Raises:
        ApplyError: it is not there, may not be opened, or is the caller's own: that is the host's namespace,
            which must be asked for as such.
    """
    path = _path(name)
    created = create and not _exists(path) and _create(name, path)
    if create and not created:
        _wait_until_made(path)
    return _open(name, path, hint, created=created)


def named_namespaces() -> list[str]:
    """Return the names of ``ip netns``, sorted."""
    try:
        return sorted(entry.name for entry in NAMED.iterdir())
    except OSError:
        return []


def open_host() -> Namespace:
    """Open the caller's own namespace."""
    return Namespace(HOST, _OWN, os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC), is_host=True)


def _path(name: str) -> Path:
    if not name.isprintable():
        message = f"{name!r} cannot name a namespace: it has characters that cannot be printed"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, "ip netns lists names")
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


def _create(name: str, path: Path) -> bool:
    """Make a namespace; return whether nobody else was quicker."""
    if path.parent != NAMED:
        message = f"cannot create {name}: only a namespace with a name can be created"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, "give a plain name, as to ip netns add")
    if not name.isascii():  # pyroute2 makes no others.
        message = f"cannot create namespace {name}: its name is not ASCII"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, f"make it with: ip netns add {name}")
    from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

    try:
        netns.create(path.name)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return False
        raise _os_refusal(f"cannot create namespace {name}", error) from None
    if not path.exists():
        raise _refusal(Code.NOT_PERMITTED, f"cannot create namespace {name}", "run as root")
    return True


def _wait_until_made(path: Path) -> None:
    """Wait for somebody who makes it right now: first there is a file, then a namespace is mounted on it."""
    deadline = time.monotonic() + _MAKING
    while path.parent == NAMED and _is_plain_file(path) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _is_plain_file(path: Path) -> bool:
    found, own = _path_inode(path), _path_inode(_OWN)
    return found is not None and own is not None and found[0] != own[0]


def remove_namespace(namespace: Namespace) -> None:
    """Remove a namespace that was created; what holds it open keeps it until it closes it."""
    from pyroute2 import netns  # noqa: PLC0415 # a tenth of a second

    netns.remove(namespace.path.name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _open(name: str, path: Path, remedy: str, *, created: bool) -> Namespace:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        known = ", ".join(named_namespaces())
        hint = f"there are: {known}" if known else "ip netns lists those that have names"
        hint += f"; {remedy}" if remedy and path.parent == NAMED else ""
        raise _refusal(Code.NAMESPACE_NOT_FOUND, f"there is no namespace {name}", hint) from None
    except OSError as error:
        raise _os_refusal(f"cannot open namespace {name}", error) from None
    try:
        _check_is_namespace(name, descriptor)
        _check_is_not_host(name, descriptor)
        return Namespace(_label(path, descriptor), path, descriptor, created=created)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise _os_refusal(f"cannot enter namespace {name}", error) from None
        raise


def _check_is_namespace(name: str, descriptor: int) -> None:
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        message = f"{name} is no network namespace"
        raise _refusal(Code.NAMESPACE_NOT_FOUND, message, "ip netns lists namespaces")


def _check_is_not_host(name: str, descriptor: int) -> None:
    if _inode(descriptor) in {_path_inode(own) for own in (_OWN, _INITIAL)}:
        message = f"{name} is the namespace that this command runs in"
        hint = "to change the rules of the host itself, say so with --host"
        raise _refusal(Code.HOST_NOT_NAMED, message, hint)


def _label(path: Path, descriptor: int) -> str:
    """Return the name under which iproute2 knows the namespace, or one made of its number."""
    if path.parent == NAMED:
        return path.name
    for name in named_namespaces():
        if _path_inode(NAMED / name) == _inode(descriptor):
            return name
    return f"net-{_inode(descriptor)[1]}"


def _path_inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _inode(descriptor: int) -> tuple[int, int]:
    """Return device and inode, which tell apart the namespaces of one moment."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _cookie() -> int:
    """Return the cookie of the calling thread's namespace, 0 where the kernel has none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


def _os_refusal(message: str, error: OSError) -> ApplyError:
    not_permitted = isinstance(error, PermissionError)
    code = Code.NOT_PERMITTED if not_permitted else Code.NAMESPACE_NOT_FOUND
    return _refusal(code, f"{message}: {error.strerror or error}", "run as root" if not_permitted else "")


def _refusal(code: Code, message: str, hint: str) -> ApplyError:
    return ApplyError(Problem(code, message, hint=hint))
