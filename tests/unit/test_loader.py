"""From texts to a cluster: what is kept, passed over, refused; and all problems at once."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from kproxy_nat.errors import Code, Problem, Severity
from kproxy_nat.manifests.loader import KINDS, Loaded, load_texts
from kproxy_nat.manifests.sources import SourceText

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  ports:
  - port: 80
"""


def load(*texts: str, strict: bool = False) -> Loaded:
    named = [SourceText(f"{number}.yaml", dedent(text)) for number, text in enumerate(texts, start=1)]
    return load_texts(named, strict=strict)


def told(problems: list[Problem]) -> list[tuple[Code, str]]:
    return [(problem.code, str(problem.location)) for problem in problems]


def test_each_kind_is_kept_with_its_origin() -> None:
    loaded = load(
        SERVICE,
        """\
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-1}
        addressType: IPv4
        ---
        {apiVersion: v1, kind: Endpoints, metadata: {name: web}}
        ---
        {apiVersion: v1, kind: Node, metadata: {name: node1}}
        ---
        {apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration}
        """,
    )
    cluster = loaded.cluster
    kept: list[list[Any]] = [
        cluster.services,
        cluster.slices,
        cluster.endpoints,
        cluster.nodes,
        cluster.configs,
    ]
    assert [[(s.origin.source, s.origin.line) for s in objects] for objects in kept] == [
        [("1.yaml", 1)],
        [("2.yaml", 1)],
        [("2.yaml", 6)],
        [("2.yaml", 8)],
        [("2.yaml", 10)],
    ]
    assert loaded.problems == []
    assert not loaded.passed_over


def test_json_and_yaml_of_an_object_are_the_same() -> None:
    from_json = (
        '{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},'
        '"spec":{"clusterIP":"10.96.0.10","ports":[{"port":80}]}}'
    )
    assert load(SERVICE).cluster.services[0].value == load(from_json).cluster.services[0].value


def test_other_kinds_are_counted() -> None:
    loaded = load(
        """\
        {apiVersion: apps/v1, kind: Deployment}
        ---
        {apiVersion: v1, kind: Pod}
        ---
        {apiVersion: v1, kind: Pod}
        ---
        {apiVersion: serving.knative.dev/v1, kind: Service}
        """
    )
    assert loaded.passed_over == {"Deployment": 1, "Pod": 2, "Service": 1}
    assert loaded.problems == []


def test_strict_refuses_other_kinds() -> None:
    loaded = load("apiVersion: apps/v1\nkind: Deployment\n", strict=True)
    (problem,) = loaded.problems
    assert told([problem]) == [(Code.UNKNOWN_KIND, "1.yaml:2:7")]
    assert problem.message == "kind Deployment of apps/v1 has no part in Service rules"
    assert problem.hint == "remove it, or leave --strict away"


def test_items_of_a_typed_list_need_no_kind() -> None:
    loaded = load("apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n")
    assert [node.value.metadata.name for node in loaded.cluster.nodes] == ["a", "b"]


@pytest.mark.parametrize("kind", ["List", "NodeList"])
def test_lists_within_lists_are_refused(kind: str) -> None:
    inner = (
        f"{{apiVersion: v1, kind: {kind}, items: [{{apiVersion: v1, kind: Node, metadata: {{name: a}}}}]}}"
    )
    loaded = load(f"apiVersion: v1\nkind: List\nitems:\n- {inner}\n")
    assert told(loaded.problems) == [(Code.WRONG_TYPE, f"1.yaml:4:{28 + len(kind)}")]
    assert not loaded.passed_over
    assert loaded.cluster.nodes == []


@pytest.mark.parametrize("items, column", [("{a: b}", 1), ("text", 8), ("5", 8)])
def test_items_that_are_no_list_are_refused(items: str, column: int) -> None:
    problems = load(f"apiVersion: v1\nkind: List\nitems: {items}\n").problems
    assert told(problems) == [(Code.WRONG_TYPE, f"1.yaml:3:{column}")]


@pytest.mark.parametrize(
    "text, missing, place",
    [
        ("hello\n", "kind", "1.yaml:1:1"),
        ("# comment\n- a\n- ~\n", "kind", "1.yaml:2:3"),
        ("replicas: 3\n", "kind", "1.yaml:1:1"),
        ("kind: Service\nmetadata: {name: web}\n", "apiVersion", "1.yaml:1:1"),
        ("apiVersion: v1\nmetadata: {name: web}\n", "kind", "1.yaml:1:1"),
        ("[1]\n", "kind", "1.yaml:1:2"),
    ],
)
def test_what_is_no_object_is_refused(text: str, missing: str, place: str) -> None:
    problem = load(text).problems[0]
    assert told([problem]) == [(Code.NOT_A_MANIFEST, place)]
    assert problem.message == f"this is no Kubernetes object: it has no {missing}"
    assert problem.hint == "each document begins with apiVersion and kind"


@pytest.mark.parametrize(
    "text, place",
    [("apiVersion: v1\nkind: [Service]\n", "1.yaml:2:1"), ("kind: 5\napiVersion: v1\n", "1.yaml:1:7")],
)
def test_a_kind_of_the_wrong_type_is_told_as_such(text: str, place: str) -> None:
    assert told(load(text).problems) == [(Code.WRONG_TYPE, place)]


@pytest.mark.parametrize("key", ["80", "true", "~", "1.5"])
def test_a_key_that_is_no_text_does_not_hide_an_object(key: str) -> None:
    loaded = load(f"{key}: x\n{SERVICE}")
    assert len(loaded.cluster.services) == 1


@pytest.mark.parametrize(
    "key, text",
    [("80", "80"), ("on", "true"), ("010", "010"), ("'80'", "80"), ("true", "true"), ("null", "null")],
)
def test_keys_of_labels_become_texts_in_the_spelling_of_json(key: str, text: str) -> None:
    loaded = load(SERVICE.replace("namespace: shop", f"labels: {{{key}: x}}"))
    assert loaded.cluster.services[0].value.metadata.labels == {text: "x"}


@pytest.mark.parametrize("field", ["metadata", "spec", "status"])
@pytest.mark.parametrize("kind", ["Service", "Node"])
def test_null_is_absent(kind: str, field: str) -> None:
    text = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: web, creationTimestamp: null, labels: null}}\n"
    text = text if field == "metadata" else f"{text}{field}: null\n"
    with_null, without = load(text), load(text.replace("null", "{}"))
    assert told(with_null.problems) == [] or kind == "Service"
    assert len(with_null.cluster.nodes) == len(without.cluster.nodes)


def test_nulls_in_a_slice_as_kubectl_prints_them() -> None:
    loaded = load(
        """\
        addressType: IPv4
        apiVersion: discovery.k8s.io/v1
        endpoints: null
        kind: EndpointSlice
        metadata:
          creationTimestamp: null
          labels: {kubernetes.io/service-name: web}
          name: web-1
        ports: null
        ---
        addressType: IPv4
        apiVersion: discovery.k8s.io/v1
        endpoints:
        - {addresses: [10.1.0.1], conditions: {ready: null}, nodeName: null, hints: null, zone: null}
        kind: EndpointSlice
        metadata: {name: web-2, annotations: null, namespace: null}
        ports: [{name: null, port: null, protocol: null}]
        """
    )
    assert loaded.problems == []
    first, second = (source.value for source in loaded.cluster.slices)
    assert first.endpoints is None
    assert second.metadata.namespace == "default"
    assert second.ports is not None
    assert (second.ports[0].name, second.ports[0].protocol) == ("", "TCP")


def test_all_problems_of_all_files_are_told_at_once() -> None:
    loaded = load(
        "a: [\n",
        SERVICE.replace("80", "70000").replace("10.96.0.10", "10.96.0.1000"),
        "kind: Service\n---\n" + SERVICE.replace("name: web", "name: WEB"),
        SERVICE,
        SERVICE.replace("spec:", "spec: []\nx:"),
        SERVICE,
        "# nothing\n",
    )
    assert sorted(told(loaded.problems), key=lambda problem: problem[1]) == [
        (Code.YAML_SYNTAX, "1.yaml:1:5"),
        (Code.BAD_ADDRESS, "2.yaml:5:14"),
        (Code.PORT_RANGE, "2.yaml:7:11"),
        (Code.NOT_A_MANIFEST, "3.yaml:1:1"),
        (Code.BAD_NAME, "3.yaml:5:18"),
        (Code.WRONG_TYPE, "5.yaml:4:1"),
        (Code.DUPLICATE_OBJECT, "6.yaml:3:18"),
        (Code.SOURCE_EMPTY, "7.yaml"),
    ]
    assert len(loaded.cluster.services) == 1


def test_a_second_object_of_the_same_name_is_refused_and_the_first_is_named() -> None:
    loaded = load(SERVICE, "# second\n" + SERVICE)
    (problem,) = loaded.problems
    assert told([problem]) == [(Code.DUPLICATE_OBJECT, "2.yaml:4:18")]
    assert problem.message == "it is there twice; first at 1.yaml:1"
    assert problem.subject == "Service shop/web"
    assert [source.origin.source for source in loaded.cluster.services] == ["1.yaml"]


@pytest.mark.parametrize(
    "other",
    [SERVICE.replace("shop", "mall"), SERVICE.replace("name: web", "name: web2")],
    ids=["namespace", "name"],
)
def test_identity_is_kind_namespace_and_name(other: str) -> None:
    assert load(SERVICE, other).problems == []


def test_nodes_have_no_namespace() -> None:
    node = "apiVersion: v1\nkind: Node\nmetadata: {name: n, namespace: %s}\n"
    assert told(load(node % "a", node % "b").problems) == [(Code.DUPLICATE_OBJECT, "2.yaml:3:18")]


def test_the_first_of_two_may_be_broken() -> None:
    loaded = load(SERVICE.replace("80", "0"), SERVICE)
    assert told(loaded.problems) == [(Code.PORT_RANGE, "1.yaml:7:11")]
    assert len(loaded.cluster.services) == 1


def test_an_unknown_field_of_the_configuration_is_a_warning_with_a_guess() -> None:
    loaded = load(
        """\
        apiVersion: kubeproxy.config.k8s.io/v1alpha1
        kind: KubeProxyConfiguration
        clusterCidr: 10.0.0.0/8
        zzz: 1
        syncPeriod: 30s
        iptables: {localHostNodePorts: false, syncPeriod: 30s}
        """
    )
    problems = sorted(loaded.problems, key=lambda problem: str(problem.location))
    assert told(problems) == [
        (Code.UNKNOWN_FIELD, "1.yaml:3:14"),
        (Code.UNKNOWN_FIELD, "1.yaml:4:6"),
        (Code.UNKNOWN_FIELD, "1.yaml:6:32"),
    ]
    assert {problem.severity for problem in problems} == {Severity.WARNING}
    assert [problem.hint for problem in problems] == [
        "did you mean clusterCIDR?",
        "it changes nothing",
        "did you mean localhostNodePorts?",
    ]
    assert len(loaded.cluster.configs) == 1


def test_several_unknown_fields_are_told_in_the_order_of_the_file() -> None:
    fields = "".join(f"field{number}: 1\n" for number in range(9))
    loaded = load("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n" + fields)
    assert [problem.location and problem.location.line for problem in loaded.problems] == list(range(3, 12))


def test_an_empty_text_found_in_a_directory_is_no_problem() -> None:
    assert load_texts([SourceText("x.yaml", "---\n", named=False)]).problems == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_a_wrong_root(kind: str) -> None:
    text = f"apiVersion: {KINDS[kind].api_version}\nkind: {kind}\nmetadata: []\n"
    if kind != "KubeProxyConfiguration":
        assert (Code.WRONG_TYPE, "1.yaml:3:1") in told(load(text).problems)
