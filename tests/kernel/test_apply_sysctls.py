"""Kernel settings of a namespace: read, changed all or none, and restored."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator

import pytest

from kproxy_nat.apply import sysctls
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.sysctls import change_sysctls, read_sysctl, restore_sysctls
from kproxy_nat.errors import ApplyError, Code, NotRestoredError, Severity
from tests.kernel.netns import fresh_namespace, requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
FORWARD = "net.ipv4.ip_forward"
PORT_RANGE = "net.ipv4.ip_local_port_range"
ABSENT = "net.ipv4.no_such_setting"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with fresh_namespace("sysctl") as made:
        yield made


def told_by_sysctl(namespace: Namespace, name: str) -> str:
    command = ["ip", "netns", "exec", namespace.label, "sysctl", "-n", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_reading(namespace: Namespace) -> None:
    assert namespace.run(read_sysctl, FORWARD) == told_by_sysctl(namespace, FORWARD)
    assert namespace.run(read_sysctl, "net.ipv4.conf.lo.forwarding") == "0"
    assert namespace.run(read_sysctl, ABSENT) is None


def test_a_setting_of_an_interface_with_a_dot_in_its_name(namespace: Namespace) -> None:
    link = ["ip", "-n", namespace.label, "link", "add", "eth0.100", "type", "veth", "peer", "name", "peer0"]
    subprocess.run(link, check=True)
    name = "net.ipv4.conf.eth0/100.route_localnet"
    assert namespace.run(change_sysctls, {name: "1"}) == {name: "0"}
    assert told_by_sysctl(namespace, name) == "1"


def test_what_cannot_be_read(namespace: Namespace) -> None:
    with pytest.raises(ApplyError, match=r"^cannot read net\.ipv4\.conf: Is a directory$"):
        namespace.run(read_sysctl, "net.ipv4.conf")


def test_the_namespace_is_changed_and_no_other(namespace: Namespace) -> None:
    here = read_sysctl(ROUTE_LOCALNET)
    other = "0" if here == "1" else "1"
    namespace.run(change_sysctls, {ROUTE_LOCALNET: other})
    assert told_by_sysctl(namespace, ROUTE_LOCALNET) == other
    assert read_sysctl(ROUTE_LOCALNET) == here


def test_only_those_that_differ(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = sysctls._write

    def write_and_tell(name: str, value: str) -> None:
        written.append(name)
        write(name, value)

    monkeypatch.setattr(sysctls, "_write", write_and_tell)
    numbers = told_by_sysctl(namespace, PORT_RANGE)
    assert "\t" in numbers
    wanted = {FORWARD: "0", ROUTE_LOCALNET: "1", PORT_RANGE: numbers.replace("\t", " ")}
    assert namespace.run(change_sysctls, wanted) == {ROUTE_LOCALNET: "0"}
    assert written == [ROUTE_LOCALNET]
    assert namespace.run(change_sysctls, wanted) == {}
    assert written == [ROUTE_LOCALNET]


@pytest.mark.parametrize("name, value, reason", [(ABSENT, "1", "No such file"), (FORWARD, "x", "Invalid")])
def test_all_or_none(namespace: Namespace, name: str, value: str, reason: str) -> None:
    with pytest.raises(ApplyError) as caught:
        namespace.run(change_sysctls, {ROUTE_LOCALNET: "1", name: value})
    (problem,) = caught.value.problems
    assert problem.code is Code.SYSCTL_FAILED
    assert problem.message.startswith(f"cannot set {name} to {value}: {reason}")
    assert told_by_sysctl(namespace, ROUTE_LOCALNET) == "0"


def test_what_cannot_be_taken_back_either(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the file system became read-only after the first setting."""
    write = sysctls._write
    written: list[str] = []

    def write_once(name: str, value: str) -> None:
        if written:
            raise sysctls._not_set(name, value, OSError(errno.EROFS, "Read-only file system"))
        written.append(name)
        write(name, value)

    monkeypatch.setattr(sysctls, "_write", write_once)
    with pytest.raises(NotRestoredError) as caught:
        namespace.run(change_sysctls, {ROUTE_LOCALNET: "1", FORWARD: "1"})
    assert [problem.message for problem in caught.value.problems] == [
        f"cannot set {FORWARD} to 1: Read-only file system",
        f"cannot set {ROUTE_LOCALNET} to 0: Read-only file system",
    ]


class TestRestoring:
    def test_the_values_before(self, namespace: Namespace) -> None:
        wanted = {ROUTE_LOCALNET: "1", PORT_RANGE: "2000 3000"}
        numbers = told_by_sysctl(namespace, PORT_RANGE)
        before = namespace.run(change_sysctls, wanted)
        assert namespace.run(restore_sysctls, before, wanted) == ()
        assert told_by_sysctl(namespace, ROUTE_LOCALNET) == "0"
        assert told_by_sysctl(namespace, PORT_RANGE) == numbers
        assert namespace.run(restore_sysctls, before, wanted) == ()

    def test_what_somebody_else_changed_stays(self, namespace: Namespace) -> None:
        wanted = {FORWARD: "1", ROUTE_LOCALNET: "1"}
        before = namespace.run(change_sysctls, wanted)
        namespace.run(change_sysctls, {FORWARD: "2"})
        (problem,) = namespace.run(restore_sysctls, before, wanted)
        assert (problem.code, problem.severity) == (Code.SYSCTL_FAILED, Severity.WARNING)
        assert problem.message == f"{FORWARD} was changed from 1 to 2 by somebody else, and stays so"
        assert told_by_sysctl(namespace, FORWARD) == "2"
        assert told_by_sysctl(namespace, ROUTE_LOCALNET) == "0"

    def test_a_setting_that_is_gone(self, namespace: Namespace) -> None:
        assert namespace.run(restore_sysctls, {ABSENT: "0"}, {ABSENT: "1"}) == ()

    def test_one_that_cannot_be_restored_does_not_keep_the_others(self, namespace: Namespace) -> None:
        wanted = {FORWARD: "1", ROUTE_LOCALNET: "1"}
        namespace.run(change_sysctls, wanted)
        with pytest.raises(ApplyError, match=rf"^cannot set {re.escape(FORWARD)} to x: Invalid argument$"):
            namespace.run(restore_sysctls, {FORWARD: "x", ROUTE_LOCALNET: "0"}, wanted)
        assert told_by_sysctl(namespace, ROUTE_LOCALNET) == "0"
