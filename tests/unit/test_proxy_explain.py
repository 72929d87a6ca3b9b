"""What -v says of Services that traffic cannot reach."""

from __future__ import annotations

import pytest

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.explain import explain
from kproxy_nat.proxy.view import build_view
from tests.oracle.compiling import cluster_of, options_of
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service

OPEN_LOCAL = service(type="NodePort", externalTrafficPolicy="Local", ports=[port(nodePort=30080)])


def sentences(*manifests: Manifest) -> list[str]:
    cluster = cluster_of([node(), *manifests])
    views = [build_view(cluster, options_of(cluster), family) for family in IpFamily]
    return list(explain(cluster, views))


@pytest.mark.parametrize(
    "manifest, reason",
    [
        (service(cluster_ip="None"), "headless"),
        (service(cluster_ip="", type="ExternalName", externalName="db.example.com"), "ExternalName"),
        (service(labels={"service.kubernetes.io/service-proxy-name": ""}), "service-proxy-name"),
        (service(cluster_ip=""), "no cluster IP"),
    ],
)
def test_no_rules_at_all(manifest: Manifest, reason: str) -> None:
    (sentence,) = sentences(manifest, endpoint_slice())
    assert "Service shop/web: no rules" in sentence
    assert reason in sentence
    assert sentence.startswith("text-1:")


@pytest.mark.parametrize(
    "manifests, reason",
    [
        ([service()], "no EndpointSlice for IPv4"),
        (
            [service(), endpoint_slice(family="IPv6", endpoints=[endpoint("fd00::1")])],
            "no EndpointSlice for IPv4",
        ),
        ([service(), endpoint_slice("shop/other")], "no EndpointSlice for IPv4"),
        ([service(), endpoint_slice(ports=[port(8080, "web")])], "named http/TCP (slices have: web/TCP)"),
        ([service(), endpoint_slice(ports=[port(8080, "http", "UDP")])], "(slices have: http/UDP)"),
        ([service(), endpoint_slice(ports=[port(8080, "")])], "(slices have: (unnamed)/TCP)"),
        ([service(), endpoint_slice(ports=[])], "(slices have: none)"),
        ([service(ports=[port(80, "")]), endpoint_slice()], "named (unnamed)/TCP"),
        ([service(), endpoint_slice(endpoints=[])], "none of its endpoints is ready"),
        ([service(), endpoint_slice(endpoints=[endpoint(ready=False)])], "none of its endpoints is ready"),
    ],
)
def test_rejected(manifests: list[Manifest], reason: str) -> None:
    (sentence,) = sentences(*manifests)
    assert "traffic is rejected" in sentence
    assert reason in sentence


@pytest.mark.parametrize(
    "manifest, policies",
    [
        (service(internalTrafficPolicy="Local"), "internalTrafficPolicy is"),
        (OPEN_LOCAL, "externalTrafficPolicy is"),
        (
            {**OPEN_LOCAL, "spec": {**OPEN_LOCAL["spec"], "internalTrafficPolicy": "Local"}},
            "internalTrafficPolicy and externalTrafficPolicy is",
        ),
    ],
)
def test_dropped(manifest: Manifest, policies: str) -> None:
    (sentence,) = sentences(manifest, endpoint_slice())
    assert f"traffic is dropped: {policies} Local" in sentence


def test_nothing_to_explain() -> None:
    assert sentences(service(), endpoint_slice()) == []
    assert sentences(OPEN_LOCAL, endpoint_slice(endpoints=[endpoint(on="node1")])) == []
    # A policy for outsiders does not matter where there is no way in.
    assert sentences(service(externalTrafficPolicy="Local"), endpoint_slice()) == []


def test_every_service_and_family_in_order() -> None:
    dual: Manifest = {"clusterIPs": ["10.96.0.10", "fd00::10"], "ipFamilies": ["IPv4", "IPv6"]}
    manifests = [
        service("b/none", "None"),
        service("a/none", "None"),
        service("c/waiting", "10.96.0.10", **dual),
    ]
    found = [sentence.partition(": ")[2] for sentence in sentences(*manifests)]
    assert [text.split(": no rules")[0] for text in found[:2]] == ["Service a/none", "Service b/none"]
    assert [text.split(":")[2].strip() for text in found[2:]] == ["IPv4", "IPv6"]
