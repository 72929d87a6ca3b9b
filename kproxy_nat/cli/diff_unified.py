"""The level text: a unified diff of rules in canonical form, as other programs expect one."""

from __future__ import annotations

from collections.abc import Sequence

from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.diff.unified import unified_diff
from kproxy_nat.formats.iptables_blocks import canonical_blocks
from kproxy_nat.net.addresses import IpFamily

_RED, _GREEN, _CYAN, _BOLD, _PLAIN = (f"\x1b[{n}m" for n in (31, 32, 36, 1, 0))


def unified_text(old: Side, new: Side, families: Sequence[IpFamily], *, color: bool) -> str:
    """Return the difference of canonical rule text, family by family; empty if there is none.

    Raises:
        InvalidInputError: a rule that differs is broken.
    """
    lines: list[str] = []
    for family in families:
        before, after = old.dumped(family), new.dumped(family)
        suffix = f" ({family})" if len(families) > 1 else ""
        lines += unified_diff(
            canonical_blocks(before, after),
            canonical_blocks(after, before),
            f"{old.name}{suffix}",
            f"{new.name}{suffix}",
        )
    return "".join(f"{_painted(line) if color else line}\n" for line in lines)


def _painted(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return f"{_BOLD}{line}{_PLAIN}"
    style = {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[0])
    return f"{style}{line}{_PLAIN}" if style else line
