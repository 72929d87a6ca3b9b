"""What a namespace tells about itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from kproxy_nat.apply import facts, nfacct_objects
from kproxy_nat.apply.facts import read_facts
from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    name = f"kpn-facts-{os.getpid()}"
    with open_namespace(name, create=True) as opened:
        yield opened
    subprocess.run(["ip", "netns", "del", name], check=True)


def command(namespace: Namespace, line: str) -> str:
    argv = ["ip", "netns", "exec", namespace.label, *line.split()]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_of_a_namespace_just_made(namespace: Namespace) -> None:
    found = namespace.run(read_facts)
    assert found == facts.NamespaceFacts((), False, frozenset(IpFamily), True)


class TestAddresses:
    def test_of_all_interfaces(self, namespace: Namespace) -> None:
        for line in (
            "ip link set lo up",
            "ip link add name kpn0 address 02:00:00:00:00:01 type veth peer name kpn1",
            "ip link set kpn0 up",
            "ip link set kpn1 addrgenmode none up",
            "ip addr add 10.1.0.10/24 dev kpn0",
            "ip addr add 10.1.0.9/24 dev kpn0",
            "ip addr add 10.1.0.9/32 dev lo",
            "ip addr add fd00:0:0::1/64 dev kpn0",
            "ip addr add ::10.96.0.1/128 dev lo",
        ):
            command(namespace, line)
        four = ("10.1.0.9", "10.1.0.10", "127.0.0.1")
        six = ("::1", "::a60:1", "fd00::1", "fe80::ff:fe00:1")
        assert namespace.run(read_facts).addresses == four + six

    def test_of_a_point_to_point_link_our_end(self, namespace: Namespace) -> None:
        command(namespace, "ip link add name kpn0 type veth peer name kpn1")
        command(namespace, "ip addr add 10.1.0.1 peer 10.1.0.2 dev kpn0")
        command(namespace, "ip addr add fd00::1 peer fd00::2 dev kpn0")
        assert namespace.run(read_facts).addresses == ("10.1.0.1", "fd00::1")

    def test_of_an_interface_that_is_down(self, namespace: Namespace) -> None:
        command(namespace, "ip addr add 10.1.0.1/32 dev lo")
        assert namespace.run(read_facts).addresses == ("10.1.0.1",)


def test_liberal_connection_tracking(namespace: Namespace) -> None:
    command(namespace, "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1")
    assert namespace.run(read_facts).tcp_be_liberal


def test_connection_tracking_that_is_not_loaded(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_TCP_BE_LIBERAL", "net.netfilter.no_such_setting")
    assert not namespace.run(read_facts).tcp_be_liberal


class TestFamilies:
    def test_ipv6_that_is_switched_off_here(self, namespace: Namespace) -> None:
        command(namespace, "sysctl -w net.ipv6.conf.all.disable_ipv6=1")
        assert namespace.run(read_facts).families == {IpFamily.IPV4}

    def test_ipv6_that_is_switched_off_for_one_interface(self, namespace: Namespace) -> None:
        command(namespace, "sysctl -w net.ipv6.conf.lo.disable_ipv6=1")
        assert namespace.run(read_facts).families == frozenset(IpFamily)

    def test_a_kernel_without_ipv6(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(facts, "_IF_INET6", facts._IF_INET6.with_name("no_such_file"))
        assert namespace.run(read_facts).families == {IpFamily.IPV4}


def test_a_kernel_without_nfacct(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfacct_objects, "_message_type", lambda command: 99 << 8 | command)
    assert not namespace.run(read_facts).nfacct


def test_reading_changes_nothing(namespace: Namespace) -> None:
    """Neither variant's tables appear: with them, the kernel would begin to track connections."""
    namespace.run(read_facts)
    assert command(namespace, "nft list ruleset") == ""
    assert command(namespace, "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names") == ""
