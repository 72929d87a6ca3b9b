"""What the API server refuses in Services that somebody typed, and is let pass in those of a cluster."""

from __future__ import annotations

import pytest

from kproxy_nat.controlplane.completion import ControlPlaneOptions, complete_cluster
from kproxy_nat.errors import Code, Problem
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText

PORTS = "ports: [{port: 80}]"
WITH_NODE_PORT = "ports: [{port: 80, nodePort: 30500}]"
STORED = "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ipFamilies: [IPv4]"


POD = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {app: web}}\nspec: {}\n"


def problems(spec: str, status: str = "{}", more: str = "") -> list[Problem]:
    text = (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n"
        f"spec: {{{spec}}}\nstatus: {status}\n{more}"
    )
    loaded = load_texts([SourceText("x.yaml", text)], needs_workloads=lambda _: True)
    assert loaded.problems == []
    return complete_cluster(loaded.cluster, ControlPlaneOptions()).problems


CASES = {
    "node port of a ClusterIP": (
        WITH_NODE_PORT,
        Code.INCONSISTENT,
        "nodePort 30500, but the type is ClusterIP",
    ),
    "policy of a ClusterIP": (
        f"externalTrafficPolicy: Local, {PORTS}",
        Code.INCONSISTENT,
        "externalTrafficPolicy Local, but nothing outside of the cluster can reach the Service",
    ),
    "source ranges of a NodePort": (
        f"type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8], {PORTS}",
        Code.INCONSISTENT,
        "source ranges are for type LoadBalancer",
    ),
    "health check of a NodePort": (
        f"type: NodePort, healthCheckNodePort: 30501, {PORTS}",
        Code.INCONSISTENT,
        "healthCheckNodePort is for type LoadBalancer with externalTrafficPolicy Local",
    ),
    "health check without Local": (
        f"type: LoadBalancer, healthCheckNodePort: 30501, {PORTS}",
        Code.INCONSISTENT,
        "healthCheckNodePort is for type LoadBalancer with externalTrafficPolicy Local",
    ),
    "traffic distribution": (
        f"trafficDistribution: PreferNear, {PORTS}",
        Code.UNSUPPORTED_VALUE,
        "trafficDistribution 'PreferNear' is not supported",
    ),
    "leading zero": (
        f"externalIPs: [192.0.2.010], {PORTS}",
        Code.BAD_ADDRESS,
        "192.0.2.010 is a spelling that programs read differently",
    ),
    "IPv4-mapped": (
        f'externalIPs: ["::ffff:192.0.2.1"], {PORTS}',
        Code.BAD_ADDRESS,
        "::ffff:192.0.2.1 is a spelling that programs read differently",
    ),
    "host bits": (
        f"type: LoadBalancer, loadBalancerSourceRanges: [10.1.2.3/8], {PORTS}",
        Code.BAD_CIDR,
        "10.1.2.3/8 has bits beyond its prefix",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_where_something_is_open(case: str) -> None:
    spec, code, message = CASES[case]
    (problem,) = problems(spec)
    assert (problem.code, problem.message, problem.severity) == (code, message, "error")
    assert problem.subject == "Service shop/web"
    assert str(problem.location).startswith("x.yaml:4:")


@pytest.mark.parametrize("case", CASES)
def test_let_pass_in_what_a_cluster_stored(case: str) -> None:
    assert problems(f"{STORED}, {CASES[case][0]}") == []


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_headless_services_have_no_node_ports(kind: str) -> None:
    """With Pods for it to select; without them it leaves nothing open, and has no rules anyhow."""
    text = f"type: {kind}, clusterIP: None, selector: {{app: web}}, {PORTS}"
    assert problems(text) == []
    (problem,) = problems(text, more=POD)
    assert problem.message == f"a headless Service cannot be of type {kind}"


@pytest.mark.parametrize(
    "ingress, message",
    [
        ("{ip: 192.0.2.1}", "only type LoadBalancer has addresses of load balancers"),
        ("{hostname: a, ipMode: Proxy}", "ipMode is there without ip"),
    ],
)
def test_status_that_nobody_can_have_typed(ingress: str, message: str) -> None:
    found = problems(f"type: NodePort, {PORTS}", f"{{loadBalancer: {{ingress: [{ingress}]}}}}")
    assert message in [problem.message for problem in found]


@pytest.mark.parametrize(
    "spec",
    [
        f"type: NodePort, externalTrafficPolicy: Local, {WITH_NODE_PORT}",
        f"externalIPs: [192.0.2.1], externalTrafficPolicy: Local, {PORTS}",
        f"type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8 '], {PORTS}",
        f"trafficDistribution: PreferSameZone, {PORTS}",
    ],
)
def test_what_is_right_is_not_refused(spec: str) -> None:
    assert problems(spec) == []
