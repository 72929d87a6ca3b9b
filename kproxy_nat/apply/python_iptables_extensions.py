"""The extensions of libxtables, by python-iptables: loading them for both families in one process.

libxtables drops the targets of all families but the current one when a library of extensions is loaded, and
a library is loaded once. So ``iptables`` knows one family, and python-iptables finds no MASQUERADE for IPv6
after one for IPv4; or it lets a library register itself twice, upon which libxtables ends the process.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iptc import xtables as libxtables

# The library's own handler is a Python function that leaves itself by longjmp(3): the interpreter's stack is
# broken afterwards. The function that it calls, called by libxtables without a detour, does no harm.
libxtables._xt_globals.exit_err = ctypes.cast(libxtables._throw, libxtables._EXIT_FN)

STANDARD = "standard"
"""The target that stands for a verdict, a chain or nothing."""

XTABLES = {
    nfproto: libxtables.xtables(nfproto) for nfproto in (libxtables.NFPROTO_IPV4, libxtables.NFPROTO_IPV6)
}
"""The library's functions for each family; it would make them anew if nobody kept them."""

_MATCHES = XTABLES[libxtables.NFPROTO_IPV4]._match_struct
_TARGETS = XTABLES[libxtables.NFPROTO_IPV4]._target_struct
_PENDING = (
    (libxtables.xtables._xtables_pending_matches, _MATCHES),
    (libxtables.xtables._xtables_pending_targets, _TARGETS),
)
"""What libraries have registered, and nobody has looked for yet."""

_LONGER_BY = 8
"""Bytes by which limits of options have grown."""

_PREFIXES = {libxtables.NFPROTO_IPV4: "libipt_", libxtables.NFPROTO_IPV6: "libip6t_"}
_ANY_FAMILY = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """Matches or targets: the names that differ between their functions and structures."""

    name: str
    header: Any
    place: str
    flags: str


MATCH = Kind("match", libxtables.xt_entry_match, "m", "mflags")
TARGET = Kind("target", libxtables.xt_entry_target, "t", "tflags")


@dataclass(slots=True)
class _Library:
    """A loaded file.

    Attributes:
        families: those for which it has registered its extensions.
        dropped_others: the extensions that it has registered at first, if others of it may have been dropped.
            Those for any family must not be registered again, and matches are never dropped.
    """

    code: ctypes.CDLL
    families: set[int] = field(default_factory=set)
    dropped_others: list[Any] = field(default_factory=list)


_libraries: dict[Path, _Library] = {}


@functools.cache
def find_extension(kind: Kind, name: str, nfproto: int) -> Any:
    """Return the structure of a match or target in its highest revision; nothing if it is not there.

    libxtables is asked once its library is loaded, for it remembers names that are none, for both families.
    """
    libxtables.xtables._xtables_set_nfproto(nfproto)
    folder = Path(libxtables._xtables_libdir)
    paths = [folder / f"{prefix}{name}.so" for prefix in ("libxt_", _PREFIXES[nfproto])]
    present = [path.resolve() for path in paths if "/" not in name and path.exists()]
    for path in present:
        _load(path, nfproto)
    return _registered(kind, name, nfproto) if present else None


def options_of(module: Any) -> Iterator[Any]:
    """Yield the descriptions of an extension's options, where they are in the library's memory."""
    address = ctypes.addressof(module.x6_options[0])
    while (known := libxtables.xt_option_entry.from_address(address)).name is not None:
        yield known
        address += _option_size()


@functools.cache
def _option_size() -> int:
    """Return how far apart they are: those of iptables 1.8.11 are longer than python-iptables knows.

    Where the next name would be after a shorter one, the longer ones have a limit; and the first option of
    MASQUERADE, which has several, has no limits.
    """
    size = ctypes.sizeof(libxtables.xt_option_entry)
    module = find_extension(TARGET, "MASQUERADE", libxtables.NFPROTO_IPV4)
    if module is None:
        return size
    name = ctypes.c_void_p.from_address(ctypes.addressof(module.x6_options[0]) + size)
    return size if name.value else size + _LONGER_BY


def _registered(kind: Kind, name: str, nfproto: int) -> Any:
    """Look among the extensions of the libraries that are loaded.

    With ``XTF_DONT_LOAD``, as the library asks, only those are found that somebody had asked for before.
    """
    arguments: list[Any] = [name.encode(errors="surrogateescape"), libxtables.XTF_DURING_LOAD]
    if kind is MATCH:
        arguments.append(None)
    found = getattr(libxtables.xtables, f"_xtables_find_{kind.name}")(*arguments)
    structure = getattr(XTABLES[nfproto], f"_{kind.name}_struct")
    return ctypes.cast(found, ctypes.POINTER(structure))[0] if found else None


def _load(path: Path, nfproto: int) -> None:
    """Let a library register its extensions for a family, if that is possible and not done yet."""
    library = _libraries.get(path)
    if library is None:
        before = {ctypes.addressof(extension) for extension in _listed(*_PENDING)}
        library = _libraries[path] = _Library(ctypes.CDLL(str(path)), {nfproto})
        new = [each for each in _listed(*_PENDING) if ctypes.addressof(each) not in before]
        if all(type(each) is _TARGETS and each.family != _ANY_FAMILY for each in new):
            library.dropped_others = new
    elif library.dropped_others and nfproto not in library.families:
        library.families.add(nfproto)
        with _unlinked(library.dropped_others):
            getattr(library.code, f"{path.stem}_init")()


@contextmanager
def _unlinked(extensions: Iterable[Any]) -> Iterator[None]:
    """Hide that extensions are in a list, or were: libxtables would end the process for that."""
    links = [(extension, extension.next) for extension in extensions]
    for extension, _ in links:
        extension.next = None
    try:
        yield
    finally:
        for extension, following in links:
            extension.next = following


def _listed(*lists: tuple[Any, Any]) -> Iterator[Any]:
    """Yield the extensions in lists of libxtables, given by their heads and structures."""
    for head, structure in lists:
        address = head.value
        while address:
            extension = structure.from_address(address)
            address = extension.next
            yield extension
