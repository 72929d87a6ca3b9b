"""The iptables layouts against each other: loading, a change of one endpoint, the first packet of a flow.

Needs root and ``ip``. Everything happens in network namespaces that are made here. For each size, in one run:

- load: ``iptables-restore`` of the file that compile writes, into a fresh namespace
- change: ``iptables-restore --noflush`` of the transaction that moves one endpoint; beside it the smallest
  possible transaction, one rule into an empty chain, on the same table
  Both in CPU seconds of the tool, which other work on the machine does not lengthen.
- first packet: round trip of UDP questions, each from a new port, from one namespace through the node's to
  the last Service, as a pod's traffic; 10th percentile, against a node without any rules

Bars: at 10,000 x 10 the compact layout loads at least 8 times faster than kube-proxy's with iptables-legacy,
and nowhere slower; its first packet costs at most 1.3 times that of no rules; its change costs at most 1.5
times the smallest one. A cell that would take more than 10 minutes is stopped, and says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clusters

from kproxy_nat.apply.planning import LiveRules, plan_change
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.formats.iptables_dump import split_dump
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.net.addresses import Cidr, IpFamily
from kproxy_nat.proxy.options import Overrides, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view

SIZES = ("1000x2", "10000x2", "30000x2", "1000x10", "10000x10", "30000x10", "1000x100", "200x500")
LIMIT = 600.0
"""Seconds after which a cell is stopped."""
QUESTIONS = 3000
PREFIX = f"kpn-c-{os.getpid()}"
CLIENT, NODE, SERVER = (f"{PREFIX}-{role}" for role in ("client", "node", "server"))
EMPTY = "*nat\n:KPN-C-EMPTY - [0:0]\nCOMMIT\n"
SMALLEST = "*nat\n-A KPN-C-EMPTY -j ACCEPT\nCOMMIT\n"

TOPOLOGY = f"""
ip netns add {CLIENT} && ip netns add {NODE} && ip netns add {SERVER} || exit
ip -n {NODE} link add left type veth peer name uplink netns {CLIENT}
ip -n {NODE} link add right type veth peer name uplink netns {SERVER}
for space in {CLIENT} {NODE} {SERVER}; do ip -n $space link set dev lo up; done
ip -n {NODE} addr add 172.31.0.1/30 dev left && ip -n {NODE} link set dev left up
ip -n {NODE} addr add 172.31.0.5/30 dev right && ip -n {NODE} link set dev right up
ip -n {CLIENT} addr add 172.31.0.2/30 dev uplink && ip -n {CLIENT} link set dev uplink up
ip -n {SERVER} addr add 172.31.0.6/30 dev uplink && ip -n {SERVER} link set dev uplink up
ip -n {CLIENT} route add default via 172.31.0.1
ip -n {SERVER} route add default via 172.31.0.5
ip -n {NODE} route add 10.0.0.0/8 via 172.31.0.6
ip -n {SERVER} route add local 10.0.0.0/8 dev lo
ip netns exec {NODE} sysctl -qw net.ipv4.ip_forward=1
"""


@dataclass
class Case:
    """One layout's rules for a size: as a file, and the transaction that moves one endpoint."""

    layout: LayoutName
    rules: str
    change: str
    load: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    smallest: list[float] = field(default_factory=list)
    first_packet: list[float] = field(default_factory=list)
    stopped: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="SERVICESxENDPOINTS,...")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--variant", choices=("legacy", "nft"), default="legacy")
    parser.add_argument("--packets", action="store_true", help="measure the first packet, too")
    options = parser.parse_args()
    gc.disable()
    for size in options.sizes.split(","):
        services, endpoints = map(int, size.split("x"))
        compare(services, endpoints, options)


def compare(services: int, endpoints: int, options: argparse.Namespace) -> None:
    """Measure the layouts by turns, and print medians and ratios."""
    before, after = views(services, endpoints)
    cases = [case_of(name, before, after) for name in LayoutName]
    print(f"{services} Services x {endpoints} endpoints, iptables-{options.variant}, {options.runs} runs")
    without: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.runs):
            if options.packets:
                without.append(first_packet(before, lambda: None))
            for case in cases:
                measure(case, before, options, Path(folder))
    report(cases, without)


def views(services: int, endpoints: int) -> tuple[NodeView, NodeView]:
    """Return a node's view of the cluster, over UDP, and the same with an endpoint of the middle moved."""
    items = clusters.cluster(services, endpoints)
    for item in items[1:]:
        ports = item["ports"] if item["kind"] == "EndpointSlice" else item["spec"]["ports"]
        ports[0]["protocol"] = "UDP"
    before = view_of(items)
    items[2 + services // 2 * 2]["endpoints"][-1]["addresses"] = ["10.250.0.99"]
    return before, view_of(items)


def view_of(items: list[dict[str, Any]]) -> NodeView:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster = load_texts([SourceText("cluster", text)]).cluster
    overrides = Overrides(node_name="node-0", cluster_cidrs=[Cidr("172.31.0.0/30")])
    return build_view(cluster, resolve_options(cluster, overrides), IpFamily.IPV4)


def case_of(name: LayoutName, before: NodeView, after: NodeView) -> Case:
    layout = Layout(name)
    rules = render_save(layout.ruleset(before))
    dump = split_dump(rules, IpFamily.IPV4)
    wanted = split_dump(render_save(layout.ruleset(after)), IpFamily.IPV4)
    return Case(name, rules, restore_text(plan_change(LiveRules(rules, dump), wanted)))


def measure(case: Case, view: NodeView, options: argparse.Namespace, folder: Path) -> None:
    """Measure a case once; note if it takes too long."""
    if case.stopped:
        return
    tool = f"iptables-{options.variant}-restore"

    def restore(text: str, *arguments: str) -> float:
        (folder / "rules").write_text(text)
        with (folder / "rules").open() as rules:
            start = child_seconds()
            command = ["ip", "netns", "exec", NODE, tool, *arguments]
            subprocess.run(command, stdin=rules, check=True, timeout=LIMIT)
            return child_seconds() - start

    try:
        with namespaces():
            case.load.append(restore(case.rules))
            case.changed.append(restore(case.change, "--noflush"))
            restore(EMPTY, "--noflush")
            case.smallest.append(restore(SMALLEST, "--noflush"))
        if options.packets:
            case.first_packet.append(first_packet(view, lambda: restore(case.rules)))
    except subprocess.TimeoutExpired:
        case.stopped = f"stopped after {LIMIT:.0f} s"
    except subprocess.CalledProcessError:
        case.stopped = "refused"


def child_seconds() -> float:
    """Return the CPU time of all children that have ended, in user and kernel mode."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_packet(view: NodeView, load: Callable[[], Any]) -> float:
    """Return the 10th percentile of round trips to the last Service, in microseconds."""
    last = view.services[-1].port
    script = str(Path(__file__).with_name("udp_ping.py"))
    with namespaces():
        load()
        inside = ["ip", "netns", "exec", SERVER, sys.executable, script, "server"]
        ports = {"8080"} | {str(last.port)}
        servers = [
            subprocess.Popen([*inside, port], stdout=subprocess.PIPE, text=True) for port in sorted(ports)
        ]
        try:
            for server in servers:
                assert server.stdout is not None
                server.stdout.readline()
            command = ["ip", "netns", "exec", CLIENT, sys.executable, script, "client"]
            asked = [last.cluster_ip, str(last.port), str(QUESTIONS)]
            done = subprocess.run([*command, *asked], check=True, capture_output=True, text=True)
        finally:
            for server in servers:
                server.kill()
                server.wait()
    times: list[float] = json.loads(done.stdout)
    return times[len(times) // 10]


@contextmanager
def namespaces() -> Iterator[None]:
    try:
        subprocess.run(["sh", "-c", TOPOLOGY], check=True)
        yield
    finally:
        for space in (CLIENT, NODE, SERVER):
            subprocess.run(["ip", "netns", "del", space], check=False)


def report(cases: list[Case], without: list[float]) -> None:
    if without:
        print(f"  {'no rules':<12} first packet {statistics.median(without):7.1f} us")
    for case in cases:
        if case.stopped:
            print(f"  {case.layout:<12} {case.stopped}")
            continue
        line = (
            f"  {case.layout:<12} load {statistics.median(case.load):7.2f} s"
            f"   change {statistics.median(case.changed):6.2f} s"
            f"   smallest {statistics.median(case.smallest):6.2f} s"
        )
        if case.first_packet:
            line += f"   first packet {statistics.median(case.first_packet):7.1f} us"
        print(line)
    reference, compact = cases
    if not (reference.stopped or compact.stopped):
        faster = statistics.median(r / c for r, c in zip(reference.load, compact.load, strict=True))
        dearer = statistics.median(c / s for c, s in zip(compact.changed, compact.smallest, strict=True))
        line = f"  compact loads {faster:.1f} times faster; its change costs {dearer:.2f} smallest ones"
        if without:
            pairs = zip(compact.first_packet, without, strict=True)
            line += f"; its first packet {statistics.median(c / w for c, w in pairs):.2f} of no rules"
        print(line, flush=True)


if __name__ == "__main__":
    main()
