"""What one service port adds in nftables mode, where that differs from iptables mode or is settled here."""

from __future__ import annotations

from typing import Any

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from tests.conformance.nft_text import NftText, read_transaction
from tests.oracle.compiling import cluster_of, nft_script_text, options_of
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service

REMOTE, LOCAL = endpoint("10.180.2.9", "node2"), endpoint("10.180.0.9", "node1")
WEB = "HPJLA6DC-shop/web/tcp/https"


def web(*, node_port: int = 0, **spec: Any) -> Manifest:
    return service("shop/web", "10.96.0.10", ports=[port(443, "https", nodePort=node_port)], **spec)


def compiled(*manifests: Manifest, endpoints: list[Manifest] | None = None) -> NftText:
    made = endpoint_slice(endpoints=endpoints or [], ports=[port(8443, "https")])
    cluster = cluster_of([node(), made, *manifests])
    options = options_of(cluster, mode=ProxyMode.NFTABLES)
    return read_transaction(nft_script_text(build_view(cluster, options, IpFamily.IPV4)))


def elements(text: NftText, name: str) -> list[str]:
    found = text.objects["ip", "container", name].elements
    return [element.removeprefix("{ ").removesuffix(" }") for element in found]


def rules(text: NftText, chain: str) -> list[str]:
    return text.objects["ip", "chain", chain].rules


def test_source_ranges_apply_without_endpoints() -> None:
    ranges = ["198.51.100.0/24"]
    text = compiled(web(type="LoadBalancer", vips=["192.0.2.1"], loadBalancerSourceRanges=ranges))
    assert elements(text, "firewall-ips") == [f"192.0.2.1 . tcp . 443 : goto firewall-{WEB}"]
    assert rules(text, f"firewall-{WEB}") == ["ip saddr != { 198.51.100.0/24 } drop"]
    refused = '192.0.2.1 . tcp . 443 comment "shop/web:https" : goto reject-chain'
    assert refused in elements(text, "no-endpoint-services")
    assert elements(text, "service-ips") == []


def test_the_node_and_the_load_balancer_pass_the_firewall_together() -> None:
    ranges = ["192.168.0.0/16", "198.51.100.0/24"]
    text = compiled(web(type="LoadBalancer", vips=["192.0.2.1"], loadBalancerSourceRanges=ranges))
    assert rules(text, f"firewall-{WEB}") == [
        "ip saddr != { 192.168.0.0/16 , 198.51.100.0/24 , 192.0.2.1 } drop"
    ]


def test_policy_local_without_local_endpoints_keeps_its_short_cuts() -> None:
    policy: Manifest = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    text = compiled(web(node_port=30443, **policy), endpoints=[REMOTE])
    assert elements(text, "service-nodeports") == [f"tcp . 30443 : goto external-{WEB}"]
    assert elements(text, "no-endpoint-nodeports") == ['tcp . 30443 comment "shop/web:https" : drop']
    assert rules(text, f"external-{WEB}")[-1].endswith('comment "short-circuit local traffic"')


def test_only_local_endpoints_are_hairpins_and_each_once() -> None:
    second = service("shop/also", "10.96.0.11", ports=[port(443, "https")])
    also = endpoint_slice("shop/also", endpoints=[LOCAL], ports=[port(8443, "https")])
    text = compiled(web(), second, also, endpoints=[LOCAL, REMOTE])
    assert elements(text, "hairpin-connections") == ["10.180.0.9 . 10.180.0.9 . tcp . 8443"]


def test_of_two_claims_the_first_with_endpoints_is_served() -> None:
    """kube-proxy serves either, by chance; a key can be in a map once only."""
    first = service("shop/a", "10.96.0.11", ports=[port(443, "https", nodePort=30443)], type="NodePort")
    text = compiled(web(node_port=30443, type="NodePort"), first, endpoints=[REMOTE])
    assert elements(text, "service-nodeports") == [f"tcp . 30443 : goto external-{WEB}"]
    refused = ['tcp . 30443 comment "shop/a:https" : goto reject-chain']
    assert elements(text, "no-endpoint-nodeports") == refused
