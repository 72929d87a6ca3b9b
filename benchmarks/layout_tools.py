"""What loads rules, for ``layouts.py``: iptables-restore of either variant, or nft."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply import nft_planning, planning
from kproxy_nat.apply.nft_script import nft_removal, nft_script
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView

LIMIT = 600.0
"""Seconds after which a command is stopped."""

_MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True)
class Tool:
    """A command that loads rules from a file: whole, and changes of them; and the smallest change of all.

    Attributes:
        empty: makes something to put the smallest change into.
    """

    name: str
    mode: ProxyMode
    load: tuple[str, ...]
    amend: tuple[str, ...]
    empty: str
    smallest: str

    def rules(self, layout: Layout, view: NodeView) -> str:
        """Return the file that compile writes."""
        if self.mode is ProxyMode.NFTABLES:
            return render_listing(layout.nft_ruleset(view).tables.values())
        return render_save(layout.ruleset(view))

    def change(self, layout: Layout, before: NodeView, after: NodeView) -> list[str]:
        """Return the transactions by which apply would change the rules."""
        live, wanted = LiveRules("", rules_for(before, layout)), rules_for(after, layout)
        if self.mode is ProxyMode.NFTABLES:
            nft_change = nft_planning.plan_change(live, wanted)
            return [text for text in (nft_script(nft_change), nft_removal(nft_change)) if text]
        return [restore_text(planning.plan_change(live, wanted))]


def _iptables(variant: str) -> Tool:
    restore = f"iptables-{variant}-restore"
    return Tool(
        f"iptables-{variant}",
        ProxyMode.IPTABLES,
        (restore,),
        (restore, "--noflush"),
        "*nat\n:KPN-C-EMPTY - [0:0]\nCOMMIT\n",
        "*nat\n-A KPN-C-EMPTY -j ACCEPT\nCOMMIT\n",
    )


_NFT = ("nft", "-f", "-")
TOOLS = {
    "legacy": _iptables("legacy"),
    "nft": _iptables("nft"),
    "nftables": Tool(
        "nftables",
        ProxyMode.NFTABLES,
        _NFT,
        _NFT,
        "add set ip kube-proxy kpn-c-empty { type ipv4_addr ; }\n",
        "add element ip kube-proxy kpn-c-empty { 192.0.2.1 }\n",
    ),
}


def run_in(namespace: str, command: tuple[str, ...], text: str, memory: Path | None = None) -> float:
    """Run a command with a text as its input in a namespace, and return its CPU seconds, user and kernel.

    ``memory`` is a group that what the kernel allocates is charged to.

    Raises:
        subprocess.TimeoutExpired: it took longer than the limit.
        subprocess.CalledProcessError: the rules were refused.
    """
    # The namespace's own /sys has no groups, so this comes first.
    join = 'echo 0 > "$0" && exec "$@"'
    grouped = ("sh", "-c", join, str(memory / "cgroup.procs")) if memory else ()
    with tempfile.TemporaryFile("w+") as rules:
        rules.write(text)
        rules.seek(0)
        start = _child_seconds()
        inside = [*grouped, "ip", "netns", "exec", namespace, *command]
        subprocess.run(inside, stdin=rules, check=True, timeout=LIMIT)
        return _child_seconds() - start


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """Make a group for what the kernel allocates (cgroup v1); none where such groups cannot be made."""
    group = _MEMORY_CGROUPS / f"kpn-c-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def kernel_bytes(group: Path) -> int:
    """Return how much kernel memory is charged to a group."""
    return int((group / "memory.kmem.usage_in_bytes").read_text())
