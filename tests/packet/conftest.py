"""A lab for each kind of rules, which lasts for the whole run: a test loads the rules that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kproxy_nat.apply.tools import Variant
from kproxy_nat.lab.building import Lab, build
from kproxy_nat.lab.servers import Servers, serve
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import DEFAULT_TIMEOUT, Reply, Target, ask, ask_all, ask_many
from kproxy_nat.lowering.layouts import Layout
from kproxy_nat.net.addresses import IpFamily
from tests.packet.loading import KINDS, NFT_LAYOUTS, delete_rules, load_rules, tables
from tests.packet.world import LISTENERS, NODE, TOPOLOGY
from tests.patience import patient

LONG = patient(DEFAULT_TIMEOUT)
_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")


@dataclass(frozen=True)
class Cluster:
    """The lab, with what tests do in it.

    Attributes:
        kind: a variant of iptables, or nftables.
    """

    lab: Lab
    servers: Servers
    kind: str
    state: Path

    def load(self, manifests: str) -> None:
        """Load the rules of these manifests. Connections from before are forgotten."""
        load_rules(self.lab.of(NODE), manifests, self.kind, self.state)
        self.lab.of(NODE).run(_forget_connections)

    def switch(self, manifests: str, kind: str, layout: Layout) -> None:
        """Load rules of another kind in place of those that are there; connections go on."""
        load_rules(self.lab.of(NODE), manifests, kind, self.state, layout, Variant(self.kind))

    def ask(self, who: Host, target: Target, timeout: float = LONG) -> Reply:
        return self.lab.of(who).run(ask, target, timeout=timeout)

    def ask_many(self, who: Host, target: Target, count: int) -> list[Reply]:
        return self.lab.of(who).run(ask_many, target, count, LONG)

    def ask_all(self, who: Host, targets: Sequence[Target]) -> list[Reply]:
        return self.lab.of(who).run(ask_all, targets, LONG)

    @property
    def has_counters(self) -> bool:
        """Whether the rules count packets."""
        return self.kind not in NFT_LAYOUTS

    def packets(self, family: IpFamily, chain: str, pattern: str) -> dict[str, int]:
        """Return the packet counters of a table's rules; both are matched against chain and rule."""
        listed = tables(self.lab.of(NODE), self.kind, family, "save", "-c")
        found = (match.groups() for match in map(_RULE.match, listed.splitlines()) if match)
        return {
            f"-A {place} {rule}": int(count)
            for count, place, rule in found
            if re.match(chain, place) and re.search(pattern, rule)
        }

    def delete_rules(self, family: IpFamily, purpose: str) -> None:
        """Delete the rules that are there for one thing."""
        delete_rules(self.lab.of(NODE), self.kind, family, purpose)


def _forget_connections() -> None:
    from pyroute2 import NFCTSocket

    with NFCTSocket() as conntrack:
        conntrack.flush()


@pytest.fixture(scope="session", params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with build(TOPOLOGY) as lab, serve(lab, LISTENERS) as servers:
        yield Cluster(lab, servers, request.param, tmp_path_factory.mktemp("state"))


@pytest.fixture(params=IpFamily)
def family(request: pytest.FixtureRequest) -> IpFamily:
    """The family of the packets; the rules are always those of both."""
    found: IpFamily = request.param
    return found
