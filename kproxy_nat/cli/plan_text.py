"""Plans for people: a summary, and chain by chain what changes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from kproxy_nat.apply.changes import ChainChange
from kproxy_nat.apply.plan import Plan, Size, size
from kproxy_nat.proxy.options import ProxyMode

_RED, _GREEN, _YELLOW, _BOLD, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_STYLES = {"+": _GREEN, "-": _RED, "~": _YELLOW}
_NOUNS = {
    ProxyMode.IPTABLES: ("chains", "rules"),
    ProxyMode.NFTABLES: ("chains, maps and sets", "rules and elements"),
}


def plan_text(plan: Plan, *, color: bool) -> str:
    """Return the whole plan, with every rule that comes or goes."""
    return "".join(f"{line}\n" for line in _painted(_lines(plan), color=color))


def summary_lines(plan: Plan) -> list[str]:
    """Return a line for each thing that changes."""
    if plan.is_empty:
        return [f"{plan.namespace}: nothing to change"]
    families = [
        f"{plan.namespace}: {backend}: {_size_text(size(change), *_NOUNS[backend.mode])}"
        for backend, change in plan.changes.items()
        if change.tables
    ]
    return families + [f"{plan.namespace}: {name} becomes {value}" for name, value in plan.sysctls.items()]


def _lines(plan: Plan) -> Iterator[str]:
    yield from summary_lines(plan)
    for backend, change in plan.changes.items():
        for table in change.tables:
            yield f"{backend} {table.table}"
            for chain in table.chains:
                yield from _chain_lines(chain)
    for name, value in plan.sysctls.items():
        yield "sysctl"
        yield f"  ~ {name} = {value}"


def _chain_lines(chain: ChainChange) -> Iterator[str]:
    before, after = chain.before, chain.after
    sign = "+" if before is None else "-" if after is None else "~"
    yield f"  {sign} {chain.name}"
    old, new = before or (), after or ()
    for kind, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        if kind != "equal":
            yield from (f"      - {line}" for line in old[old_from:old_to])
            yield from (f"      + {line}" for line in new[new_from:new_to])


def _painted(lines: Iterator[str], *, color: bool) -> Iterator[str]:
    for line in lines:
        style = _STYLES.get(line.lstrip()[:1]) if line.startswith(" ") else _BOLD
        yield f"{style}{line}{_PLAIN}" if color and style else line


def _size_text(counts: Size, chains: str, rules: str) -> str:
    added, changed, deleted = counts.chains_added, counts.chains_changed, counts.chains_deleted
    return (
        f"{chains}: {added} added, {changed} changed, {deleted} deleted; "
        f"{rules}: {counts.rules_added} added, {counts.rules_removed} removed"
    )
