"""The lab itself: there whole or not at all, and truthful about what came of a question."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from kproxy_nat.apply.namespaces import NAMED, open_namespace
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.lab import sctp
from kproxy_nat.lab.building import Lab, build
from kproxy_nat.lab.messages import Answer, Transport, decode
from kproxy_nat.lab.servers import Listener, serve
from kproxy_nat.lab.topology import Host, Node, Topology
from kproxy_nat.lab.traffic import Outcome, Reply, Target, ask, ask_many
from kproxy_nat.net.addresses import IpFamily, parse_address
from tests.kernel.netns import requires_kernel
from tests.packet.cases import BRIEFLY, by_transport
from tests.packet.conftest import Cluster
from tests.packet.expect import answer_of
from tests.packet.loading import IPTABLES_ONLY, tables
from tests.packet.manifests import manifests
from tests.packet.world import (
    CLIENT,
    ENDPOINTS,
    FABRIC,
    LISTENERS,
    NODE,
    POD_A,
    POD_FAR,
    TARGET_PORT,
    VISITOR,
    addresses,
)

pytestmark = [pytest.mark.kernel, requires_kernel]

SMALL = Topology(Host("fabric", addresses("192.168.0.1")), (Node("node", addresses("192.168.0.2")),))
NOWHERE = parse_address("192.0.2.200")


def of_prefix(prefix: str) -> list[str]:
    return sorted(path.name for path in NAMED.glob(f"{prefix}-*"))


@pytest.fixture
def prefix() -> str:
    return f"labtest-{secrets.token_hex(4)}"


def test_there_while_the_context_lasts(prefix: str) -> None:
    with build(SMALL, prefix) as lab:
        assert of_prefix(prefix) == [f"{prefix}-fabric", f"{prefix}-node"]
        assert isinstance(lab, Lab)
    assert of_prefix(prefix) == []


def test_gone_after_an_error(prefix: str) -> None:
    with pytest.raises(ZeroDivisionError), build(SMALL, prefix):
        raise ZeroDivisionError
    assert of_prefix(prefix) == []


def test_not_built_in_part(prefix: str) -> None:
    """The kernel does not take the second address of the last pod: it is the first once more."""
    bad = Host("bad", addresses("10.180.0.1", "10.180.0.1"))
    topology = Topology(SMALL.fabric, (Node("node", addresses("192.168.0.2"), pods=(bad,)),))
    with pytest.raises(ApplyError, match="File exists"), build(topology, prefix):
        pytest.fail("it was built")
    assert of_prefix(prefix) == []


def test_never_takes_a_namespace_that_is_there(prefix: str) -> None:
    with build(SMALL, prefix):
        with pytest.raises(ApplyError) as raised, build(SMALL, prefix):
            pytest.fail("it was built")
        assert raised.value.problems[0].code is Code.NOT_PERMITTED
        assert len(of_prefix(prefix)) == 2


def test_two_labs_at_once() -> None:
    with build(SMALL) as one, build(SMALL) as other:
        labels = [{namespace.label for namespace in lab.namespaces.values()} for lab in (one, other)]
    assert not labels[0] & labels[1]


def test_somebody_removed_a_namespace_meanwhile(prefix: str) -> None:
    from pyroute2 import netns

    with build(SMALL, prefix):
        netns.remove(f"{prefix}-node")
    assert of_prefix(prefix) == []


def test_the_caller_stays_where_it_is(prefix: str) -> None:
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    with build(SMALL, prefix) as lab, open_namespace(f"{prefix}-node") as node:
        assert Path("/proc/thread-self/ns/net").stat().st_ino == own
        assert node.run(os.stat, "/proc/thread-self/ns/net").st_ino != own
        assert lab.namespaces["node"].identity == node.identity


@by_transport
def test_everybody_reaches_everybody(cluster: Cluster, family: IpFamily, transport: Transport) -> None:
    """Rules or not: pods are reached by their own addresses, and see those of others."""
    cluster.load(manifests())
    for who in (CLIENT, FABRIC, NODE, VISITOR, *ENDPOINTS):
        for pod in ENDPOINTS:
            answer = answer_of(cluster.ask(who, Target(transport, pod.address(family), TARGET_PORT)))
            assert (answer.server, answer.peer) == (pod.name, who.address(family))


@by_transport
def test_every_question_has_a_port_of_its_own(
    cluster: Cluster, family: IpFamily, transport: Transport
) -> None:
    before = cluster.servers.answered()[POD_FAR.name]
    target = Target(transport, POD_FAR.address(family), TARGET_PORT)
    replies = cluster.lab.of(VISITOR).run(ask_many, target, 600)
    assert len({answer_of(reply).peer_port for reply in replies}) == 600
    assert cluster.servers.answered()[POD_FAR.name] - before == 600


def test_source_address(cluster: Cluster, family: IpFamily) -> None:
    source = [address for address in CLIENT.addresses if (":" in address) == (family is IpFamily.IPV6)][-1]
    reply = cluster.ask(CLIENT, Target(Transport.TCP, POD_A.address(family), TARGET_PORT, source))
    assert answer_of(reply).peer == source


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UDP])
def test_refused_by_a_host_that_does_not_serve(
    cluster: Cluster, family: IpFamily, transport: Transport
) -> None:
    reply = cluster.ask(VISITOR, Target(transport, POD_A.address(family), TARGET_PORT + 1))
    assert reply == Reply(Outcome.REFUSED)


def test_unreachable(cluster: Cluster) -> None:
    """The fabric has no default route."""
    assert cluster.ask(FABRIC, Target(Transport.TCP, NOWHERE, 80)).outcome is Outcome.UNREACHABLE


@IPTABLES_ONLY
def test_dropped(cluster: Cluster, family: IpFamily) -> None:
    """What is dropped on the way is not heard of; what the own host drops is not permitted."""
    cluster.load(manifests())
    drop = "*filter\n-A FORWARD -j DROP\n-A OUTPUT -p udp -j DROP\nCOMMIT\n"
    tables(cluster.lab.of(NODE), cluster.kind, family, "restore", stdin=drop)
    target = Target(Transport.UDP, POD_A.address(family), TARGET_PORT)
    assert cluster.ask(VISITOR, target, timeout=BRIEFLY).outcome is Outcome.TIMED_OUT
    assert cluster.ask(NODE, target).outcome is Outcome.NOT_PERMITTED


def test_port_that_is_taken(cluster: Cluster) -> None:
    with pytest.raises(ApplyError, match="cannot serve TCP"), serve(cluster.lab, LISTENERS[:1]):
        pytest.fail("it was served twice")


def test_servers_end_with_their_context(prefix: str) -> None:
    node = SMALL.nodes[0]
    target = Target(Transport.TCP, node.address(IpFamily.IPV4), TARGET_PORT)
    with build(SMALL, prefix) as lab:
        with serve(lab, [Listener(node, Transport.TCP, TARGET_PORT)]):
            assert lab.of(node).run(ask, target).outcome is Outcome.ANSWERED
        assert lab.of(node).run(ask, target).outcome is Outcome.REFUSED


def test_host_without_an_address_of_the_family() -> None:
    with pytest.raises(LookupError, match="node has no IPv6 address"):
        SMALL.nodes[0].address(IpFamily.IPV6)


def test_answer_on_the_wire() -> None:
    answer = Answer("pod-a", parse_address("fd00::1"), 4711)
    assert answer.encode() == b"pod-a fd00::1 4711\n"
    assert decode(answer.encode()) == answer


@pytest.mark.parametrize("cookie", [b"", b"pod-a 10.0.0.1 4711\n", b"odd"])
def test_sctp_packet_there_and_back(cookie: bytes) -> None:
    packet = sctp.Packet(40000, 80, 1 if cookie else 0, sctp.new_tag(), cookie)
    data = sctp.encode(packet)
    assert len(data) % 4 == 0
    assert sctp.decode(data, IpFamily.IPV6) == packet
    assert sctp.decode(b"\x45" + bytes(19) + data, IpFamily.IPV4) == packet


def test_sctp_packet_that_is_damaged() -> None:
    data = sctp.encode(sctp.Packet(40000, 80, 0, 4711))
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        assert sctp.decode(damaged, IpFamily.IPV6) is None
    assert sctp.decode(data[:-1], IpFamily.IPV6) is None


def test_sctp_checksum_is_crc32c() -> None:
    """The check value that RFC 3720 and catalogues of checksums give, in SCTP's byte order."""
    assert sctp.checksum(b"123456789") == int.from_bytes(0xE3069283.to_bytes(4, "little"), "big")
