"""A lab for each variant, which lasts for the whole run: a test loads the rules that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kproxy_nat.lab.building import Lab, build
from kproxy_nat.lab.servers import Servers, serve
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import DEFAULT_TIMEOUT, Reply, Target, ask, ask_all, ask_many
from kproxy_nat.net.addresses import IpFamily
from tests.kernel.netns import VARIANTS
from tests.packet.loading import load_rules, tables
from tests.packet.world import LISTENERS, NODE, TOPOLOGY

_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")


@dataclass(frozen=True)
class Cluster:
    """The lab, with what tests do in it."""

    lab: Lab
    servers: Servers
    variant: str
    state: Path

    def load(self, manifests: str) -> None:
        """Load the rules of these manifests. Connections from before are forgotten."""
        load_rules(self.lab.of(NODE), manifests, self.variant, self.state)
        self.lab.of(NODE).run(_forget_connections)

    def ask(self, who: Host, target: Target, timeout: float = DEFAULT_TIMEOUT) -> Reply:
        return self.lab.of(who).run(ask, target, timeout=timeout)

    def ask_many(self, who: Host, target: Target, count: int) -> list[Reply]:
        return self.lab.of(who).run(ask_many, target, count)

    def ask_all(self, who: Host, targets: Sequence[Target]) -> list[Reply]:
        return self.lab.of(who).run(ask_all, targets)

    def packets(self, family: IpFamily, chain: str, pattern: str) -> dict[str, int]:
        """Return the packet counters of a table's rules; both are matched against chain and rule."""
        listed = tables(self.lab.of(NODE), self.variant, family, "save", "-c")
        found = (match.groups() for match in map(_RULE.match, listed.splitlines()) if match)
        return {
            f"-A {place} {rule}": int(count)
            for count, place, rule in found
            if re.match(chain, place) and re.search(pattern, rule)
        }

    def delete_rules(self, family: IpFamily, table: str, chain: str) -> None:
        """Delete the rules of one chain."""
        text = f"*{table}\n-F {chain}\nCOMMIT\n"
        tables(self.lab.of(NODE), self.variant, family, "restore", "--noflush", stdin=text)


def _forget_connections() -> None:
    from pyroute2 import NFCTSocket

    with NFCTSocket() as conntrack:
        conntrack.flush()


@pytest.fixture(scope="session", params=VARIANTS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with build(TOPOLOGY) as lab, serve(lab, LISTENERS) as servers:
        yield Cluster(lab, servers, request.param, tmp_path_factory.mktemp("state"))


@pytest.fixture(params=IpFamily)
def family(request: pytest.FixtureRequest) -> IpFamily:
    """The family of the packets; the rules are always those of both."""
    found: IpFamily = request.param
    return found
