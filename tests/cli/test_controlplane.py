"""``--controlplane auto``: manifests as a learner types them, without addresses, Pods or slices."""

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
AUTO = ("compile", "-", "--controlplane", "auto")


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


def test_nothing_is_assumed_unless_asked_for(run: Run) -> None:
    result = run("compile", "-", stdin=TUTORIAL)
    assert "datarc" not in result.out
    assert "assumed" not in result.err
    assert "--controlplane auto" in result.err


def test_an_object_more_moves_no_other(run: Run) -> None:
    more = service("other", "type: NodePort, selector: {app: x}")
    lines = set(run(*AUTO, stdin=TUTORIAL).out.splitlines())
    assert lines <= set(run(*AUTO, stdin=f"{more}---\n{TUTORIAL}").out.splitlines())


def test_complete_services_stay_as_they_are(run: Run) -> None:
    complete = service("a", "clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1], ipFamilies: [IPv4]").replace(
        "spec: {", "spec: {ipFamilyPolicy: SingleStack, "
    )
    assert run(*AUTO, stdin=complete).out == run("compile", "-", stdin=complete).out


def test_another_node_can_be_chosen_among_the_assumed(run: Run) -> None:
    local = TUTORIAL.replace("type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local")
    first, second = (run(*AUTO, "--node", f"node-{n}", stdin=local).out for n in (1, 2))
    assert first != second
    assert run(*AUTO, stdin=local).out == first


@pytest.mark.parametrize(
    "option",
    [
        "--service-cidr=10.0.0.0/8",
        "--node-port-range=1-2",
        "--assume-nodes=3",
        "--load-balancer-pool=1.0.0.0/8",
    ],
)
def test_its_options_go_with_it(option: str, run: Run) -> None:
    result = run("compile", "-", option, stdin=TUTORIAL)
    assert (result.status, result.out) == (2, "")
    assert "--controlplane auto" in result.err


@pytest.mark.parametrize("written", ["30000", "2-1", "0-5", "1-70000", "a-b", "-"])
def test_a_port_range_is_low_to_high(written: str, run: Run) -> None:
    assert run(*AUTO, "--node-port-range", written, stdin=TUTORIAL).status == 2


TINY = ("--service-cidr", "10.96.0.0/30")
CASES: dict[Code, tuple[tuple[str, ...], str]] = {
    Code.ADDRESS_TAKEN: (
        (),
        f"{service('a', 'clusterIP: 10.96.0.9')}---\n{service('b', 'clusterIP: 10.96.0.9')}",
    ),
    Code.ADDRESS_OUT_OF_RANGE: ((), service("a", "clusterIP: 172.30.0.1")),
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
