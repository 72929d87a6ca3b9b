"""Which endpoints a service port uses: policies, hints, and endpoints that shut down."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy_nat.net.addresses import Address
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.ports import ServicePort, ServicePortName
from kproxy_nat.proxy.selection import Selection, Topology, select_endpoints, topology_of
from tests.oracle.structs import NoOrigin

NODE, ZONE = "node1", "zone-a"


def make_port(
    *, internal_local: bool = False, external_local: bool = False, node_port: int = 0
) -> ServicePort:
    return ServicePort(
        name=ServicePortName("shop", "web", "http", "TCP"),
        text="shop/web:http",
        protocol="tcp",
        cluster_ip=Address("10.96.0.10"),
        port=80,
        node_port=node_port,
        external_ips=(),
        load_balancer_vips=(),
        source_ranges=(),
        affinity_seconds=0,
        internal_local=internal_local,
        external_local=external_local,
        health_check_node_port=0,
        origin=NoOrigin(),
    )


CLUSTER = make_port()
INTERNAL_LOCAL = make_port(internal_local=True)
EXTERNAL_LOCAL = make_port(external_local=True, node_port=30080)
BOTH_LOCAL = make_port(internal_local=True, external_local=True, node_port=30080)
POLICIES = [CLUSTER, INTERNAL_LOCAL, EXTERNAL_LOCAL, BOTH_LOCAL]


def ready(name: str, **fields: Any) -> Endpoint:
    state = {"is_local": False, "ready": True, "serving": True, "terminating": False, **fields}
    for hints in ("zone_hints", "node_hints"):
        state[hints] = frozenset(state.get(hints, ()))
    return Endpoint(name, Address("10.0.0.1"), 80, **state)


def unready(name: str, **fields: Any) -> Endpoint:
    return ready(name, **{"ready": False, "serving": False, **fields})


def ending(name: str, **fields: Any) -> Endpoint:
    return ready(name, **{"ready": False, "serving": True, "terminating": True, **fields})


def select(port: ServicePort, *endpoints: Endpoint) -> tuple[str, str, str, bool]:
    """Return cluster, local and reachable endpoints by name, and whether any is usable."""
    found = select_endpoints(port, list(endpoints), NODE, ZONE)
    return names(found.cluster), names(found.local), names(found.reachable), found.any_usable


def names(endpoints: list[Endpoint]) -> str:
    return "".join(item.text for item in endpoints)


class TestWithoutHints:
    @pytest.mark.parametrize("port", POLICIES)
    def test_nothing(self, port: ServicePort) -> None:
        assert select_endpoints(port, [], NODE, ZONE) == Selection()

    def test_cluster(self) -> None:
        assert select(CLUSTER, ready("a"), unready("b"), ready("c", is_local=True)) == ("ac", "", "ac", True)

    def test_internal_local(self) -> None:
        endpoints = ready("a"), unready("b", is_local=True), ready("c", is_local=True)
        assert select(INTERNAL_LOCAL, *endpoints) == ("", "c", "c", True)

    def test_internal_local_without_a_local_one(self) -> None:
        assert select(INTERNAL_LOCAL, ready("a"), unready("b", is_local=True)) == ("", "", "", True)

    @pytest.mark.parametrize("port", [EXTERNAL_LOCAL, BOTH_LOCAL])
    def test_external_local_needs_the_others_too(self, port: ServicePort) -> None:
        assert select(port, ready("a"), ready("b", is_local=True)) == ("ab", "b", "ab", True)

    def test_external_local_does_not_count_without_a_way_in(self) -> None:
        closed = make_port(external_local=True)
        assert select(closed, ready("a"), ready("b", is_local=True)) == ("ab", "", "ab", True)

    @pytest.mark.parametrize("port", POLICIES)
    def test_none_is_usable(self, port: ServicePort) -> None:
        """Neither ready nor terminating: never used, though it serves."""
        endpoints = unready("a", serving=True), unready("b", is_local=True, serving=True)
        assert select(port, *endpoints) == ("", "", "", False)

    @pytest.mark.parametrize("port", POLICIES)
    def test_terminating_without_serving_is_not_usable(self, port: ServicePort) -> None:
        assert select(port, ending("a", serving=False, is_local=True)) == ("", "", "", False)


class TestTerminating:
    def test_only_where_none_is_ready(self) -> None:
        assert select(CLUSTER, ready("a"), ending("b")) == ("a", "", "a", True)
        assert select(CLUSTER, unready("a"), ending("b"), ending("c", serving=False)) == ("b", "", "b", True)

    def test_local_falls_back_by_itself(self) -> None:
        """Ready ones elsewhere do not keep the local ones that shut down from being used."""
        endpoints = ready("b"), ending("a", is_local=True), ending("c", is_local=True, serving=False)
        assert select(EXTERNAL_LOCAL, *endpoints) == ("b", "a", "ab", True)
        assert select(INTERNAL_LOCAL, *endpoints) == ("", "a", "a", True)

    def test_both_fall_back(self) -> None:
        assert select(EXTERNAL_LOCAL, ending("a"), ending("b", is_local=True)) == ("ab", "b", "ab", True)

    def test_local_ready_beats_local_ending(self) -> None:
        endpoints = ending("a", is_local=True), ready("b", is_local=True)
        assert select(EXTERNAL_LOCAL, *endpoints) == ("b", "b", "b", True)

    def test_ready_and_terminating_counts_as_ready(self) -> None:
        """As it comes with publishNotReadyAddresses."""
        assert select(CLUSTER, ready("a"), ready("b", terminating=True)) == ("ab", "", "ab", True)


class TestTopology:
    @pytest.mark.parametrize(
        "endpoints, expected",
        [
            ([], Topology.NONE),
            ([unready("a", zone_hints=[ZONE])], Topology.NONE),
            ([ready("a", zone_hints=[ZONE]), ready("b", zone_hints=["z"])], Topology.SAME_ZONE),
            ([ready("a", zone_hints=[ZONE]), ready("b")], Topology.NONE),
            ([ready("a", zone_hints=[ZONE]), unready("b"), ending("c")], Topology.SAME_ZONE),
            ([ready("a", zone_hints=["z"])], Topology.NONE),
            ([ready("a", node_hints=[NODE]), ready("b", node_hints=["n"])], Topology.SAME_NODE),
            ([ready("a", node_hints=[NODE]), ready("b")], Topology.NONE),
            ([ready("a", node_hints=["n"])], Topology.NONE),
            ([ready("a", node_hints=[NODE], zone_hints=[ZONE])], Topology.SAME_NODE),
            ([ready("a", node_hints=["n"], zone_hints=[ZONE])], Topology.SAME_ZONE),
            (
                [ready("a", node_hints=[NODE], zone_hints=[ZONE]), ready("b", zone_hints=["z"])],
                Topology.SAME_ZONE,
            ),
        ],
    )
    def test_decision(self, endpoints: list[Endpoint], expected: Topology) -> None:
        assert topology_of(endpoints, NODE, ZONE) is expected

    def test_a_node_without_zone_matches_nothing(self) -> None:
        assert topology_of([ready("a", zone_hints=[ZONE])], NODE, "") is Topology.NONE

    def test_zone(self) -> None:
        endpoints = (
            ready("a", zone_hints=[ZONE]),
            ready("b", zone_hints=["z"]),
            ready("c", zone_hints=["z", ZONE]),
        )
        assert select(CLUSTER, *endpoints) == ("ac", "", "ac", True)

    def test_node(self) -> None:
        endpoints = ready("a", node_hints=["n"]), ready("b", node_hints=["n", NODE])
        assert select(CLUSTER, *endpoints) == ("b", "", "b", True)

    def test_local_lists_do_not_look_at_hints(self) -> None:
        endpoints = (
            ready("a", is_local=True, zone_hints=["z"]),
            ready("b", zone_hints=[ZONE]),
            ready("c", is_local=True, zone_hints=[ZONE]),
        )
        assert select(EXTERNAL_LOCAL, *endpoints) == ("bc", "ac", "abc", True)
        assert select(INTERNAL_LOCAL, *endpoints) == ("", "ac", "ac", True)

    def test_terminating_ones_do_not_look_at_hints(self) -> None:
        assert select(CLUSTER, ending("a", zone_hints=["z"]), ending("b")) == ("ab", "", "ab", True)

    def test_the_union_is_in_order_and_without_doubles(self) -> None:
        endpoints = (
            ready("a", zone_hints=[ZONE]),
            ready("b", is_local=True, zone_hints=["z"]),
            ready("c", is_local=True, zone_hints=[ZONE]),
            ready("d", zone_hints=[ZONE]),
        )
        assert select(BOTH_LOCAL, *endpoints) == ("acd", "bc", "abcd", True)
