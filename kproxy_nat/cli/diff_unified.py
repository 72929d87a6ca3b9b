"""The level text: a unified diff of rules in canonical form, as other programs expect one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kproxy_nat.cli.diff_sides import Side
from kproxy_nat.diff.unified import Block, unified_diff
from kproxy_nat.formats.iptables_blocks import canonical_blocks
from kproxy_nat.formats.nft_blocks import canonical_nft_blocks
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import NFT_FAMILIES

_RED, _GREEN, _CYAN, _BOLD, _PLAIN = (f"\x1b[{n}m" for n in (31, 32, 36, 1, 0))


def unified_text(old: Side, new: Side, families: Sequence[IpFamily], *, color: bool) -> str:
    """Return the difference of canonical rule text; empty if there is none.

    Rules of iptables are compared family by family, as their files hold one; tables of nftables all at once.

    Raises:
        InvalidInputError: a rule that differs is broken.
    """
    lines: list[str] = []
    for family in families:
        before, after = old.dumped(family), new.dumped(family)
        suffix = f" ({family})" if len(families) > 1 else ""
        blocks = (canonical_blocks(before, after), canonical_blocks(after, before))
        lines += unified_diff(*blocks, f"{old.name}{suffix}", f"{new.name}{suffix}")
    lines += unified_diff(*_nft_blocks(old, new, families), old.name, new.name)
    return "".join(f"{_painted(line) if color else line}\n" for line in lines)


def _nft_blocks(old: Side, new: Side, families: Sequence[IpFamily]) -> tuple[list[Block], list[Block]]:
    left_out = {nft for family, nft in NFT_FAMILIES.items() if family not in families}
    labels = {label for side in (old, new) for label in _labels(side, left_out)}
    return canonical_nft_blocks(old.nft, new.nft, labels)


def _labels(side: Side, left_out: set[str]) -> Iterator[str]:
    return (label for label, table in side.nft.listed.items() if table.family not in left_out)


def _painted(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return f"{_BOLD}{line}{_PLAIN}"
    style = {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[0])
    return f"{style}{line}{_PLAIN}" if style else line
