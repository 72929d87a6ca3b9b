"""Rules from manifests into the node's namespace, as apply brings them there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy_nat.apply.backends import Backend, backend_of
from kproxy_nat.apply.engines import engines_for, find_tools
from kproxy_nat.apply.execution import Execution, execute
from kproxy_nat.apply.generations import FORMAT, VERSION, Generation, Record, namespace_folder
from kproxy_nat.apply.locking import locked
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.nft_script import nft_standby
from kproxy_nat.apply.planners import plan_change
from kproxy_nat.apply.planning import LiveRules, foreign_part
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Variant
from kproxy_nat.apply.wanted import rules_for, wanted_for
from kproxy_nat.cli.planning import plan_for
from kproxy_nat.lab.links import write_settings
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from kproxy_nat.ruleset.rules import NFT_FAMILIES
from tests.kernel.netns import VARIANTS
from tests.oracle.compiling import load, options_of
from tests.packet.world import NODE

COMMANDS = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}
NFTABLES, NFTABLES_COMPACT = "nftables", "nftables-compact"
NFT_LAYOUTS = {NFTABLES: Layout(), NFTABLES_COMPACT: Layout(LayoutName.COMPACT)}
KINDS = (*VARIANTS, *NFT_LAYOUTS)
"""Of rules: of either variant of iptables, or of nftables in one of its layouts."""

IPTABLES_ONLY = pytest.mark.parametrize("cluster", VARIANTS, indirect=True)
NFTABLES_ONLY = pytest.mark.parametrize("cluster", list(NFT_LAYOUTS), indirect=True)

CHAINS = {
    "masquerading": (("nat KUBE-POSTROUTING",), ("masquerading",)),
    "refusing": (("filter KUBE-SERVICES",), ("service-endpoints-check", "cluster-ips-check")),
    "dispatching": (("nat PREROUTING",), ("nat-prerouting",)),
}
"""Where rules are that are there for one thing: in iptables, in nftables."""

LOCK_WAIT = 60
"""Seconds. One lock of the legacy tools serves all namespaces."""

EMPTY = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n*nat\nCOMMIT\n"


class NoWatch:
    """Tests are not killed; what a watchdog does is tested elsewhere."""

    def over(self, generation: Generation) -> None: ...

    def until_confirmed(self, seconds: float) -> None: ...

    def decided(self) -> None: ...


@contextmanager
def no_watch() -> Iterator[NoWatch]:
    yield NoWatch()


def load_rules(
    node: Namespace,
    manifests: str,
    kind: str,
    state: Path,
    layout: Layout | None = None,
    variant: Variant = Variant.NFT,
) -> None:
    """Make the rules of the namespace, both families, those of ``node1`` in these manifests.

    The layout is that of the kind, and for iptables kube-proxy's, if none is given.

    What was applied before is changed into it. Foreign rules that a test has put there go first. ``variant``
    is that of the rules of iptables that rules of nftables take the place of.
    """
    cluster = load(manifests)
    mode = ProxyMode.NFTABLES if kind in NFT_LAYOUTS else ProxyMode.IPTABLES
    options = options_of(cluster, local_addresses=NODE.addresses, mode=mode)
    node.run(write_settings, {"ipv4/conf/all/route_localnet": "0"})
    views = [build_view(cluster, options, family) for family in IpFamily]
    layout = layout or NFT_LAYOUTS.get(kind) or Layout()
    wanted = wanted_for(cluster, options, views, layout, list(Backend), forwarding=False, inputs=(), given={})
    variant = variant if kind in NFT_LAYOUTS else Variant(kind)
    tools = find_tools(node, variant)
    folder = namespace_folder(state, node.folder)
    with locked(folder, node.label, LOCK_WAIT, lambda _: None) as lock:
        site = Site(node, engines_for(tools, LOCK_WAIT, (lock.busy,)), folder)
        for backend, rules in site.read_all((Backend.IPTABLES, Backend.IP6TABLES)).items():
            if foreign_part(rules.dump):
                tables(node, variant, backend.family, "restore", stdin=EMPTY)
        live = site.read_all(Backend)
        plan = plan_for("apply", site, variant, live, wanted)
        record = Record(FORMAT, VERSION, "", "apply", node.label, node.identity, "", variant, "")
        execute(site, live, Execution(plan.changes, plan.sysctls, plan.nfacct, record), no_watch)


def standby_script(manifests: str, family: IpFamily) -> str:
    """Return what makes the second table that serves while the layout of nftables is changed."""
    cluster = load(manifests)
    options = options_of(cluster, local_addresses=NODE.addresses, mode=ProxyMode.NFTABLES)
    view = build_view(cluster, options, family)
    old, new = (rules_for(view, layout) for layout in NFT_LAYOUTS.values())
    return nft_standby(plan_change(backend_of(ProxyMode.NFTABLES, family), LiveRules("", old), new))


def delete_rules(node: Namespace, kind: str, family: IpFamily, purpose: str) -> None:
    """Delete the rules that are there for one thing; see :data:`CHAINS`."""
    iptables, nftables = CHAINS[purpose]
    if kind in NFT_LAYOUTS:
        for chain in nftables:
            run(node, "nft", "flush", "chain", NFT_FAMILIES[family], "kube-proxy", chain)
    for place in iptables if kind not in NFT_LAYOUTS else ():
        table, chain = place.split()
        tables(node, kind, family, "restore", "--noflush", stdin=f"*{table}\n-F {chain}\nCOMMIT\n")


def tables(node: Namespace, variant: str, family: IpFamily, *words: str, stdin: str = "") -> str:
    """Run a tool of iptables in the namespace, and return what it prints: ``restore``, or ``save -c``."""
    tool, *arguments = words
    wait = ["-w", str(LOCK_WAIT)] if tool == "restore" else []
    return run(node, f"{COMMANDS[family]}-{variant}-{tool}", *wait, *arguments, stdin=stdin)


def run(node: Namespace, *command: str, stdin: str = "") -> str:
    """Run a command in the namespace that has to succeed, and return what it prints."""
    done = node.run(subprocess.run, command, input=stdin, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
