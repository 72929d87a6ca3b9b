"""Pods and workloads are read, and what the API server would refuse is refused: code, line and message."""

from __future__ import annotations

import pytest

from kproxy_nat.errors import Code, Problem
from kproxy_nat.manifests.loader import Loaded, load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.workload_validation import is_port_name
from kproxy_nat.model.workloads import DaemonSet, Workload

TEMPLATE = "template: {metadata: {labels: {app: web}}, spec: {containers: []}}"


def read(text: str) -> Loaded:
    return load_texts([SourceText("x.yaml", text)], needs_workloads=lambda _: True)


def deployment(spec: str, name: str = "web", kind: str = "Deployment") -> str:
    """A workload whose spec is on line 4."""
    return f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def pod(spec: str = "", status: str = "", name: str = "web") -> str:
    """A Pod whose spec is on line 4, and its status on line 5."""
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\nstatus: {{{status}}}\n"


def problem(text: str) -> Problem:
    (found,) = read(text).problems
    return found


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"])
def test_workloads_are_kept_with_their_kind(kind: str) -> None:
    loaded = read(deployment(TEMPLATE, kind=kind))
    assert (loaded.problems, dict(loaded.passed_over)) == ([], {})
    (kept,) = loaded.cluster.workloads
    assert isinstance(kept.value, Workload)
    assert kept.value.kind == kind


def test_items_of_a_list_may_leave_their_kind_out() -> None:
    item = '{"metadata": {"name": "a"}, "spec": {"template": {}}}'
    loaded = read(f'{{"apiVersion": "apps/v1", "kind": "DaemonSetList", "items": [{item}]}}')
    (kept,) = loaded.cluster.workloads
    assert isinstance(kept.value, DaemonSet)
    assert kept.value.kind == "DaemonSet"


def test_pods_are_kept() -> None:
    assert [source.value.metadata.name for source in read(pod()).cluster.pods] == ["web"]


def test_other_api_versions_are_passed_over() -> None:
    text = deployment(TEMPLATE).replace("apps/v1", "extensions/v1beta1")
    assert dict(read(text).passed_over) == {"Deployment": 1}


@pytest.mark.parametrize(
    "replicas, message",
    [
        ("-1", "replicas -1 is negative"),
        ("100001", "replicas 100,001 is more than the 100,000 Pods that are made for one workload"),
        ("10000000", "replicas 10,000,000 is more than the 100,000 Pods that are made for one workload"),
    ],
)
def test_replicas_out_of_range(replicas: str, message: str) -> None:
    found = problem(deployment(f"replicas: {replicas}, {TEMPLATE}"))
    assert (found.code, found.message, found.subject) == (
        Code.OUT_OF_RANGE,
        message,
        "Deployment default/web",
    )
    assert str(found.location) == "x.yaml:4:18"


@pytest.mark.parametrize("replicas", ["0", "100000", "null"])
def test_replicas_within_range(replicas: str) -> None:
    assert read(deployment(f"replicas: {replicas}, {TEMPLATE}")).problems == []


def test_a_selector_that_the_template_does_not_have() -> None:
    found = problem(deployment(f"selector: {{matchLabels: {{app: wbe}}}}, {TEMPLATE}"))
    assert found.code is Code.INCONSISTENT
    assert found.message == "the selector asks for app=wbe, which the template's labels lack"


def test_a_workload_without_template() -> None:
    assert problem(deployment("replicas: 1")).message == "spec.template is missing"


def test_negative_ordinals() -> None:
    assert (
        problem(deployment(f"ordinals: {{start: -1}}, {TEMPLATE}")).message == "ordinals.start -1 is negative"
    )


@pytest.mark.parametrize(
    "text", [pod(name="Web"), deployment(TEMPLATE, name="we_b"), pod("nodeName: A_b"), pod("hostname: a.b")]
)
def test_bad_names(text: str) -> None:
    assert problem(text).code is Code.BAD_NAME


@pytest.mark.parametrize(
    "port, code, message",
    [
        ("{containerPort: 0}", Code.PORT_RANGE, "containerPort 0 is not between 1 and 65535"),
        ("{containerPort: 70000}", Code.PORT_RANGE, "containerPort 70000 is not between 1 and 65535"),
        ("{containerPort: 1, protocol: ICMP}", Code.UNSUPPORTED_VALUE, "protocol 'ICMP' is not supported"),
        ("{containerPort: 1, name: A}", Code.BAD_NAME, "port name 'A' is not valid"),
        ("{name: web}", Code.MISSING_FIELD, "spec.containers[0].ports[0].containerPort is missing"),
        (
            "{containerPort: 1, name: a}, {containerPort: 2, name: a}",
            Code.DUPLICATE_PORT,
            "port name a is there twice",
        ),
    ],
)
def test_bad_container_ports(port: str, code: Code, message: str) -> None:
    found = problem(pod(f"containers: [{{name: c, ports: [{port}]}}]"))
    assert (found.code, found.message) == (code, message)


@pytest.mark.parametrize("name", ["a", "http", "a-1", "x" * 15, "9p"])
def test_names_of_container_ports(name: str) -> None:
    assert is_port_name(name)


@pytest.mark.parametrize("name", ["", "80", "A", "a--b", "-a", "a-", "x" * 16, "a_b", "a\n"])
def test_what_is_no_name_of_a_container_port(name: str) -> None:
    assert not is_port_name(name)


@pytest.mark.parametrize(
    "status, code",
    [
        ("podIP: 10.0.0", Code.BAD_ADDRESS),
        ("podIPs: [{ip: x}]", Code.BAD_ADDRESS),
        ("podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}]", Code.INCONSISTENT),
        ("podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]", Code.FAMILY_MISMATCH),
        ("phase: Sleeping", Code.UNSUPPORTED_VALUE),
    ],
)
def test_bad_status(status: str, code: Code) -> None:
    found = problem(pod(status=status))
    assert found.code is code
    assert found.location is not None
    assert found.location.line == 5
