"""Rules of ip_tables, between the kernel's structures and iptables-save's words, by python-iptables.

The words of a match or target are read and printed by its own extension of libxtables, as iptables does it,
so whatever iptables knows is known here. That is one level below ``iptc.Rule``, which cannot be relied on: in
version 1.2 it writes wrong masks for IPv6 interfaces and no condition for ``! -p`` of IPv6, takes a value
that begins with ``!`` for a negated one, prints and reads each match again before it is used, cuts what is
printed after 1,024 bytes, takes entries of another revision for those that it knows, lets go of memory that
an extension still writes to, and makes all five tables in a namespace to look for a chain.

libxtables has one global state, so a process works on one rule at a time: see the engine's lock.
"""

from __future__ import annotations

import ctypes
import socket
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from iptc import ip4tc, ip6tc
from iptc import xtables as libxtables

from kproxy_nat.apply.python_iptables_extensions import (
    MATCH,
    STANDARD,
    TARGET,
    XTABLES,
    Kind,
    find_extension,
    options_of,
)
from kproxy_nat.formats.iptables_headers import PROTOCOL_NAMES
from kproxy_nat.formats.iptables_quoting import QuotingError, split_words
from kproxy_nat.net.addresses import IpFamily

VERDICTS = frozenset(("ACCEPT", "DROP", "QUEUE", "RETURN"))
_INTERFACE_SIZE = 16
_INVERTED = {"-i": 0x01, "-o": 0x02, "-s": 0x08, "-d": 0x10, "-f": 0x20, "-p": 0x40}
"""The bits of a header's ``invflags``, the same in both families."""
_FRAGMENT = 0x01
"""The bit of ``flags`` that stands for -f; IPv4 only."""
_NETWORKS = {"-s": ("src", "smsk"), "-d": ("dst", "dmsk")}
_INTERFACES = {"-i": ("iniface", "iniface_mask"), "-o": ("outiface", "outiface_mask")}
_PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}
_XTTYPE_NONE = 0
"""The type of an option without a value."""

_EXTENSION_ERRORS = (libxtables.XTablesError, ValueError, AttributeError, IndexError)
"""What iptc raises for a refused option; the last while it composes its message."""


class UntranslatableError(ValueError):
    """A rule that python-iptables cannot express or read."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What differs between the families.

    Attributes:
        table: the library's class.
        entry: the structure of a rule.
        header: the name of its field with addresses, interfaces and protocol.
        has_protocol: the bit that says that a protocol is asked for.
    """

    socket_family: socket.AddressFamily
    nfproto: int
    table: Any
    entry: Any
    header: str
    goto: int
    has_protocol: int
    known_flags: int


LAYOUTS = {
    IpFamily.IPV4: Layout(
        socket.AF_INET, libxtables.NFPROTO_IPV4, ip4tc.Table, ip4tc.ipt_entry, "ip", 0x02, 0, 0x03
    ),
    IpFamily.IPV6: Layout(
        socket.AF_INET6, libxtables.NFPROTO_IPV6, ip6tc.Table6, ip6tc.ip6t_entry, "ipv6", 0x04, 0x01, 0x05
    ),
}


_libc = ctypes.CDLL(None)
_libc.calloc.restype = ctypes.c_void_p
_libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.restype = None
_libc.free.argtypes = [ctypes.c_void_p]
_libc.open_memstream.restype = ctypes.c_void_p
_libc.open_memstream.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)]
_libc.rewind.restype = None
_libc.rewind.argtypes = [ctypes.c_void_p]
_libc.getprotobynumber.restype = ctypes.POINTER(ctypes.c_char_p)
_libc.fclose.argtypes = [ctypes.c_void_p]


class _Printed:
    """What C code prints, caught in memory while this is open; Python's own output goes its way.

    The library would put a pipe in the place of file descriptor 1, for all threads.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.c_void_p()
        self._size = ctypes.c_size_t()
        self._stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
        self._usual: int | None = None
        self._stream: int | None = None

    def __enter__(self) -> _Printed:
        self._stream = _libc.open_memstream(ctypes.byref(self._buffer), ctypes.byref(self._size))
        if not self._stream:
            raise MemoryError
        self._usual, self._stdout.value = self._stdout.value, self._stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stdout.value = self._usual
        _libc.fclose(self._stream)
        _libc.free(self._buffer)

    def take(self) -> str:
        """Return what was printed since the last time, without the line feed that the library puts last."""
        text = ctypes.string_at(self._buffer, self._size.value)
        _libc.rewind(self._stream)
        if not text.endswith(b"\n"):
            raise UntranslatableError("what libxtables prints cannot be caught with this C library")
        return text[:-1].decode(errors="surrogateescape")


class RuleReader:
    """Prints entries of a table as iptables-save does; to be used in a ``with`` statement.

    Args:
        layout: of the table's family.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._xt = XTABLES[layout.nfproto]
        self._printed = _Printed()

    def __enter__(self) -> RuleReader:
        self._printed.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._printed.__exit__(kind, error, trace)

    def arguments(self, table: Any, entry: Any) -> str:
        """Return the arguments of a rule, each with a blank before it.

        Raises:
            UntranslatableError: the installed extensions do not know a part of it.
        """
        header = getattr(entry, self._layout.header)
        start = ctypes.addressof(entry)
        parts = [*_header_words(header, self._layout)]
        offset = ctypes.sizeof(self._layout.entry)
        while offset < entry.target_offset:
            match = libxtables.xt_entry_match.from_address(start + offset)
            parts.append(f" -m {self._extension(MATCH, match, header)}")
            offset += match.u.match_size
        target = libxtables.xt_entry_target.from_address(start + entry.target_offset)
        if target.u.user.name:
            parts.append(f" -j {self._extension(TARGET, target, header)}")
        else:
            name = (table.get_target(entry) or b"").decode(errors="surrogateescape")
            option = "-g" if header.flags & self._layout.goto else "-j"
            parts.append(f" {option} {name}" if name else "")
        return "".join(parts)

    def _extension(self, kind: Kind, item: Any, header: Any) -> str:
        """Return the name of a match or target with its options."""
        user = item.u.user
        name: str = user.name.decode(errors="surrogateescape")
        size = getattr(item.u, f"{kind.name}_size")
        module = find_extension(kind, name, self._layout.nfproto)
        if module is None:
            raise UntranslatableError(f"there is no extension for {kind.name} {name}")
        if module.revision != user.revision or _full_size(module, kind) != size:
            known = f"the installed extension is of revision {module.revision}"
            raise UntranslatableError(f"{kind.name} {name} is of revision {user.revision}, {known}")
        if module.alias:
            name = module.alias(ctypes.pointer(item)).decode()
        if not module.save:
            return name
        self._xt.save(module, header, ctypes.addressof(item))
        return name + self._printed.take()


class RuleWriter:
    """Makes entries of a table from the arguments of rules.

    Args:
        layout: of the table's family.
        chains: the chains of the table, to which rules may lead.
    """

    def __init__(self, layout: Layout, chains: Collection[str]) -> None:
        self._layout = layout
        self._chains = chains
        self._xt = XTABLES[layout.nfproto]

    def entry(self, arguments: str, counters: tuple[int, int] = (0, 0)) -> Any:
        """Return the bytes of a rule, as an array that libiptc takes.

        Raises:
            UntranslatableError: the arguments are not those of a rule, or no extension knows them.
        """
        try:
            words = deque(word.value for word in split_words(arguments))
        except QuotingError as error:
            raise UntranslatableError(str(error)) from None
        entry = self._layout.entry()
        entry.counters.pcnt, entry.counters.bcnt = counters
        matches: list[bytes] = []
        target: bytes | None = None
        while words:
            negated, option = _next_option(words)
            if option in _INVERTED:
                value = "" if option == "-f" else _value(words, option)
                _write_header(getattr(entry, self._layout.header), option, value, negated, self._layout)
            elif option == "-m" and not negated:
                matches.append(self._extension(MATCH, _value(words, option), words, entry))
            elif option in ("-j", "-g") and not negated and target is None:
                target = self._target(option, _value(words, option), words, entry)
            else:
                raise UntranslatableError(f"{option} is out of place")
        return self._joined(entry, b"".join(matches), target or self._standard("", words, entry))

    def _joined(self, entry: Any, matches: bytes, target: bytes) -> Any:
        size = ctypes.sizeof(entry)
        entry.target_offset = size + len(matches)
        entry.next_offset = entry.target_offset + len(target)
        data = bytes(entry) + matches + target
        return (ctypes.c_ubyte * len(data)).from_buffer_copy(data)

    def _target(self, option: str, name: str, words: deque[str], entry: Any) -> bytes:
        if option == "-g":
            getattr(entry, self._layout.header).flags |= self._layout.goto
            return self._standard(name, words, entry)
        # Extensions come before chains, as with iptables; but to look for one that is not there takes long.
        plain = not words and (name in VERDICTS or name in self._chains)
        if plain or find_extension(TARGET, name, self._layout.nfproto) is None:
            return self._standard(name, words, entry)
        return self._extension(TARGET, name, words, entry)

    def _standard(self, name: str, words: deque[str], entry: Any) -> bytes:
        """Return the target that leads to a chain, ends the way of a packet, or does nothing."""
        if name and name not in VERDICTS and name not in self._chains:
            raise UntranslatableError(f"there is no chain or target {name}")
        target = bytearray(self._extension(TARGET, STANDARD, words, entry))
        libxtables.xt_entry_target.from_buffer(target).u.user.name = name.encode(errors="surrogateescape")
        return bytes(target)

    def _extension(self, kind: Kind, name: str, words: deque[str], entry: Any) -> bytes:
        """Take the options of a match or target from ``words``, and return its bytes."""
        module = find_extension(kind, name, self._layout.nfproto)
        if module is None:
            raise UntranslatableError(f"there is no {kind.name} {name}")
        with _placed(module, kind) as item:
            while _extension_option_follows(words):
                negated, option = _next_option(words)
                values = _option_values(module, option, words)
                self._parse(module, kind, option, values, negated, entry)
            try:
                getattr(self._xt, f"final_check_{kind.name}")(module)
                if module.x6_options:  # where there is no check of its own, the library forgets these
                    flags = getattr(module, kind.flags)
                    self._xt._options_fcheck(module.name, flags, module.x6_options)
            except _EXTENSION_ERRORS:
                raise UntranslatableError(f"{kind.name} {name} is incomplete") from None
            data: bytes = item()
            return data

    def _parse(
        self, module: Any, kind: Kind, option: str, values: Sequence[str], negated: bool, entry: Any
    ) -> None:
        given = [value.encode(errors="surrogateescape") for value in values]
        name = option.removeprefix("--").encode(errors="surrogateescape")
        parse = self._parse_new if module.x6_options else self._parse_old
        try:
            parse(module, kind, name, given, negated, entry)
        except _EXTENSION_ERRORS:
            words = " ".join((f"{'! ' if negated else ''}{option}", *values))
            raise UntranslatableError(f"{kind.name} {module.name.decode()} does not take {words}") from None

    def _parse_new(
        self, module: Any, kind: Kind, name: bytes, values: Sequence[bytes], negated: bool, entry: Any
    ) -> None:
        """Do what the library does, but for empty values, and options that depend on others before them."""
        known = _known_option(module, name)
        if known is None:
            raise libxtables.XTablesError
        place = getattr(module, kind.place)
        call = libxtables.xt_option_call()
        call.entry, call.ext_name = ctypes.pointer(known), module.name
        call.arg = libxtables._optarg.value = values[0] if values else None  # libxtables looks at both
        call.data = ctypes.cast(place[0].data, ctypes.c_void_p)
        call.xflags, call.invert = getattr(module, kind.flags), negated
        setattr(call, kind.name, ctypes.pointer(place))
        call.xt_entry, call.udata = ctypes.addressof(entry), module.udata
        libxtables.xtables._xtables_set_nfproto(self._layout.nfproto)
        if libxtables._wrap_x6fn(module.x6_parse, ctypes.pointer(call)):
            raise libxtables.XTablesError
        setattr(module, kind.flags, call.xflags)

    def _parse_old(
        self, module: Any, kind: Kind, name: bytes, values: Sequence[bytes], negated: bool, entry: Any
    ) -> None:
        words = (ctypes.c_char_p * (1 + len(values)))(name, *values)
        place = ctypes.cast(ctypes.pointer(getattr(module, kind.place)), ctypes.POINTER(ctypes.c_void_p))
        parse = getattr(self._xt, f"parse_{kind.name}")
        parse(words, ctypes.c_int(negated), module, ctypes.pointer(entry), place, None, None)


def _full_size(module: Any, kind: Kind) -> int:
    return int(libxtables.xt_align(module.size + ctypes.sizeof(kind.header)))


@contextmanager
def _placed(module: Any, kind: Kind) -> Iterator[Any]:
    """Give an extension memory to work in, and a function that returns what it has made of it.

    It may put other memory in the place of that, as DNAT did up to iptables 1.8.7, so that comes from malloc.
    """
    size = _full_size(module, kind)
    scratch = (ctypes.c_ubyte * max(1, module.udata_size))()
    pointer = ctypes.POINTER(kind.header)
    setattr(module, kind.place, ctypes.cast(_libc.calloc(1, size), pointer))
    module.udata = ctypes.addressof(scratch)
    setattr(module, kind.flags, 0)
    try:
        item = getattr(module, kind.place)[0]
        setattr(item.u, f"{kind.name}_size", size)
        item.u.user.name = b"" if module.name == STANDARD.encode() else module.real_name or module.name
        item.u.user.revision = module.revision
        if module.init:
            module.init(getattr(module, kind.place))
        yield lambda: _bytes(getattr(module, kind.place)[0], kind)
    finally:
        _libc.free(ctypes.cast(getattr(module, kind.place), ctypes.c_void_p))
        setattr(module, kind.place, pointer())
        module.udata = None


def _bytes(item: Any, kind: Kind) -> bytes:
    return ctypes.string_at(ctypes.addressof(item), getattr(item.u, f"{kind.name}_size"))


def _next_option(words: deque[str]) -> tuple[bool, str]:
    negated = words[0] == "!"
    if negated:
        words.popleft()
    return negated, _value(words, "!") if negated else words.popleft()


def _value(words: deque[str], option: str) -> str:
    if not words:
        raise UntranslatableError(f"nothing follows {option}")
    return words.popleft()


def _extension_option_follows(words: deque[str]) -> bool:
    """Whether an option of an extension comes next; those of iptables itself have a single dash."""
    first = words[0] if words else ""
    return (words[1] if first == "!" and len(words) > 1 else first).startswith("--")


def _option_values(module: Any, option: str, words: deque[str]) -> list[str]:
    """Return the values of an option, as many as the extension says.

    Extensions with the older interface do not say; canonical rules have no values there that look like
    options.
    """
    if module.x6_options:
        known = _known_option(module, option.removeprefix("--").encode(errors="surrogateescape"))
        takes = known is not None and known.type != _XTTYPE_NONE
        return [_value(words, option)] if takes else []
    values: list[str] = []
    while words and words[0] != "!" and not words[0].startswith("-"):
        values.append(words.popleft())
    return values


def _known_option(module: Any, name: bytes) -> Any:
    """Return the description of an option; ``None`` where there is none."""
    return next((known for known in options_of(module) if known.name == name), None)


def _write_header(header: Any, option: str, value: str, negated: bool, layout: Layout) -> None:
    if negated:
        header.invflags |= _INVERTED[option]
    if option in _NETWORKS:
        network, mask = _packed_network(value, layout.socket_family)
        _put(header, _NETWORKS[option][0], network)
        _put(header, _NETWORKS[option][1], mask)
    elif option in _INTERFACES:
        name, mask = _packed_interface(value)
        _put(header, _INTERFACES[option][0], name)
        _put(header, _INTERFACES[option][1], mask)
    elif option == "-p":
        header.proto = _protocol_number(value)
        header.flags |= layout.has_protocol
    elif layout.socket_family is socket.AF_INET:
        header.flags |= _FRAGMENT
    else:
        raise UntranslatableError("-f is for IPv4 only")


def _header_words(header: Any, layout: Layout) -> Iterator[str]:
    """Yield the header's options as iptables-save prints them, each with a blank before it."""
    if header.flags & ~layout.known_flags or header.invflags & ~sum(_INVERTED.values()):
        raise UntranslatableError("the header has conditions that iptables has no option for")
    for option, (address_field, mask_field) in _NETWORKS.items():
        negated = _negation(header, option)
        address, mask = _raw(header, address_field), _raw(header, mask_field)
        if any(mask) or negated or (any(address) and layout.socket_family is socket.AF_INET):
            yield f"{negated} {option} {_network_text(address, mask, layout.socket_family)}"
    for option, (name_field, mask_field) in _INTERFACES.items():
        negated = _negation(header, option)
        name, mask = _raw(header, name_field), _raw(header, mask_field)
        if mask[0] or negated:
            yield f"{negated} {option} {_interface_text(name, mask)}"
    if header.proto:
        yield f"{_negation(header, '-p')} -p {_protocol_name(header.proto)}"
    if layout.socket_family is socket.AF_INET and header.flags & _FRAGMENT:
        yield f"{_negation(header, '-f')} -f"


def _negation(header: Any, option: str) -> str:
    return " !" if header.invflags & _INVERTED[option] else ""


def _packed_network(text: str, family: socket.AddressFamily) -> tuple[bytes, bytes]:
    """Return an address without its host bits, and its mask, which may have holes."""
    address_text, slash, mask_text = text.partition("/")
    try:
        address = socket.inet_pton(family, address_text)
        size = len(address)
        if slash and not mask_text.isdigit():
            mask = socket.inet_pton(family, mask_text)
        else:
            length = int(mask_text) if slash else 8 * size
            host_bits = 8 * size - length
            mask = ((1 << 8 * size) - (1 << host_bits)).to_bytes(size, "big")
    except (OSError, UnicodeError, ValueError, OverflowError):
        raise UntranslatableError(f"{text} is no network") from None
    return bytes(a & b for a, b in zip(address, mask, strict=True)), mask


def _network_text(address: bytes, mask: bytes, family: socket.AddressFamily) -> str:
    bits = f"{int.from_bytes(mask, 'big'):0{8 * len(mask)}b}"
    length = bits.count("1")
    text = socket.inet_ntop(family, mask) if "01" in bits else str(length)
    return f"{socket.inet_ntop(family, address)}/{text}"


def _packed_interface(text: str) -> tuple[bytes, bytes]:
    """Return a name and its mask; a ``+`` at the end stands for any further characters, a NUL for none."""
    name = text.encode(errors="surrogateescape")
    if not 0 < len(name) < _INTERFACE_SIZE:
        raise UntranslatableError(f"{text} is no name of an interface")
    length = len(name) - 1 if name.endswith(b"+") else len(name) + 1
    return name.ljust(_INTERFACE_SIZE, b"\0"), (b"\xff" * length).ljust(_INTERFACE_SIZE, b"\0")


def _interface_text(name: bytes, mask: bytes) -> str:
    length = mask.find(0) if 0 in mask else _INTERFACE_SIZE
    if mask.strip(b"\xff").strip(b"\0"):
        raise UntranslatableError("an interface is masked in a way that iptables has no option for")
    shown = name[:length]
    more = length < _INTERFACE_SIZE and not shown.endswith(b"\0")
    return shown.partition(b"\0")[0].decode(errors="surrogateescape") + ("+" if more else "")


def _protocol_name(number: int) -> str:
    """Return the name that iptables lists: one that it knows itself, or else one of /etc/protocols."""
    if number in PROTOCOL_NAMES:
        return PROTOCOL_NAMES[number]
    found = _libc.getprotobynumber(number)
    return found[0].decode() if found else str(number)


def _protocol_number(text: str) -> int:
    known = int(text) if text.isdigit() else _PROTOCOL_NUMBERS.get(text)
    if known is not None and known <= 0xFFFF:
        return known
    try:
        return socket.getprotobyname(text)
    except OSError:
        raise UntranslatableError(f"there is no protocol {text}") from None


def _raw(header: Any, name: str) -> bytes:
    field = getattr(type(header), name)
    return ctypes.string_at(ctypes.addressof(header) + field.offset, field.size)


def _put(header: Any, name: str, data: bytes) -> None:
    field = getattr(type(header), name)
    ctypes.memmove(ctypes.addressof(header) + field.offset, data, field.size)
