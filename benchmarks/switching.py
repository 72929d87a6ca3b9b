"""Packets that find no Service while the layout of nftables is changed, with and without the second table.

Needs root. A namespace sends first packets of new flows (TCP SYN) to cluster IPs as fast as it can through
another one, where the engine of ``apply`` changes kube-proxy's layout into the compact one and back all the
time. A rule of a table of its own counts the packets that come to be forwarded and are still addressed to a
cluster IP: none should. Both ways are measured in one run, which takes twice ``--seconds``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time

import clusters
import msgspec

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.nft_engine import NftEngine
from kproxy_nat.apply.planners import plan_change
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.tools import require_tool
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.lab.building import build
from kproxy_nat.lab.topology import Host, Node, Topology
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.net.addresses import IpFamily, parse_address, parse_cidr
from kproxy_nat.proxy.options import Overrides, ProxyMode, resolve_options
from kproxy_nat.proxy.view import build_view

CROWD = 16
SENDER = Host("sender", tuple(parse_address(f"10.244.0.{number}") for number in range(1, CROWD + 1)))
SINK = Host("sink", (parse_address("10.128.0.0"),))
NODE = Node("node", (parse_address("192.168.0.2"),), (SENDER, SINK), (parse_cidr("10.96.0.0/16"),))
TOPOLOGY = Topology(Host("fabric", (parse_address("192.168.0.1"),)), (NODE,))
COUNTING = """table ip counting {
	chain forwarded {
		type filter hook forward priority -150;
		ip daddr 10.96.0.0/16 counter
		counter
	}
}
"""
SETTINGS = ["net.netfilter.nf_conntrack_tcp_timeout_syn_sent=1", "net.netfilter.nf_conntrack_checksum=0"]
"""A flow is new again after one second, and nobody looks at checksums."""
HOPS = 2
"""From the sender to the sink; what finds no Service ends at the fabric, which would send it back."""


def flood(services: int, seconds: float) -> None:
    """Send SYNs, each of another source port, address or Service than those before."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        end = time.monotonic() + seconds
        flows = itertools.product(range(1024, 65536), SENDER.addresses, range(services))
        for number, (port, source, service) in enumerate(itertools.cycle(flows)):
            target = f"10.96.0.{service}"
            sender.sendto(syn(socket.inet_aton(source), socket.inet_aton(target), port), (target, 0))
            if number % 1024 == 0 and time.monotonic() > end:
                return


def syn(source: bytes, target: bytes, port: int) -> bytes:
    """Return a packet; the kernel fills in the checksum of IP."""
    tcp = struct.pack(">HHIIBBHHH", port, 80, 0, 0, 5 << 4, 2, 1024, 0, 0)
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, HOPS, 6, 0, source, target) + tcp


def rules(services: int) -> list[Dump]:
    """Return those of both layouts."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": clusters.cluster(services, 3)})
    cluster = load_texts([SourceText("cluster", text)]).cluster
    options = resolve_options(cluster, Overrides(node_name="node-0", mode=ProxyMode.NFTABLES))
    view = build_view(cluster, options, IpFamily.IPV4)
    return [rules_for(view, Layout(name)) for name in (LayoutName.KUBE_PROXY, LayoutName.COMPACT)]


def change_of(old: Dump, new: Dump, *, standby: bool) -> FamilyChange:
    change = plan_change(Backend.NFT_IP, LiveRules("", old), new)
    assert all(part.standby for part in change.tables if old.tables)
    if standby:
        return change
    parts = tuple(msgspec.structs.replace(part, standby=()) for part in change.tables)
    return msgspec.structs.replace(change, tables=parts)


def measure(node: Namespace, sender: Namespace, arguments: argparse.Namespace, *, standby: bool) -> str:
    engine, layouts = NftEngine(require_tool("nft")), rules(arguments.services)
    node.run(subprocess.run, ["nft", "-f", "-"], input=("flush ruleset\n" + COUNTING).encode(), check=True)
    node.run(engine.prepare(change_of(Dump(IpFamily.IPV4), layouts[0], standby=False)).commit)
    round_trip = [change_of(*ends, standby=standby) for ends in (layouts, layouts[::-1])]
    command = [sys.executable, __file__, "--flood", "--services", str(arguments.services)]
    command += ["--seconds", str(arguments.seconds)]
    changes = 0
    with sender.run(subprocess.Popen, command) as flooding:
        while flooding.poll() is None:
            node.run(engine.prepare(round_trip[changes % 2]).commit)
            changes += 1
    listing = ["nft", "-j", "list", "table", "ip", "counting"]
    listed = json.loads(node.run(subprocess.run, listing, capture_output=True, check=True).stdout)
    found = [part["rule"]["expr"][-1]["counter"] for part in listed["nftables"] if "rule" in part]
    lost, sent = (counter["packets"] for counter in found)
    return f"{changes:8} {sent:10} {lost:10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=8, help="how many; at most 256")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flood", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.flood:
        flood(arguments.services, arguments.seconds)
        return
    with build(TOPOLOGY, f"kpn-s-{os.getpid()}") as lab:
        node, sender = lab.of(NODE), lab.of(SENDER)
        node.run(subprocess.run, ["sysctl", "-qw", *SETTINGS], check=True)
        print(f"{'':12}{'changes':>8} {'packets':>10} {'lost':>10}")
        for label, standby in (("one table", False), ("two tables", True)):
            print(f"{label:12}{measure(node, sender, arguments, standby=standby)}", flush=True)


if __name__ == "__main__":
    main()
