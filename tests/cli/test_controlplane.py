"""Manifests as a learner types them, without addresses, Pods or slices; and those that leave nothing open."""

from __future__ import annotations

import json

import pytest

from kproxy_nat.errors import Code
from tests.cli.conftest import Run

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: datarc, namespace: datarc}
spec:
  replicas: 2
  selector: {matchLabels: {app: datarc}}
  template:
    metadata: {labels: {app: datarc}}
    spec: {containers: [{name: nginx, ports: [{containerPort: 8080}]}]}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: datarc, namespace: datarc}
spec:
  type: NodePort
  selector: {app: datarc}
  ports: [{port: 80, targetPort: 8080, nodePort: 32600}]
"""
TUTORIAL = f"{DEPLOYMENT}---\n{SERVICE}"
AUTO = ("compile", "-")
OFF = (*AUTO, "--controlplane", "off")


def service(name: str, spec: str) -> str:
    head = f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{{spec}, ports: [{{port: 80}}]}}\n"


def test_the_tutorial_is_compiled_as_it_is_typed(run: Run) -> None:
    result = run(*AUTO, stdin=TUTORIAL)
    assert result.status == 0
    assert result.out.count("-j DNAT --to-destination 10.244.") == 2
    assert "--dport 32600 -j KUBE-EXT-" in result.out
    assert "has no endpoints" not in result.out


def test_what_was_assumed_is_told_on_stderr(run: Run) -> None:
    assumed = [line for line in run(*AUTO, stdin=TUTORIAL).err.splitlines() if ": assumed: " in line]
    assert [line.split(": ")[2].split(" ")[0] for line in assumed] == ["Service", "Nodes", "Deployment"]
    assert "clusterIP 10." in assumed[0]


def test_what_was_assumed_is_in_the_json(run: Run) -> None:
    document = json.loads(run(*AUTO, "--form", "json", stdin=TUTORIAL).out)
    subjects = [assumption["subject"] for assumption in document["assumptions"]]
    assert subjects == ["Service datarc/datarc", "Nodes", "Deployment datarc/datarc"]


def test_nothing_is_assumed_where_that_is_switched_off(run: Run) -> None:
    result = run(*OFF, stdin=TUTORIAL)
    assert "datarc" not in result.out
    assert "assumed" not in result.err
    assert "--controlplane off" in result.err


def test_an_object_more_moves_no_other(run: Run) -> None:
    more = service("other", "type: NodePort, selector: {app: x}")
    lines = set(run(*AUTO, stdin=TUTORIAL).out.splitlines())
    assert lines <= set(run(*AUTO, stdin=f"{more}---\n{TUTORIAL}").out.splitlines())


def test_complete_services_stay_as_they_are(run: Run) -> None:
    complete = service("a", "clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1], ipFamilies: [IPv4]").replace(
        "spec: {", "spec: {ipFamilyPolicy: SingleStack, "
    )
    auto, off = run(*AUTO, stdin=complete), run(*OFF, stdin=complete)
    assert (auto.out, auto.err) == (off.out, off.err)
    assert off.err == ""


def test_another_node_can_be_chosen_among_the_assumed(run: Run) -> None:
    local = TUTORIAL.replace("type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local")
    first, second = (run(*AUTO, "--node", f"node-{n}", stdin=local).out for n in (1, 2))
    assert first != second
    assert run(*AUTO, stdin=local).out == first


def test_a_node_that_is_not_among_the_assumed_has_no_pods(run: Run) -> None:
    local = TUTORIAL.replace("type: NodePort", "type: NodePort\n  internalTrafficPolicy: Local")
    result = run(*AUTO, "--node", "worker1", stdin=local)
    assert result.status == 0
    assert "no Pod is on worker1: they are on node-1, node-2" in result.err
    assert "has no local endpoints" in result.out


@pytest.mark.parametrize(
    "option",
    [
        "--service-cidr=10.0.0.0/8",
        "--node-port-range=1-2",
        "--assume-nodes=3",
        "--load-balancer-pool=1.0.0.0/8",
    ],
)
def test_its_options_do_not_go_with_off(option: str, run: Run) -> None:
    result = run(*OFF, option, stdin=TUTORIAL)
    assert (result.status, result.out) == (2, "")
    assert "--controlplane off" in result.err


@pytest.mark.parametrize("written", ["30000", "2-1", "0-5", "1-70000", "a-b", "-"])
def test_a_port_range_is_low_to_high(written: str, run: Run) -> None:
    assert run(*AUTO, "--node-port-range", written, stdin=TUTORIAL).status == 2


TINY = ("--service-cidr", "10.96.0.0/30")
CASES: dict[Code, tuple[tuple[str, ...], str]] = {
    Code.ADDRESS_TAKEN: (
        (),
        f"{service('a', 'clusterIP: 10.96.0.9')}---\n{service('b', 'type: NodePort, clusterIP: 10.96.0.9')}",
    ),
    Code.ADDRESS_OUT_OF_RANGE: ((), service("a", "type: NodePort, clusterIP: 172.30.0.1")),
    Code.NODE_PORT_TAKEN: ((), f"{SERVICE}---\n{SERVICE.replace('name: datarc,', 'name: b,')}"),
    Code.NODE_PORT_OUT_OF_RANGE: (("--node-port-range", "30000-30010"), SERVICE),
    Code.RANGE_EXHAUSTED: (TINY, "---\n".join(service(name, "type: ClusterIP") for name in "abcd")),
    Code.FAMILY_UNAVAILABLE: (TINY, service("a", "ipFamilies: [IPv6]")),
    Code.SELECTOR_WITHOUT_PODS: ((), SERVICE),
    Code.TARGET_PORT_NOT_FOUND: ((), TUTORIAL.replace("targetPort: 8080", "targetPort: web")),
    Code.TOO_MANY_PODS: (
        (),
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: n}}\nspec: {{podCIDR: 10.0.0.0/30}}\n---\n{TUTORIAL}",
    ),
    Code.POD_NOT_PLACED: (
        (),
        "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDR: 10.0.0.0/24}\n---\n"
        + TUTORIAL.replace("spec: {containers", "spec: {nodeName: gone, containers"),
    ),
}
WARNINGS = {Code.SELECTOR_WITHOUT_PODS, Code.TARGET_PORT_NOT_FOUND, Code.POD_NOT_PLACED}


@pytest.mark.parametrize("code", CASES, ids=[code.value for code in CASES])
def test_each_problem_is_told_with_id_and_place(code: Code, run: Run) -> None:
    options, stdin = CASES[code]
    result = run(*AUTO, *options, stdin=stdin)
    severity = "warning" if code in WARNINGS else "error"
    (head, *_) = [line for line in result.err.splitlines() if f"[{code}]" in line]
    assert head.startswith(f"kproxy-nat: {severity}[{code}]: stdin:")
    assert result.status == (0 if code in WARNINGS else 3)
    assert bool(result.out) is (code in WARNINGS)


ADDRESSED = service("a", "clusterIP: 172.30.0.1, selector: {app: a}")
"""A Service that leaves nothing open, outside of the default service CIDR, with a selector."""


class TestServicesThatLeaveNothingOpen:
    def test_they_are_not_measured_by_assumed_ranges_nor_asked_for_pods(self, run: Run) -> None:
        result = run(*AUTO, stdin=ADDRESSED)
        assert (result.status, result.err) == (0, "")
        assert result.out == run(*OFF, stdin=ADDRESSED).out

    def test_a_stated_range_is_another_matter(self, run: Run) -> None:
        result = run(*AUTO, "--service-cidr", "10.96.0.0/16", stdin=ADDRESSED)
        assert result.status == 3
        assert "error[KPN306]: stdin:4:19: Service default/a" in result.err

    def test_so_is_a_stated_range_of_node_ports(self, run: Run) -> None:
        text = service("a", "type: NodePort, clusterIP: 10.96.0.1").replace("80}", "80, nodePort: 8080}")
        assert run(*AUTO, stdin=text).err == ""
        assert "error[KPN308]" in run(*AUTO, "--node-port-range", "30000-32767", stdin=text).err

    def test_one_address_for_two_is_a_warning_if_their_ports_differ(self, run: Run) -> None:
        text = f"{ADDRESSED}---\n{service('b', 'clusterIP: 172.30.0.1').replace('80', '81')}"
        result = run(*AUTO, stdin=text)
        assert result.status == 0
        assert "warning[KPN305]: stdin:9:19: Service default/b" in result.err

    def test_a_conflict_of_rules_is_told_once(self, run: Run) -> None:
        result = run(*AUTO, stdin=f"{ADDRESSED}---\n{service('b', 'clusterIP: 172.30.0.1')}")
        assert result.status == 0
        assert "KPN301" in result.err
        assert "KPN305" not in result.err

    def test_pods_complete_their_endpoints(self, run: Run) -> None:
        text = SERVICE.replace("spec:", "spec:\n  clusterIP: 10.96.0.20")
        result = run(*AUTO, stdin=f"{DEPLOYMENT}---\n{text}")
        assert result.out.count("-j DNAT --to-destination 10.244.") == 2

    def test_with_slices_no_pod_is_looked_at(self, run: Run) -> None:
        """Not even one that could not be read."""
        slices = (
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
            "metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}\n"
        )
        result = run(
            *AUTO, stdin=f"{ADDRESSED}{slices}---\n{DEPLOYMENT.replace('replicas: 2', 'replicas: x')}"
        )
        assert result.status == 0
        assert result.err == "kproxy-nat: passed over 1 object of other kinds (Deployment 1)\n"

    def test_strict_refuses_what_is_passed_over(self, run: Run) -> None:
        addressed = service("a", "clusterIP: 172.30.0.1")
        assert run(*AUTO, "--strict", stdin=f"{addressed}---\n{DEPLOYMENT}").status == 3
        assert run(*AUTO, "--strict", stdin=TUTORIAL).status == 0

    def test_what_a_cluster_stored_is_given_no_node_port(self, run: Run) -> None:
        stored = service(
            "a", "type: NodePort, clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1], ipFamilies: [IPv4]"
        )
        result = run(*AUTO, stdin=stored)
        assert (result.err, result.out) == ("", run(*OFF, stdin=stored).out)


def test_services_that_are_refused_can_be_left_out(run: Run) -> None:
    text = f"{TUTORIAL}---\n{SERVICE.replace('name: datarc,', 'name: other, labels: {},')}"
    assert run(*AUTO, stdin=text).status == 3
    result = run(*AUTO, "--on-error", "exclude", stdin=text)
    assert result.status == 0
    assert "datarc/other" not in result.out
    assert result.out == run(*AUTO, stdin=TUTORIAL).out
