"""Accounting objects: listed, made and deleted over netlink, as the nfacct tool sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kproxy_nat.apply import nfacct_objects
from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.apply.nfacct_objects import delete_nfacct, ensure_nfacct, has_nfacct, list_nfacct
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.lowering.iptables_common import NfacctCounter
from tests.kernel.netns import VARIANTS, WAIT, requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

LONGEST = "n" * 31
"""NFACCT_NAME_MAX is 32 bytes, the last of which is zero."""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    name = f"kpn-nfacct-{os.getpid()}"
    with open_namespace(name, create=True) as opened:
        yield opened
    subprocess.run(["ip", "netns", "del", name], check=True)


def command(namespace: Namespace, *words: str) -> str:
    argv = ["ip", "netns", "exec", namespace.label, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def told_by_nfacct(namespace: Namespace) -> set[str]:
    return set(re.findall(r"= (\S+);", command(namespace, "nfacct", "list")))


def test_the_kernel_has_them(namespace: Namespace) -> None:
    assert namespace.run(has_nfacct)
    assert namespace.run(list_nfacct) == frozenset()


def test_kube_proxys_are_made_once(namespace: Namespace) -> None:
    names = [str(name) for name in NfacctCounter]
    assert namespace.run(ensure_nfacct, names[:1]) == (names[0],)
    assert namespace.run(ensure_nfacct, names) == (names[1],)
    assert namespace.run(ensure_nfacct, names) == ()
    assert namespace.run(list_nfacct) == told_by_nfacct(namespace) == set(names)


def test_those_of_others_are_listed_and_stay(namespace: Namespace) -> None:
    command(namespace, "nfacct", "add", "theirs")
    assert namespace.run(list_nfacct) == {"theirs"}
    assert namespace.run(ensure_nfacct, ["theirs", "ours"]) == ("ours",)
    assert namespace.run(delete_nfacct, ["ours"]) == ()
    assert told_by_nfacct(namespace) == {"theirs"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_that_a_rule_refers_to_is_kept(namespace: Namespace, variant: str) -> None:
    rule = ("INPUT", "-m", "nfacct", "--nfacct-name", "used")
    namespace.run(ensure_nfacct, ["used", "free"])
    command(namespace, f"iptables-{variant}", WAIT, "-A", *rule)
    assert namespace.run(delete_nfacct, ["used", "free", "never-there"]) == ("used",)
    assert told_by_nfacct(namespace) == {"used"}
    command(namespace, f"iptables-{variant}", WAIT, "-D", *rule)
    assert namespace.run(delete_nfacct, ["used"]) == ()
    assert told_by_nfacct(namespace) == set()


def test_many_are_listed_whole(namespace: Namespace) -> None:
    names = [f"object-{number}" for number in range(1500)]
    assert namespace.run(ensure_nfacct, names) == tuple(names)
    assert namespace.run(list_nfacct) == set(names)


def test_a_name_that_is_too_long_leaves_nothing_behind(namespace: Namespace) -> None:
    assert namespace.run(ensure_nfacct, [LONGEST]) == (LONGEST,)
    with pytest.raises(ApplyError, match="cannot make accounting objects: Invalid argument"):
        namespace.run(ensure_nfacct, ["first", LONGEST + "n"])
    assert told_by_nfacct(namespace) == {LONGEST}


def test_without_privilege(namespace: Namespace) -> None:
    script = """
from kproxy_nat.apply.nfacct_objects import *
from kproxy_nat.errors import ApplyError
print(has_nfacct())
for attempt in (list_nfacct, lambda: ensure_nfacct(["a"]), lambda: delete_nfacct(["a"])):
    try:
        attempt()
    except ApplyError as error:
        print(error.problems[0].code, error)
"""
    without = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert command(namespace, *without, sys.executable, "-c", script).splitlines() == [
        "False",
        "KPN502 cannot list accounting objects: Operation not permitted",
        "KPN502 cannot make accounting objects: Operation not permitted",
        "KPN502 cannot delete accounting objects: Operation not permitted",
    ]


def test_a_kernel_without_them(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subsystem that no kernel has stands for it."""
    monkeypatch.setattr(nfacct_objects, "_message_type", lambda command: 99 << 8 | command)
    assert not namespace.run(has_nfacct)
    with pytest.raises(ApplyError) as caught:
        namespace.run(ensure_nfacct, ["a"])
    assert caught.value.problems[0].code is Code.KERNEL_FEATURE_MISSING
