"""The layouts of a mode against each other: loading, a change of one endpoint, the first packet of a flow.

Needs root and ``ip``. Everything happens in network namespaces that are made here. For each size, in one run:

- load: ``iptables-restore`` or ``nft -f`` of the file that compile writes, into a fresh namespace
- memory: what the kernel holds for it afterwards, where a memory cgroup says so; by another load, since
  accounting costs time
- change: the transaction of apply that moves one endpoint; one more: the one that adds one; beside them the
  smallest possible transaction, one rule into an empty chain or one element into an empty set, on the same
  table. All in CPU seconds of the tool, which other work on the machine does not lengthen.
- first packet: round trip of UDP questions, each from a new port, from one namespace through the node's to
  the last Service, as a pod's traffic; 10th percentile, against a node without any rules

Bars: at 10,000 x 10 the compact layout loads at least 8 times faster than kube-proxy's with iptables-legacy,
25 times with nftables, and nowhere slower; its first packet costs at most 1.3 times that of no rules; its
change costs at most 1.5 times the smallest one, with nftables at most 20 ms. A cell that would take more than
10 minutes is stopped, and says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clusters
from layout_tools import LIMIT, TOOLS, Tool, kernel_bytes, memory_group, run_in

from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.net.addresses import Cidr, IpFamily
from kproxy_nat.proxy.options import Overrides, ProxyMode, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view

SIZES = ("1000x2", "10000x2", "30000x2", "1000x10", "10000x10", "30000x10", "1000x100", "200x500")
QUESTIONS = 3000
PREFIX = f"kpn-c-{os.getpid()}"
CLIENT, NODE, SERVER = (f"{PREFIX}-{role}" for role in ("client", "node", "server"))

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
    """One layout's rules for a size: as a file, and the transactions that move an endpoint, or add one."""

    layout: LayoutName
    rules: str
    change: list[str]
    more: list[str]
    load: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    smallest: list[float] = field(default_factory=list)
    first_packet: list[float] = field(default_factory=list)
    stopped: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="SERVICESxENDPOINTS,...")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--variant", choices=TOOLS, default="legacy", help="of iptables; or nftables mode")
    parser.add_argument("--packets", action="store_true", help="measure the first packet, too")
    options = parser.parse_args()
    gc.disable()
    for size in options.sizes.split(","):
        services, endpoints = map(int, size.split("x"))
        compare(services, endpoints, options)
        gc.collect()


def compare(services: int, endpoints: int, options: argparse.Namespace) -> None:
    """Measure the layouts by turns, and print medians and ratios."""
    tool = TOOLS[options.variant]
    before, moved, more = views(services, endpoints, tool.mode)
    cases = [case_of(tool, Layout(name), before, moved, more) for name in LayoutName]
    print(f"{services} Services x {endpoints} endpoints, {tool.name}, {options.runs} runs")
    without: list[float] = []
    for _ in range(options.runs):
        if options.packets:
            without.append(first_packet(before, lambda: None))
        for case in cases:
            measure(case, before, tool, packets=options.packets)
    report(cases, without)


def views(services: int, endpoints: int, mode: ProxyMode) -> tuple[NodeView, NodeView, NodeView]:
    """Return a node's view of the cluster, over UDP, with an endpoint moved, and with another one added."""
    items = clusters.cluster(services, endpoints)
    for item in items[1:]:
        ports = item["ports"] if item["kind"] == "EndpointSlice" else item["spec"]["ports"]
        ports[0]["protocol"] = "UDP"
    before = view_of(items, mode)
    some = items[2 + services // 2 * 2]["endpoints"]
    some[-1]["addresses"] = ["10.250.0.99"]
    moved = view_of(items, mode)
    some.append({**some[-1], "addresses": ["10.250.0.100"]})
    return before, moved, view_of(items, mode)


def view_of(items: list[dict[str, Any]], mode: ProxyMode) -> NodeView:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster = load_texts([SourceText("cluster", text)]).cluster
    overrides = Overrides(node_name="node-0", cluster_cidrs=[Cidr("172.31.0.0/30")], mode=mode)
    return build_view(cluster, resolve_options(cluster, overrides), IpFamily.IPV4)


def case_of(tool: Tool, layout: Layout, before: NodeView, moved: NodeView, more: NodeView) -> Case:
    changes = tool.change(layout, before, moved), tool.change(layout, moved, more)
    return Case(layout.name, tool.rules(layout, before), *changes)


def measure(case: Case, view: NodeView, tool: Tool, *, packets: bool) -> None:
    """Measure a case once; note if it takes too long."""
    if case.stopped:
        return
    try:
        with namespaces():
            measure_rules(case, tool)
        if packets:
            case.first_packet.append(first_packet(view, lambda: measure_memory(case, tool)))
        else:
            with namespaces():
                measure_memory(case, tool)
    except subprocess.TimeoutExpired:
        case.stopped = f"stopped after {LIMIT:.0f} s"
    except subprocess.CalledProcessError:
        case.stopped = "refused"


def measure_rules(case: Case, tool: Tool) -> None:
    """Load the rules; do the smallest change, and those of one endpoint, each upon the one before."""
    case.load.append(run_in(NODE, tool.load, case.rules))
    run_in(NODE, tool.amend, tool.empty)
    case.smallest.append(run_in(NODE, tool.amend, tool.smallest))
    case.changed.append(sum(run_in(NODE, tool.amend, text) for text in case.change))
    case.added.append(sum(run_in(NODE, tool.amend, text) for text in case.more))


def measure_memory(case: Case, tool: Tool) -> None:
    """Load the rules, and note what the kernel holds for them."""
    with memory_group() as group:
        run_in(NODE, tool.load, case.rules, group)
        if group is not None:
            case.memory.append(kernel_bytes(group))


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
        print(f"  {case.layout:<12} {', '.join(figures(case))}")
    reference, compact = cases
    if not (reference.stopped or compact.stopped):
        faster = ratio(reference.load, compact.load)
        line = f"  compact loads {faster:.1f} times faster"
        for change, times in (("change", compact.changed), ("one more", compact.added)):
            line += f"; {change} costs {ratio(times, compact.smallest):.2f} smallest ones"
        if without:
            line += f"; its first packet {ratio(compact.first_packet, without):.2f} of no rules"
        print(line, flush=True)


def figures(case: Case) -> Iterator[str]:
    yield f"load {statistics.median(case.load):.2f} s"
    if case.memory:
        yield f"memory {statistics.median(case.memory) / 1e6:.1f} MB"
    for name, times in (("change", case.changed), ("one more", case.added), ("smallest", case.smallest)):
        yield f"{name} {statistics.median(times) * 1e3:.1f} ms"
    if case.first_packet:
        yield f"first packet {statistics.median(case.first_packet):.1f} us"


def ratio(times: list[float], others: list[float]) -> float:
    """Return the median of the ratios run by run."""
    return statistics.median(one / other for one, other in zip(times, others, strict=True))


if __name__ == "__main__":
    main()
