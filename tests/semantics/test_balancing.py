"""Equal shares among many endpoints, with few rules on the way to any of them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kproxy_nat.net.addresses import address_value
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.stats.measures import measure_iptables
from kproxy_nat.stats.traffic import Traffic
from tests.oracle.compiling import view_of
from tests.oracle.manifests import endpoint_slice, many_endpoints, node, service
from tests.semantics.interpreter import Packet, Rules
from tests.semantics.packets import local_addresses
from tests.semantics.test_layouts_agree import COMPACT, GRID, text_of

COUNTS = (1, 2, 3, 16, 17, 31, 100, 256, 257, 500, 4097)


def view_with(count: int) -> NodeView:
    endpoints = many_endpoints(count)
    parts = [endpoints[start : start + 1000] for start in range(0, count, 1000)]
    slices = [endpoint_slice(endpoints=part, name=f"web-{n}") for n, part in enumerate(parts)]
    return view_of([node(), service(), *slices])


@pytest.mark.parametrize("count", COUNTS)
def test_every_endpoint_has_its_share(count: int) -> None:
    view = view_with(count)
    rules = Rules(text_of(COMPACT, view), local_addresses(view), 4)
    vip = address_value(view.services[0].port.cluster_ip)
    found = rules.outcomes(Packet(1, vip, "tcp", 80, "eth0"))
    assert len(found) == count
    for share in found.values():
        assert abs(share - Fraction(1, count)) <= 4 * GRID


@pytest.mark.parametrize("count", COUNTS)
def test_the_way_to_an_endpoint_is_short(count: int) -> None:
    walks = measure_iptables(view_with(count), COMPACT).first_packet[Traffic.CLUSTER_IP]
    assert walks.worst <= 12 + 16 + 3 * 16
    assert walks.worst <= 12 + count


def test_no_chain_is_longer_than_it_has_to_be() -> None:
    ruleset = COMPACT.ruleset(view_with(500))
    assert max(len(chain.rules) for chain in ruleset.tables["nat"].chains.values()) <= 17
