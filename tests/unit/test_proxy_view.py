"""The view of one node: what follows from policies and endpoints for traffic."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import NodeView, ServiceView, build_view
from tests.oracle.compiling import options_of, view_of
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service


@dataclass(frozen=True)
class Expected:
    """The decisions about one service port, in the order of ServiceView's properties."""

    any: bool
    internal: bool
    external: bool
    outside: bool
    cluster: bool
    local: bool


REMOTE = [endpoint("10.180.0.1", "node2")]
LOCAL = [endpoint("10.180.0.1", "node1")]
UNREADY = [endpoint("10.180.0.1", "node1", ready=False)]
NONE: list[Manifest] = []


def service_view(spec: Manifest, endpoints: list[Manifest]) -> ServiceView:
    made = service(**spec)
    (view,) = view_of([node(), made, endpoint_slice(endpoints=endpoints)]).services
    return view


def decisions(view: ServiceView) -> Expected:
    return Expected(
        view.has_endpoints,
        view.has_internal_endpoints,
        view.has_external_endpoints,
        view.is_reached_from_outside,
        view.balances_cluster,
        view.balances_local,
    )


CLOSED: Manifest = {}
OPEN: Manifest = {"type": "NodePort", "ports": [port(nodePort=30080)]}
INTERNAL: Manifest = {"internalTrafficPolicy": "Local"}
EXTERNAL: Manifest = {"externalTrafficPolicy": "Local"}


@pytest.mark.parametrize(
    "spec, endpoints, expected",
    [
        (CLOSED, NONE, Expected(False, False, False, False, False, False)),
        (CLOSED, UNREADY, Expected(False, False, False, False, False, False)),
        (CLOSED, REMOTE, Expected(True, True, True, False, True, False)),
        (OPEN, NONE, Expected(False, False, False, False, False, False)),
        (OPEN, REMOTE, Expected(True, True, True, True, True, False)),
        (OPEN, LOCAL, Expected(True, True, True, True, True, False)),
        (INTERNAL, NONE, Expected(False, False, False, False, False, False)),
        (INTERNAL, REMOTE, Expected(True, False, True, False, False, False)),
        (INTERNAL, LOCAL, Expected(True, True, True, False, False, True)),
        # Closed to the outside, the external policy changes nothing.
        (EXTERNAL, LOCAL, Expected(True, True, True, False, True, False)),
        (OPEN | EXTERNAL, NONE, Expected(False, False, False, False, False, False)),
        # The short cuts are wanted also where outsiders find nothing.
        (OPEN | EXTERNAL, REMOTE, Expected(True, True, False, True, True, False)),
        (OPEN | EXTERNAL, LOCAL, Expected(True, True, True, True, True, True)),
        (OPEN | INTERNAL, REMOTE, Expected(True, False, True, True, True, False)),
        (OPEN | INTERNAL, LOCAL, Expected(True, True, True, True, True, True)),
        (OPEN | INTERNAL | EXTERNAL, REMOTE, Expected(True, False, False, True, True, False)),
        (OPEN | INTERNAL | EXTERNAL, LOCAL, Expected(True, True, True, True, True, True)),
    ],
)
def test_decisions(spec: Manifest, endpoints: list[Manifest], expected: Expected) -> None:
    assert decisions(service_view(spec, endpoints)) == expected


@pytest.mark.parametrize(
    "vips, ranges, endpoints, firewalled",
    [
        (["198.51.100.1"], ["192.0.2.0/24"], REMOTE, True),
        (["198.51.100.1"], ["192.0.2.0/24"], NONE, False),
        (["198.51.100.1"], [], REMOTE, False),
        (["198.51.100.1"], ["2001:db8::/32"], REMOTE, False),
        (["198.51.100.1"], ["192.0.2.0/24", "0.0.0.0/0"], REMOTE, False),
        ([], ["192.0.2.0/24"], REMOTE, False),
    ],
)
def test_firewall(vips: list[str], ranges: list[str], endpoints: list[Manifest], firewalled: bool) -> None:
    spec = {"type": "LoadBalancer", "vips": vips, "loadBalancerSourceRanges": ranges}
    assert service_view(spec, endpoints).is_firewalled is firewalled


class TestTheWhole:
    def test_each_family_has_its_own_view(self) -> None:
        dual = service(clusterIPs=["10.96.0.10", "fd00::10"], ipFamilies=["IPv4", "IPv6"])
        four = endpoint_slice(endpoints=REMOTE)
        six = endpoint_slice(
            endpoints=[endpoint("fd00:10:180::1"), endpoint("fd00:10:180::2")], family="IPv6"
        )
        objects = [node(), dual, service("shop/old", "10.96.0.11"), four, six]
        sizes = {family: count(view_of(objects, family)) for family in IpFamily}
        assert sizes == {IpFamily.IPV4: (2, 1), IpFamily.IPV6: (1, 2)}

    def test_the_zone_of_this_node_counts(self) -> None:
        endpoints = [endpoint("10.180.0.1", zones=["zone-a"]), endpoint("10.180.0.2", zones=["zone-b"])]
        for zone, chosen in (
            ("zone-b", ["10.180.0.2:8080"]),
            ("zone-c", ["10.180.0.1:8080", "10.180.0.2:8080"]),
        ):
            view = view_of([node(zone=zone), service(), endpoint_slice(endpoints=endpoints)])
            assert [e.text for e in view.services[0].endpoints.cluster] == chosen

    def test_the_gate_for_external_ips_counts(self) -> None:
        objects = [node(), service(externalIPs=["203.0.113.9"]), endpoint_slice()]
        assert view_of(objects).services[0].port.external_ips
        gated = view_of(objects, config={"featureGates": {"AllowServiceExternalIPs": False}})
        assert not gated.services[0].port.external_ips

    def test_of_an_empty_cluster(self) -> None:
        cluster = Cluster()
        view = build_view(cluster, options_of(cluster), IpFamily.IPV4)
        assert (view.services, view.endpoint_count, view.is_large_cluster) == ([], 0, False)


def count(view: NodeView) -> tuple[int, int]:
    return len(view.services), view.endpoint_count
