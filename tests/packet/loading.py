"""Rules from manifests into the node's namespace, as apply brings them there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kproxy_nat.apply.execution import Execution, execute
from kproxy_nat.apply.generations import FORMAT, VERSION, Generation, Record, namespace_folder
from kproxy_nat.apply.locking import locked
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.planning import foreign_part
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Variant, find_iptables
from kproxy_nat.apply.wanted import wanted_for
from kproxy_nat.cli.planning import plan_for
from kproxy_nat.lab.links import write_settings
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import load, options_of

COMMANDS = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}
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


def load_rules(node: Namespace, manifests: str, variant: str, state: Path) -> None:
    """Make the rules of the namespace, both families, those of ``node1`` in these manifests.

    What was applied before is changed into it. Foreign rules that a test has put there go first.
    """
    cluster = load(manifests)
    options = options_of(cluster)
    node.run(write_settings, {"ipv4/conf/all/route_localnet": "0"})
    views = [build_view(cluster, options, family) for family in IpFamily]
    wanted = wanted_for(cluster, options, views, Layout(), forwarding=False, inputs=(), given={})
    tools = node.run(find_iptables, Variant(variant))
    folder = namespace_folder(state, node.folder)
    with locked(folder, node.label, LOCK_WAIT, lambda _: None) as lock:
        site = Site(node, RestoreEngine(tools, LOCK_WAIT, (lock.busy,)), folder)
        for family in IpFamily:
            if foreign_part(site.read(family).dump):
                tables(node, variant, family, "restore", stdin=EMPTY)
        live = site.read_all(IpFamily)
        plan = plan_for("apply", site, Variant(variant), live, wanted)
        record = Record(FORMAT, VERSION, "", "apply", node.label, node.identity, "", tools.variant, "")
        execute(site, live, Execution(plan.changes, plan.sysctls, plan.nfacct, record), no_watch)


def tables(node: Namespace, variant: str, family: IpFamily, *words: str, stdin: str = "") -> str:
    """Run a tool of iptables in the namespace, and return what it prints: ``restore``, or ``save -c``."""
    tool, *arguments = words
    wait = ["-w", str(LOCK_WAIT)] if tool == "restore" else []
    done = node.run(
        subprocess.run,
        [f"{COMMANDS[family]}-{variant}-{tool}", *wait, *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
