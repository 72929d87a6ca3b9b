"""Which shape a service port has in the compact layout for nftables, and how little a change touches."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.lowering.nftables_compact import SHARED_ELEMENTS
from kproxy_nat.lowering.nftables_compact_own import DRAWN_TOGETHER
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from kproxy_nat.ruleset.rules import Table
from kproxy_nat.ruleset.wellformed import faults
from tests.oracle.compiling import cluster_of, options_of, random_input
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, many_endpoints, node, port, service

COMPACT = Layout(LayoutName.COMPACT)
WEB = "KHN6ECMT-shop/web/tcp/http"
OWN = ("service-", "local-", "external-", "draw-", "endpoint-")
CLIENTS: Manifest = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
}


def table_of(*objects: Manifest, family: IpFamily = IpFamily.IPV4) -> Table:
    cluster = cluster_of([node(), *objects])
    options = options_of(cluster, mode=ProxyMode.NFTABLES)
    (table,) = COMPACT.nft_ruleset(build_view(cluster, options, family)).tables.values()
    return table


def web(endpoints: Sequence[Manifest], *, node_port: int = 0, **fields: Any) -> tuple[Manifest, Manifest]:
    made = service("shop/web", "10.96.0.10", ports=[port(80, "http", nodePort=node_port)], **fields)
    return made, endpoint_slice("shop/web", list(endpoints), ports=[port(8080, "http")])


def chains_of_services(table: Table) -> list[str]:
    return sorted(name for name in table.chains if "/" in name)


def changed(before: Table, after: Table) -> dict[str, int]:
    """Return how many elements and chains one table has that the other has not, or otherwise."""
    pairs: dict[str, tuple[set[object], set[object]]] = {
        "chains": (
            {(name, tuple(chain.rules)) for name, chain in before.chains.items()},
            {(name, tuple(chain.rules)) for name, chain in after.chains.items()},
        ),
        "elements": (set(elements(before)), set(elements(after))),
        "sets": (set(before.sets), set(after.sets)),
    }
    return {what: len(old ^ new) for what, (old, new) in pairs.items()}


def elements(table: Table) -> list[tuple[str, object, object]]:
    return [(n.name, e.key, e.value) for n in table.sets.values() for e in n.elements.values()]


@pytest.mark.parametrize("count", [1, 2, SHARED_ELEMENTS])
def test_a_few_endpoints_stand_in_a_map_for_all(count: int) -> None:
    table = table_of(*web(many_endpoints(count)))
    assert chains_of_services(table) == []
    assert len(table.sets[f"endpoints-tcp-{count}"].elements) == count


def test_many_endpoints_have_a_map_of_their_own() -> None:
    table = table_of(*web(many_endpoints(SHARED_ELEMENTS + 1)))
    assert chains_of_services(table) == [f"service-{WEB}"]
    assert len(table.sets[f"endpoints-{WEB}"].elements) == SHARED_ELEMENTS + 1


def test_every_frontend_counts() -> None:
    """The endpoints stand in shared maps once for each."""
    fields: dict[str, Any] = {"type": "NodePort", "node_port": 30080}
    half = SHARED_ELEMENTS // 2
    assert chains_of_services(table_of(*web(many_endpoints(half), **fields))) == []
    more = chains_of_services(table_of(*web(many_endpoints(half + 1), **fields)))
    assert more == [f"external-{WEB}", f"service-{WEB}"]


def test_affinity_has_sets_but_no_chain_for_each_endpoint() -> None:
    table = table_of(*web(many_endpoints(DRAWN_TOGETHER), **CLIENTS))
    assert chains_of_services(table) == [f"service-{WEB}"]
    assert sum(name.startswith("affinity-") for name in table.sets) == DRAWN_TOGETHER
    assert len(table.chains[f"service-{WEB}"].rules) == 2 * DRAWN_TOGETHER


def test_groups_are_drawn_where_many_endpoints_have_affinity() -> None:
    count = 2 * DRAWN_TOGETHER + 1
    table = table_of(*web(many_endpoints(count), **CLIENTS))
    assert chains_of_services(table) == [*(f"draw-{group}-{WEB}" for group in range(3)), f"service-{WEB}"]
    assert len(table.chains[f"service-{WEB}"].rules) == count + 1


def test_those_who_admit_the_same_sources_share_a_chain() -> None:
    def guarded(name: str, number: int, *ranges: str) -> Manifest:
        fields: dict[str, Any] = {"type": "LoadBalancer", "loadBalancerSourceRanges": list(ranges)}
        return service(f"shop/{name}", f"10.96.0.{number}", vips=[f"192.0.2.{number}"], **fields)

    office, home = "198.51.100.0/24", "203.0.113.0/24"
    inside = "198.51.100.128/25"
    some = [guarded("a", 1, office, home), guarded("b", 2, home, inside, office), guarded("c", 3, home)]
    table = table_of(*some)
    assert sum(name.startswith("firewall-") and name != "firewall-check" for name in table.chains) == 2


def test_names_of_services_without_endpoints_are_cut_to_what_nft_takes() -> None:
    names = f"{'n' * 63}/{'s' * 63}"
    table = table_of(service(names, "10.96.0.10", ports=[port(80, "p" * 63)]))
    (element,) = table.sets["no-endpoint-services"].elements.values()
    assert len(element.comment) == 128


def owners(table: Table) -> dict[tuple[str, str], str]:
    """Return the comment of each element that leads a frontend on, by map and key."""
    return {
        (name, " ".join(map(str, element.key))): element.comment
        for name in ("service-ips", "service-nodeports")
        for element in table.sets[name].elements.values()
    }


def chain_of(name: str) -> str:
    """Return the chain of a service port, of its whole name."""
    service_name, _, port_name = name.partition(":")
    text = f"{service_name}/tcp/{port_name}"
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"service-{digest[:8]}-{text}"


@pytest.mark.parametrize(
    ("cluster_ip", "vip"), [("10.96.0.10", "192.0.2.1"), ("fd00:10:96::10", "2001:db8:5::1")]
)
def test_elements_tell_whose_they_are(cluster_ip: str, vip: str) -> None:
    """Each port of a Service has its own name, at each of its addresses."""
    family = IpFamily.IPV6 if ":" in vip else IpFamily.IPV4
    ports = [port(80, "http", nodePort=30080), port(53, "dns", protocol="UDP", nodePort=30053)]
    made = service("shop/web", cluster_ip, ports=ports, type="LoadBalancer", vips=[vip])
    pod = endpoint("10.180.0.1" if family is IpFamily.IPV4 else "fd00:10:180::1")
    pods = endpoint_slice("shop/web", [pod], ports=ports, family=str(family))
    table = table_of(made, pods, family=family)
    http, dns = "shop/web:http", "shop/web:dns"
    assert owners(table) == {
        ("service-ips", f"{cluster_ip} tcp 80"): http,
        ("service-ips", f"{cluster_ip} udp 53"): dns,
        ("service-ips", f"{vip} tcp 80"): http,
        ("service-ips", f"{vip} udp 53"): dns,
        ("service-nodeports", "tcp 30080"): http,
        ("service-nodeports", "udp 30053"): dns,
    }
    endpoints = [named for name, named in table.sets.items() if name.startswith("endpoints-")]
    assert endpoints
    assert not any(element.comment for named in endpoints for element in named.elements.values())


@pytest.mark.parametrize(("length", "chains"), [(128, 0), (129, 1), (191, 1)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_name_too_long_for_a_comment_is_that_of_a_chain(length: int, chains: int, count: int) -> None:
    """nft takes 128 characters in a comment, and 255 in a name."""
    name = f"{'n' * 63}/{'s' * min(63, length - 66)}"
    ports = [port(80, "p" * (length - len(name) - 1))]
    made = service(name, "10.96.0.10", ports=ports)
    table = table_of(made, endpoint_slice(name, many_endpoints(count), ports=ports))
    assert len(chains_of_services(table)) == chains
    whole = f"{name}:{ports[0]['name']}"
    assert len(whole) == length
    told = [*owners(table).values(), *chains_of_services(table)]
    assert any(text in (whole, chain_of(whole)) for text in told)


def test_who_comes_first_gives_its_name() -> None:
    """Where two Services claim an address and port, the first is served there."""
    both = [service(f"shop/{name}", "10.96.0.10") for name in ("b", "a")]
    slices = [endpoint_slice(f"shop/{name}", many_endpoints(1)) for name in ("b", "a")]
    assert list(owners(table_of(*both, *slices)).values()) == ["shop/a:http"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", IpFamily)
def test_tables_are_sound(seed: int, family: IpFamily) -> None:
    """Whatever is named is there; no chain or map is for nobody; names are short enough for the kernel."""
    ruleset = COMPACT.nft_ruleset(random_input(seed).nft_view(family))
    assert list(faults(ruleset)) == []
    (table,) = ruleset.tables.values()
    assert max(map(len, (*table.chains, *table.sets))) < 256
    for name in table.sets:
        if name.startswith("endpoints-") and "/" not in name:
            assert table.sets[name].elements


OTHERS = [
    item
    for number in range(40)
    for item in (
        service(f"other/s{number}", f"10.96.1.{number}"),
        endpoint_slice(f"other/s{number}", [endpoint(f"10.181.{number}.{n}") for n in range(number % 5)]),
    )
]


@pytest.mark.parametrize(
    ("count", "most"),
    [
        # One for another: the old element and the new one, but for those between them in order.
        (3, {"chains": 0, "elements": 6, "sets": 0}),
        (100, {"chains": 0, "elements": 20, "sets": 0}),
    ],
)
def test_one_endpoint_for_another_is_a_few_elements(count: int, most: dict[str, int]) -> None:
    before = many_endpoints(count)
    after = [*before[1:], endpoint("10.180.200.1")]
    found = changed(table_of(*OTHERS, *web(before)), table_of(*OTHERS, *web(after)))
    assert all(found[what] <= most[what] for what in most), found


def test_one_endpoint_more_is_a_few_elements() -> None:
    """From one shared map to another: all of the Service's own elements, and the one that leads there."""
    found = changed(table_of(*OTHERS, *web(many_endpoints(3))), table_of(*OTHERS, *web(many_endpoints(4))))
    assert found == {"chains": 0, "elements": 3 + 4 + 2, "sets": 0}
    many = [table_of(*OTHERS, *web(many_endpoints(count))) for count in (100, 101)]
    found = changed(*many)
    assert (found["chains"], found["sets"]) == (2, 0)
    assert found["elements"] <= 20


def test_a_service_more_changes_no_other() -> None:
    found = changed(table_of(*OTHERS), table_of(*OTHERS, *web(many_endpoints(3))))
    assert found == {"chains": 0, "elements": 3 + 2, "sets": 0}
