"""Tests that change the rules of the machine that they run on: they run where a file says that they may."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import Bench, Dumps, Main
from tests.apply.conftest import first, kproxy_nat, second
from tests.apply.tables import normal
from tests.kernel.netns import WAIT
from tests.kernel.packet_node import PacketNode, packet_node

__all__ = ["first", "kproxy_nat", "second"]

PERMISSION = Path("/etc/kproxy-nat-test-vm")
"""Written by ``vagrant/guest/install``, in a VM."""

BROKEN = "KPROXY_NAT_TEST_BROKEN"
"""With this in the environment a rule is taken away before packets are sent: the tests have to fail then."""

_COUNTED = re.compile(r"(?m)\[\d+:\d+\]$")
NO_RULES = "*nat\nCOMMIT\n*filter\nCOMMIT\n"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if PERMISSION.exists():
        return
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(f"changes the host's own rules: only where {PERMISSION} is"))


class HostBench(Bench):
    """The namespace of the host."""

    @property
    def options(self) -> list[str]:
        return ["--host", "--state-dir", str(self.state_dir), "--iptables", self.variant]

    @property
    def folder(self) -> Path:
        return self.state_dir / "host"

    def inside(self, *command: str, stdin: str = "") -> str:
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def dump(self) -> Dumps:
        """Return all rules. Built-in chains count the host's own traffic meanwhile; that is left out."""
        return {family: _COUNTED.sub("[0:0]", text) for family, text in super().dump().items()}

    def break_rules(self) -> None:
        """Take the rule away that lets Services be found, if this run has to fail."""
        if BROKEN in os.environ:
            self.inside(f"iptables-{self.variant}", WAIT, "-t", "nat", "-F", "KUBE-SERVICES")


@pytest.fixture(scope="session")
def host() -> Iterator[PacketNode]:
    """The machine itself as the node, with pods and a client."""
    with packet_node(on_host=True) as made:
        yield made


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "nft"))


@pytest.fixture
def bench(variant: str, tmp_path: Path, kproxy_nat: Main) -> Iterator[HostBench]:
    """The host with rules of somebody else, which have to be there in the end as they were."""
    bench = HostBench("host", variant, tmp_path / "state", kproxy_nat)
    foreign = "*filter\n:GUARD - [0:0]\n-A INPUT -p tcp -m tcp --dport 9 -j GUARD\n-A GUARD -j DROP\nCOMMIT\n"
    for family in IpFamily:
        bench.load(foreign, family)
    yield bench
    left = bench.dump()
    for family in IpFamily:
        bench.load(NO_RULES, family)
    assert left == {family: normal(foreign_dump(foreign)) for family in IpFamily}


def foreign_dump(rules: str) -> str:
    """Return these rules as they are listed."""
    chains = "".join(f":{name} ACCEPT [0:0]\n" for name in ("INPUT", "FORWARD", "OUTPUT"))
    return rules.replace("*filter\n", f"*filter\n{chains}")


@pytest.fixture
def keep() -> Keep:
    """Keep the rules as they are now, for who reads the results."""
    return Keep(os.environ.get("KPROXY_NAT_TEST_RESULTS"))


class Keep:
    """Writes dumps to a folder, if there is one."""

    def __init__(self, folder: str | None) -> None:
        self.folder = Path(folder) / "rules" if folder else None

    def __call__(self, name: str, dumps: Dumps | str) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(dumps, str):
            (self.folder / f"{name}.nft").write_text(dumps, encoding="utf-8")
            return
        for family, text in dumps.items():
            (self.folder / f"{name}-{family.lower()}.rules").write_text(text, encoding="utf-8")
