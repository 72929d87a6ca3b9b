"""Real packets under the compact layout: the kernel does what the interpreter of the tests says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from kproxy_nat.apply.planning import LiveRules, plan_change
from kproxy_nat.apply.restore_text import restore_text
from kproxy_nat.formats.iptables_dump import split_dump
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import VARIANTS, requires_kernel
from tests.kernel.packet_node import NODE_ADDRESS, Answer, PacketNode, packet_node
from tests.oracle.compiling import view_of
from tests.oracle.manifests import endpoint, endpoint_slice, node, port, service

pytestmark = [pytest.mark.kernel, requires_kernel]

LAYOUTS = [Layout(), Layout(LayoutName.COMPACT), Layout(LayoutName.COMPACT, Hairpin.ADDRESSES)]
POD1, POD2 = endpoint("10.180.0.1", "node1"), endpoint("10.180.0.2", "node2")
UDP = [port(8080, protocol="UDP")]
AFFINITY: dict[str, Any] = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
}
CONFIG = {"clusterCIDR": "10.180.0.0/16"}


def udp(**fields: Any) -> list[dict[str, Any]]:
    return [port(80, protocol="UDP", **fields)]


def objects() -> list[dict[str, Any]]:
    local: dict[str, Any] = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    return [
        node(),
        service("a/both", "10.96.0.1", ports=udp()),
        endpoint_slice("a/both", [POD1, POD2], ports=UDP),
        service("a/one", "10.96.0.2", ports=udp(nodePort=30002), type="NodePort"),
        endpoint_slice("a/one", [POD1], ports=UDP),
        service("a/none", "10.96.0.3", ports=udp()),
        service("a/sticky", "10.96.0.4", ports=udp(), **AFFINITY),
        endpoint_slice("a/sticky", [POD1, POD2], ports=UDP),
        service("a/local", "10.96.0.5", ports=udp(nodePort=30005), **local),
        endpoint_slice("a/local", [POD1, POD2], ports=UDP),
    ]


def rules_of(layout: Layout) -> str:
    return render_save(layout.ruleset(view_of(objects(), IpFamily.IPV4, CONFIG)))


def switch(old: Layout, new: Layout) -> str:
    """Return the transactions that plan would make to change from one layout to another."""
    text = rules_of(old)
    live = LiveRules(text, split_dump(text, IpFamily.IPV4))
    return restore_text(plan_change(live, split_dump(rules_of(new), IpFamily.IPV4)))


@pytest.fixture(params=[(v, layout) for v in VARIANTS for layout in LAYOUTS], ids=str)
def loaded(request: pytest.FixtureRequest) -> Iterator[PacketNode]:
    variant, layout = request.param
    with packet_node() as made:
        made.restore(rules_of(layout), variant)
        yield made


def test_packets(loaded: PacketNode) -> None:
    assert_served(loaded)


def assert_served(loaded: PacketNode, *, on_localhost: bool = True) -> None:
    """Send packets to all that :func:`objects` declare, and see them arrive as they have to.

    In nftables mode, no node port is served ``on_localhost``.
    """
    assert {loaded.ask("client", "10.96.0.1", 80).server for _ in range(40)} == {"pod1", "pod2"}
    # Pods keep their address, others are masqueraded, and so is who asks itself.
    assert loaded.ask("pod2", "10.96.0.2", 80) == Answer("pod1", "10.180.0.2")
    assert loaded.ask("client", "10.96.0.2", 80) == Answer("pod1", NODE_ADDRESS)
    assert loaded.ask("pod1", "10.96.0.2", 80) == Answer("pod1", NODE_ADDRESS)
    # Node ports, from outside and on the node itself.
    assert loaded.ask("client", NODE_ADDRESS, 30002) == Answer("pod1", NODE_ADDRESS)
    if on_localhost:
        assert loaded.ask("node", "127.0.0.1", 30002) == Answer("pod1", NODE_ADDRESS)
    # The policy Local keeps the client's address and the endpoint of this node; pods have all endpoints.
    assert {loaded.ask("client", NODE_ADDRESS, 30005) for _ in range(10)} == {Answer("pod1", "192.0.2.9")}
    assert {loaded.ask("pod1", NODE_ADDRESS, 30005).server for _ in range(40)} == {"pod1", "pod2"}
    with pytest.raises(ConnectionRefusedError):
        loaded.ask("client", "10.96.0.3", 80)
    assert len({loaded.ask("client", "10.96.0.4", 80).server for _ in range(20)}) == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_lost_while_the_layout_is_changed(variant: str) -> None:
    """New flows all the while, of outsiders, pods and hairpins; clients stay where they were."""
    kube_proxy, compact = LAYOUTS[0], LAYOUTS[1]
    there, back = switch(kube_proxy, compact), switch(compact, kube_proxy)
    asked: Counter[str] = Counter()
    failures: list[str] = []
    ended = threading.Event()
    with packet_node() as made:
        made.restore(rules_of(kube_proxy), variant)
        sticky = made.ask("client", "10.96.0.4", 80).server

        def keep_asking(who: str, address: str, expected: set[str]) -> None:
            while not ended.is_set():
                try:
                    answer = made.ask(who, address, 80)
                    asked[who] += 1
                    if answer.server not in expected:
                        failures.append(f"{who} got {answer}")
                except OSError as error:
                    failures.append(f"{who}: {error}")

        flows = [("client", "10.96.0.4", {sticky}), ("pod2", "10.96.0.1", {"pod1", "pod2"})]
        flows.append(("pod1", "10.96.0.2", {"pod1"}))
        threads = [threading.Thread(target=keep_asking, args=flow) for flow in flows]
        for thread in threads:
            thread.start()
        for _ in range(5):
            made.restore(there, variant, "--noflush")
            made.restore(back, variant, "--noflush")
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert min(asked.values()) > 10
    assert asked.keys() == {"client", "pod1", "pod2"}
