"""The second table, which serves while Services are led another way: when there is one, and that it goes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.namespaces import Namespace, open_namespace
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
from kproxy_nat.proxy.view import build_view
from kproxy_nat.ruleset.rules import NFT_FAMILIES
from tests.apply.bench import PATIENCE, ROOT
from tests.apply.test_nft_changes import BACKENDS
from tests.kernel.netns import requires_kernel
from tests.oracle.compiling import cluster_of, options_of, random_input
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, service

KUBE_PROXY, COMPACT = Layout(), Layout(LayoutName.COMPACT)

by_family = pytest.mark.parametrize("family", IpFamily)
both_ways = pytest.mark.parametrize("ways", [(KUBE_PROXY, COMPACT), (COMPACT, KUBE_PROXY)])


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    name = f"kpn-standby-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with open_namespace(name) as found:
            yield found
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def rules(family: IpFamily, layout: Layout, seed: int = 1) -> Dump:
    return rules_for(random_input(seed).nft_view(family), layout)


def size(dump: Dump) -> int:
    return sum(map(len, dump.tables["kube-proxy"].chains.values()))


def change_of(old: Dump, new: Dump) -> FamilyChange:
    return plan_change(BACKENDS[old.family], LiveRules("", old), new)


def services(*endpoints: int, layout: Layout = COMPACT) -> Dump:
    """Return the rules of Services with so many endpoints each."""
    objects = [service(f"shop/s{number}", f"10.96.0.{10 + number}") for number, _ in enumerate(endpoints)]
    objects += [endpoint_slice(f"shop/s{n}", many_endpoints(count)) for n, count in enumerate(endpoints)]
    cluster = cluster_of([node(), *objects])
    view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), IpFamily.IPV4)
    return rules_for(view, layout)


def tables(namespace: Namespace) -> list[str]:
    done = namespace.run(
        subprocess.run, ["nft", "list", "tables"], check=True, capture_output=True, text=True
    )
    return str(done.stdout).splitlines()


def load_by_hand(namespace: Namespace, script: str) -> None:
    namespace.run(subprocess.run, ["nft", "-f", "-"], input=script.encode(), check=True)


@by_family
@both_ways
def test_a_change_of_layout_has_one_that_holds_the_smaller_rules(
    family: IpFamily, ways: tuple[Layout, Layout]
) -> None:
    old, new = (rules(family, layout) for layout in ways)
    (part,) = change_of(old, new).tables
    blocks = {block.name: "".join(f"{line}\n" for line in block.after or ()) for block in part.standby}
    behind = rules(family, COMPACT).tables["kube-proxy"].chains
    assert size(rules(family, COMPACT)) < size(rules(family, KUBE_PROXY))
    assert blocks.keys() == behind.keys()
    for name, block in blocks.items():
        if "hook" in block:
            priority = re.compile(r"priority (\S+);")
            own, others = (int(priority.findall(text)[0]) for text in (block, behind[name]))
            assert own == others + 1
            assert priority.sub("", block) == priority.sub("", behind[name])
        else:
            assert block == behind[name]


@pytest.mark.parametrize("layout", [KUBE_PROXY, COMPACT])
@pytest.mark.parametrize(
    ("old", "new", "needed"),
    [
        ((2, 3), (2, 3, 4), False),
        ((2, 3, 4), (2, 3), False),
        ((2, 3, 4), (2, 3, 5), False),
        ((2, 3, 4), (3, 4, 5), True),
        ((2, 3, 4), (3, 4, 4), True),
    ],
)
def test_it_is_needed_where_most_services_are_led_another_way(
    old: tuple[int, ...], new: tuple[int, ...], needed: bool, layout: Layout
) -> None:
    (part,) = change_of(services(*old, layout=layout), services(*new, layout=layout)).tables
    assert bool(part.standby) == needed


def test_there_is_none_for_the_first_rules() -> None:
    assert nft_standby(change_of(Dump(IpFamily.IPV4), services(2, 3))) == ""


def test_none_is_made_where_all_goes() -> None:
    change = change_of(rules(IpFamily.IPV4, COMPACT), Dump(IpFamily.IPV4))
    assert nft_standby(change) == ""


@pytest.mark.kernel
@requires_kernel
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


@pytest.mark.kernel
@requires_kernel
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


@pytest.mark.kernel
@requires_kernel
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


@pytest.mark.kernel
@requires_kernel
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


def test_without_the_tool_nothing_happens(tmp_path: Path) -> None:
    with standing_by(tmp_path / "none", "a script", ()):
        pass


def test_nothing_is_kept_of_what_the_tool_was_told(namespace: Namespace, tmp_path: Path) -> None:
    script = nft_standby(change_of(rules(IpFamily.IPV4, KUBE_PROXY), rules(IpFamily.IPV4, COMPACT)))

    def stand() -> None:
        with standing_by(require_tool("nft").path, script, ()):
            pass

    home = os.environ["HOME"]
    os.environ["HOME"] = str(tmp_path)
    try:
        namespace.run(stand)
    finally:
        os.environ["HOME"] = home
    assert list(tmp_path.iterdir()) == []
