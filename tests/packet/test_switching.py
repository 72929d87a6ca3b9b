"""Other rules for the same Services, while connections come in all the time: nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kproxy_nat.apply.nft_standby import standing_by
from kproxy_nat.apply.tools import require_tool
from kproxy_nat.lab.messages import Transport
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome, Reply, Target
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import requires_kernel
from tests.packet.cases import by_transport, cluster_ip, node_port
from tests.packet.conftest import Cluster
from tests.packet.loading import IPTABLES_ONLY, NFTABLES, NFTABLES_ONLY, standby_script
from tests.packet.manifests import manifests
from tests.packet.world import CLIENT, ENDPOINTS, NODE, VISITOR

pytestmark = [pytest.mark.kernel, requires_kernel]

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)
ROUND = [
    (NFTABLES, KUBE_PROXY),
    (NFTABLES, COMPACT),
    ("iptables", COMPACT),
    (NFTABLES, COMPACT),
    (NFTABLES, KUBE_PROXY),
    ("iptables", KUBE_PROXY),
]
"""Modes and layouts, each in place of the one before."""


@contextmanager
def asking(cluster: Cluster, who: Host, target: Target) -> Iterator[list[Reply]]:
    """Let a host ask, connection after connection, and collect what it hears."""
    replies: list[Reply] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            replies.append(cluster.ask(who, target))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield replies
    finally:
        enough.set()
        thread.join()


@IPTABLES_ONLY
@by_transport
def test_nobody_notices(cluster: Cluster, family: IpFamily, transport: Transport) -> None:
    text = manifests(transport=transport)
    cluster.load(text)
    with (
        asking(cluster, VISITOR, cluster_ip(family, transport)) as inside,
        asking(cluster, CLIENT, node_port(family, transport)) as outside,
    ):
        for mode, layout in ROUND:
            before = len(inside), len(outside)
            cluster.switch(text, NFTABLES if mode == NFTABLES else cluster.kind, layout)
            assert before < (len(inside), len(outside))
    for replies in (inside, outside):
        assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
        servers = {reply.answer.server for reply in replies if reply.answer}
        assert servers == {endpoint.name for endpoint in ENDPOINTS}


@IPTABLES_ONLY
def test_it_would_be_noticed(cluster: Cluster, family: IpFamily) -> None:
    """Had the old rules gone first: the test above can fail."""
    text = manifests()
    cluster.load(text)
    with asking(cluster, VISITOR, cluster_ip(family)) as replies:
        cluster.delete_rules(family, "dispatching")
        cluster.switch(text, NFTABLES, KUBE_PROXY)
    assert {reply.outcome for reply in replies} - {Outcome.ANSWERED}


@NFTABLES_ONLY
@by_transport
def test_a_second_table_serves(cluster: Cluster, family: IpFamily, transport: Transport) -> None:
    """Had the table no rules of its own for a moment: the second one serves, and only while it stands."""
    text = manifests(transport=transport)
    cluster.load(text)
    node, script = cluster.lab.of(NODE), standby_script(text, family)
    targets = [(VISITOR, cluster_ip(family, transport)), (CLIENT, node_port(family, transport))]

    def outcomes() -> set[Outcome]:
        return {cluster.ask(*target).outcome for target in targets}

    with ExitStack() as stack:
        node.run(stack.enter_context, standing_by(require_tool("nft").path, script, ()))
        for purpose in ("dispatching", "masquerading"):
            cluster.delete_rules(family, purpose)
        assert outcomes() == {Outcome.ANSWERED}
    assert Outcome.ANSWERED not in outcomes()
