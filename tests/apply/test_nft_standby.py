"""The second table, which serves while the layout is changed: that it stands in the kernel, and goes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.apply.backends import backend_of
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.nft_engine import NftEngine
from kproxy_nat.apply.nft_script import nft_standby
from kproxy_nat.apply.nft_standby import STANDBY, standing_by
from kproxy_nat.apply.planners import plan_change
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.tools import Tool, require_tool
from kproxy_nat.apply.wanted import rules_for
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.nft_dump import join_listing, split_listing
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.ruleset.rules import NFT_FAMILIES
from tests.apply.bench import PATIENCE, ROOT
from tests.kernel.netns import fresh_namespace, requires_kernel
from tests.oracle.compiling import random_input

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)

pytestmark = [pytest.mark.kernel, requires_kernel]

by_family = pytest.mark.parametrize("family", IpFamily)
both_ways = pytest.mark.parametrize("ways", [(KUBE_PROXY, COMPACT), (COMPACT, KUBE_PROXY)])


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with fresh_namespace("standby") as made:
        yield made


def rules(family: IpFamily, layout: Layout, seed: int = 1) -> Dump:
    return rules_for(random_input(seed).nft_view(family), layout)


def change_of(old: Dump, new: Dump) -> FamilyChange:
    return plan_change(backend_of(ProxyMode.NFTABLES, old.family), LiveRules("", old), new)


def tables(namespace: Namespace) -> list[str]:
    done = namespace.run(
        subprocess.run, ["nft", "list", "tables"], check=True, capture_output=True, text=True
    )
    return str(done.stdout).splitlines()


def load_by_hand(namespace: Namespace, script: str) -> None:
    namespace.run(subprocess.run, ["nft", "-f", "-"], input=script.encode(), check=True)


@by_family
@both_ways
def test_it_stands_while_the_rules_are_changed_and_no_longer(
    namespace: Namespace, family: IpFamily, ways: tuple[Layout, Layout], tmp_path: Path
) -> None:
    """The tool is asked what tables there are just before it changes them."""
    nft, seen = require_tool("nft"), tmp_path / "seen"
    wrapper = tmp_path / "nft"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" != --file ] || {nft.path} list tables >>{seen}\nexec {nft.path} "$@"\n'
    )
    wrapper.chmod(0o755)
    engine = NftEngine(Tool("nft", wrapper, nft.version))
    old, new = (rules(family, layout) for layout in ways)
    namespace.run(engine.prepare(change_of(Dump(family), old)).commit)
    seen.write_text("")
    namespace.run(engine.prepare(change_of(old, new)).commit)
    first, *others = seen.read_text().split(f"table {NFT_FAMILIES[family]} kube-proxy\n")[1:]
    assert first == f"table {NFT_FAMILIES[family]} {STANDBY}\n"
    assert not any(others)
    assert tables(namespace) == [f"table {NFT_FAMILIES[family]} kube-proxy"]
    assert split_listing(namespace.run(engine.save, family, counters=True), family) == new


@by_family
def test_what_it_holds_are_the_rules(namespace: Namespace, family: IpFamily) -> None:
    """What is left of the listing, priorities aside, is that of the rules themselves."""
    nft = require_tool("nft")
    script = nft_standby(change_of(rules(family, KUBE_PROXY), rules(family, COMPACT)))

    def list_it() -> str:
        with standing_by(nft.path, script, ()):
            listing = ["nft", "list", "table", NFT_FAMILIES[family], STANDBY]
            return subprocess.run(listing, check=True, capture_output=True, text=True).stdout

    second = namespace.run(list_it)
    load_by_hand(namespace, join_listing(rules(family, COMPACT)))
    listing = ["nft", "list", "table", NFT_FAMILIES[family], "kube-proxy"]
    own = namespace.run(subprocess.run, listing, check=True, capture_output=True, text=True).stdout
    assert "owner" in second
    assert comparable(second.replace(STANDBY, "kube-proxy")) == comparable(own)


def comparable(listing: str) -> list[str]:
    """Return the lines without priorities, flags and comments of objects, and the elements, in any order."""
    text = re.sub(
        r" priority [^;]*;|# progname.*|\tflags owner\n|\t+comment .*\n|elements = \{ ", "", listing
    )
    return sorted(line.strip(" \t}") for line in re.split(r",?\n|, ", text) if line.strip(" \t}"))


def test_it_goes_with_its_maker(namespace: Namespace) -> None:
    script = nft_standby(change_of(rules(IpFamily.IPV4, KUBE_PROXY), rules(IpFamily.IPV4, COMPACT)))
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from kproxy_nat.apply.nft_standby import standing_by\n"
        f"with standing_by(Path({str(require_tool('nft').path)!r}), sys.stdin.read(), ()):\n"
        "    print('standing', flush=True)\n"
        "    time.sleep(600)\n"
    )
    maker = namespace.run(
        subprocess.Popen, [sys.executable, "-c", program], cwd=ROOT, text=True, stdin=-1, stdout=-1
    )
    with maker:
        assert maker.stdin is not None
        assert maker.stdout is not None
        try:
            maker.stdin.write(script)
            maker.stdin.close()
            assert maker.stdout.readline() == "standing\n"
            assert tables(namespace) == [f"table ip {STANDBY}"]
        finally:
            maker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while tables(namespace) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert tables(namespace) == []


def test_where_it_cannot_be_made_the_rules_are_changed_all_the_same(namespace: Namespace) -> None:
    """A table of somebody else has its name; so the transaction is refused, and that table stays as it is."""
    family, engine = IpFamily.IPV4, NftEngine(require_tool("nft"))
    foreign = f"table ip {STANDBY} {{\n\tchain mine {{\n\t\tcounter packets 0 bytes 0\n\t}}\n}}\n"
    load_by_hand(namespace, foreign)
    old, new = rules(family, KUBE_PROXY), rules(family, COMPACT)
    for change in (change_of(Dump(family), old), change_of(old, new)):
        namespace.run(engine.prepare(change).commit)
    assert split_listing(namespace.run(engine.save, family, counters=True), family) == new
    listing = ["nft", "list", "table", "ip", STANDBY]
    done = namespace.run(subprocess.run, listing, check=True, capture_output=True, text=True)
    assert done.stdout == foreign


def test_nothing_is_kept_of_what_the_tool_was_told(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = nft_standby(change_of(rules(IpFamily.IPV4, KUBE_PROXY), rules(IpFamily.IPV4, COMPACT)))

    def stand() -> None:
        with standing_by(require_tool("nft").path, script, ()):
            pass

    monkeypatch.setenv("HOME", str(tmp_path))
    namespace.run(stand)
    assert list(tmp_path.iterdir()) == []
