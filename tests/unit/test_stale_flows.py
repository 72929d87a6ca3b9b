"""Which UDP flows are stale, and how the kernel's answers about them are read."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from types import TracebackType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy_nat.apply import conntrack
from kproxy_nat.apply.conntrack import (
    ATTEMPTS,
    Removal,
    UdpFlow,
    read_udp_flows,
    remove_stale_flows,
    stale_flows,
)
from kproxy_nat.errors import Code, Severity
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port
from kproxy_nat.proxy.udp_flows import UdpServices

SERVICES = UdpServices(
    {"10.96.0.10:53": ("10.180.0.4:53", "10.180.0.5:53"), "10.96.0.11:30053": ("10.180.0.6:53",)},
    {30053: ("10.180.0.4:53",)},
)


def flow(destination: str, endpoint: str) -> UdpFlow:
    return UdpFlow("10.1.0.2:40000", destination, int(destination.rpartition(":")[2]), endpoint)


@pytest.mark.parametrize(
    "destination, endpoint, stale",
    [
        ("10.96.0.10:53", "10.180.0.4:53", False),
        ("10.96.0.10:53", "10.180.0.5:53", False),
        ("10.96.0.10:53", "10.180.0.6:53", True),
        ("10.96.0.10:53", "10.180.0.4:54", True),
        ("10.96.0.10:53", "10.96.0.10:53", True),  # The first packet came before there was a rule.
        ("10.96.0.10:54", "10.180.0.6:53", False),
        ("10.96.0.12:53", "10.180.0.6:53", False),
        ("192.168.0.2:30053", "10.180.0.4:53", False),
        ("192.168.0.2:30053", "10.180.0.5:53", True),
        ("8.8.8.8:30053", "8.8.8.8:30053", True),  # Any address, also one that is not the node's.
        ("10.96.0.11:30053", "10.180.0.6:53", False),  # A frontend prevails over a node port,
        ("10.96.0.11:30053", "10.180.0.4:53", True),  # be it for good or bad.
    ],
)
def test_staleness(destination: str, endpoint: str, stale: bool) -> None:
    made = flow(destination, endpoint)
    assert list(stale_flows([made], SERVICES)) == ([made] if stale else [])


ADDRESSES = st.sampled_from([Address(text) for text in ("10.96.0.1", "10.96.0.2", "10.180.0.1")])
PORTS = st.sampled_from([53, 54, 30053])
TEXTS = st.builds(join_host_port, ADDRESSES, PORTS)
ENDPOINTS = st.lists(TEXTS, min_size=1, unique=True).map(tuple)
FLOWS = st.lists(st.builds(flow, TEXTS, TEXTS), max_size=12)


@given(FLOWS, st.builds(UdpServices, st.dictionaries(TEXTS, ENDPOINTS), st.dictionaries(PORTS, ENDPOINTS)))
def test_law(flows: list[UdpFlow], services: UdpServices) -> None:
    """Stale is a flow whose endpoint is not one of the Service that its destination means."""

    def meant(item: UdpFlow) -> Iterator[tuple[str, ...]]:
        yield from (listed for text, listed in services.frontends.items() if text == item.destination)
        yield from (
            listed
            for number, listed in services.node_ports.items()
            if item.destination.endswith(f":{number}") and item.destination not in services.frontends
        )

    expected = [item for item in flows if any(item.endpoint not in listed for listed in meant(item))]
    assert list(stale_flows(flows, services)) == expected


@pytest.mark.parametrize(
    "printed, made",
    [
        (
            "UDP 10.1.0.2:40000 -> 10.96.0.10:53 (was 10.180.0.4:53)",
            UdpFlow("10.1.0.2:40000", "10.96.0.10:53", 53, "10.180.0.4:53"),
        ),
        (
            "UDP [fd00::2]:40000 -> [fd00::a]:53 (was [fd01::4]:53)",
            UdpFlow("[fd00::2]:40000", "[fd00::a]:53", 53, "[fd01::4]:53"),
        ),
    ],
)
def test_a_flow_in_one_line(printed: str, made: UdpFlow) -> None:
    assert str(made) == printed


INTERRUPTED = 0x10
"""NLM_F_DUMP_INTR."""
ENTRY, ERROR, DONE = 0x100, 2, 3


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def tuple_of(source: str, sport: int, destination: str, dport: int, protocol: int) -> bytes:
    four = ":" not in source
    family, kinds = (socket.AF_INET, (1, 2)) if four else (socket.AF_INET6, (3, 4))
    pairs = zip(kinds, (source, destination), strict=True)
    addresses = b"".join(attribute(kind, socket.inet_pton(family, text)) for kind, text in pairs)
    numbers = attribute(1, bytes([protocol]))
    ports = b"".join(attribute(kind, struct.pack("!H", port)) for kind, port in ((2, sport), (3, dport)))
    return attribute(1, addresses) + attribute(2, numbers + ports)


def entry(client: str, vip: str, endpoint: str, protocol: int = socket.IPPROTO_UDP) -> bytes:
    """Return the attributes of an entry: port 40000 to port 53, answered by port 5353."""
    original = attribute(1 | 0x8000, tuple_of(client, 40000, vip, 53, protocol))
    status = attribute(3, bytes(4))
    return original + attribute(2 | 0x8000, tuple_of(endpoint, 5353, client, 40000, protocol)) + status


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def listed(body: bytes, flags: int = 0) -> bytes:
    return message(ENTRY, bytes(4) + body, flags)


def ended(code: int = 0, flags: int = 0, kind: int = DONE) -> bytes:
    return message(kind, struct.pack("=i", -code), flags)


class Kernel:
    """A socket that was told what the kernel says: a list of datagrams for each time it is opened."""

    def __init__(self, *sessions: list[bytes]) -> None:
        self.sessions = list(sessions)
        self.current: list[bytes] = []
        self.opened = 0
        self.sent: list[bytes] = []

    def open(self) -> Kernel:
        self.opened += 1
        self.current = list(self.sessions.pop(0))
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.current.clear()

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        datagram = self.current.pop(0)
        assert len(datagram) <= size
        return datagram


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(conntrack, "_netlink", made.open)
    return made


ONE, TWO = entry("10.1.0.1", "10.96.0.10", "10.180.0.4"), entry("10.1.0.2", "10.96.0.10", "10.180.0.5")
STALE = UdpServices({"10.96.0.10:53": ("10.180.0.9:5353",)})


def clients(flows: list[UdpFlow]) -> list[str]:
    return [item.source for item in flows]


class TestReading:
    def test_entries_over_several_datagrams(self, kernel: Kernel) -> None:
        kernel.sessions = [[listed(ONE) + listed(TWO), listed(ONE), ended()]]
        flows = read_udp_flows(IpFamily.IPV4)
        assert clients(flows) == ["10.1.0.1:40000", "10.1.0.2:40000", "10.1.0.1:40000"]
        assert str(flows[0]) == "UDP 10.1.0.1:40000 -> 10.96.0.10:53 (was 10.180.0.4:5353)"

    def test_addresses_of_ipv6_are_canonical(self, kernel: Kernel) -> None:
        kernel.sessions = [[listed(entry("fd00::1", "::10.96.0.10", "fd01::4")), ended()]]
        (made,) = read_udp_flows(IpFamily.IPV6)
        assert (made.source, made.destination) == ("[fd00::1]:40000", "[::a60:a]:53")

    def test_what_an_old_kernel_does_not_filter(self, kernel: Kernel) -> None:
        tcp = entry("10.1.0.3", "10.96.0.10", "10.180.0.4", socket.IPPROTO_TCP)
        kernel.sessions = [[listed(tcp) + listed(ONE), ended()]]
        assert clients(read_udp_flows(IpFamily.IPV4)) == ["10.1.0.1:40000"]

    @pytest.mark.parametrize(
        "cut_short",
        [
            [listed(ONE, INTERRUPTED), ended()],
            [listed(ONE), ended(flags=INTERRUPTED)],
            [listed(ONE), ended(errno.EINTR)],
            [listed(ONE), ended(errno.EINTR, kind=ERROR)],
        ],
    )
    def test_a_dump_that_was_cut_short_is_read_anew(self, kernel: Kernel, cut_short: list[bytes]) -> None:
        kernel.sessions = [cut_short, [listed(ONE) + listed(TWO), ended()], [ended()]]
        assert clients(read_udp_flows(IpFamily.IPV4)) == ["10.1.0.1:40000", "10.1.0.2:40000"]
        assert kernel.opened == 2

    def test_in_the_end_a_part_has_to_do(self, kernel: Kernel) -> None:
        partial = [listed(TWO), listed(ONE), ended(flags=INTERRUPTED)]
        kernel.sessions = [partial] * (ATTEMPTS + 1)
        assert clients(read_udp_flows(IpFamily.IPV4)) == ["10.1.0.2:40000", "10.1.0.1:40000"]
        assert kernel.opened == ATTEMPTS

    def test_a_refusal(self, kernel: Kernel) -> None:
        kernel.sessions = [[ended(errno.EPERM, kind=ERROR)]]
        with pytest.raises(PermissionError):
            read_udp_flows(IpFamily.IPV4)


class TestRemoving:
    def test_one_that_is_gone_meanwhile_is_not_counted(self, kernel: Kernel) -> None:
        answers = [ended(errno.ENOENT, kind=ERROR), ended(kind=ERROR)]
        kernel.sessions = [[listed(ONE) + listed(TWO), ended()], answers]
        removal = remove_stale_flows(STALE, IpFamily.IPV4)
        assert clients(list(removal.flows)) == ["10.1.0.2:40000"]
        assert removal.problems == ()

    def test_what_was_removed_before_a_failure_is_told(self, kernel: Kernel) -> None:
        answers = [ended(kind=ERROR), ended(errno.EBUSY, kind=ERROR)]
        kernel.sessions = [[listed(ONE) + listed(TWO), ended()], answers]
        removal = remove_stale_flows(STALE, IpFamily.IPV4)
        assert clients(list(removal.flows)) == ["10.1.0.1:40000"]
        (problem,) = removal.problems
        assert (problem.code, problem.severity) == (Code.CONNTRACK_FAILED, Severity.WARNING)
        assert problem.message == "cannot delete stale conntrack entries: Device or resource busy"

    def test_a_table_that_cannot_be_read(self, kernel: Kernel) -> None:
        kernel.sessions = [[ended(errno.EPERM, kind=ERROR)]]
        removal = remove_stale_flows(STALE, IpFamily.IPV4)
        assert removal.flows == ()
        assert [problem.message for problem in removal.problems] == [
            "cannot read the conntrack table: Operation not permitted"
        ]

    def test_without_udp_services_nothing_is_asked(self, kernel: Kernel) -> None:
        assert remove_stale_flows(UdpServices(), IpFamily.IPV4) == Removal(())
        assert kernel.opened == 0
