"""Kernel settings (sysctl(8)) of the namespace that the calling thread is in.

``/proc/sys/net`` shows each thread its own namespace. Values are texts, as ``sysctl -n`` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kproxy_nat.errors import ApplyError, Code, NotRestoredError, Problem, Severity
from kproxy_nat.net.addresses import IpFamily

_ROOT = Path("/proc/sys")
_FOLDERS = {IpFamily.IPV4: "ipv4", IpFamily.IPV6: "ipv6"}
_SEPARATORS = str.maketrans("./", "/.")
"""Dots are slashes in a path, and slashes are dots: ``net.ipv4.conf.eth0/100.forwarding``, see sysctl(8)."""


def read_sysctl(name: str) -> str | None:
    """Return the value of a setting; ``None`` if this kernel or namespace has none of that name.

    Raises:
        ApplyError: it is there, but cannot be read.
    """
    try:
        text = _path(name).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ApplyError(Problem(Code.SYSCTL_FAILED, f"cannot read {name}: {error.strerror}")) from None
    return _normal(text)


def change_sysctls(wanted: Mapping[str, str]) -> dict[str, str]:
    """Give settings these values, all or none; return the values before of those that differed.

    Raises:
        ApplyError: one cannot be changed; those before it have their old values again.
        NotRestoredError: one cannot be changed, and another cannot be changed back.
    """
    before: dict[str, str] = {}
    try:
        for name, value in wanted.items():
            current = read_sysctl(name)
            if current != _normal(value):
                _write(name, value)
                before[name] = current or ""
    except ApplyError as error:
        _take_back(before, wanted, error)
        raise
    return before


def restore_sysctls(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Problem, ...]:
    """Give settings the values ``before`` again, where they still have those that we gave them, ``after``.

    A setting that is gone, since its interface is, has nothing to be restored. One that somebody else has
    changed meanwhile is left alone, and a warning about it is returned.

    Raises:
        ApplyError: some cannot be changed back; all others are.
    """
    left: list[Problem] = []
    failed: list[Problem] = []
    for name, value in before.items():
        try:
            left += _restore(name, value, after[name])
        except ApplyError as error:
            failed += error.problems
    if failed:
        raise ApplyError(*failed, *left)
    return tuple(left)


def enabled_forwarding(family: IpFamily) -> list[str]:
    """Return the names of the interfaces' own forwarding settings that are on.

    Writing the setting for all of them writes each one, too (ip-sysctl in the kernel's documentation).
    """
    pattern = f"net/{_FOLDERS[family]}/conf/*/forwarding"
    names = (str(path.relative_to(_ROOT)).translate(_SEPARATORS) for path in _ROOT.glob(pattern))
    return sorted(name for name in names if read_sysctl(name) == "1" and ".conf.all." not in name)


def _restore(name: str, before: str, after: str) -> list[Problem]:
    current = read_sysctl(name)
    if current in (None, before):
        return []
    if current != _normal(after):
        message = f"{name} was changed from {after} to {current} by somebody else, and stays so"
        hint = f"it was {before} before the apply"
        return [Problem(Code.SYSCTL_FAILED, message, Severity.WARNING, hint=hint)]
    _write(name, before)
    return []


def _take_back(before: Mapping[str, str], after: Mapping[str, str], cause: ApplyError) -> None:
    try:
        restore_sysctls(before, after)
    except ApplyError as error:
        raise NotRestoredError(*cause.problems, *error.problems) from None


def _write(name: str, value: str) -> None:
    try:
        _path(name).write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        raise _not_set(name, value, error) from None


def _not_set(name: str, value: str, error: OSError) -> ApplyError:
    message = f"cannot set {name} to {value}: {error.strerror}"
    hint = "run where /proc/sys is writable, or set it yourself beforehand"
    return ApplyError(Problem(Code.SYSCTL_FAILED, message, hint=hint))


def _path(name: str) -> Path:
    return _ROOT / name.translate(_SEPARATORS)


def _normal(text: str) -> str:
    """Return a value as we compare it: the kernel puts tabs between several numbers, people put blanks."""
    return " ".join(text.split())
