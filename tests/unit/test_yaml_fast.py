"""The fast YAML reader: taken for what kubectl prints, left alone where meanings could differ."""

from __future__ import annotations

import io

import pytest

from kproxy_nat.manifests import documents, yaml_nodes
from kproxy_nat.manifests.documents import Document, split_text
from kproxy_nat.manifests.sources import read_sources
from kproxy_nat.manifests.yaml_fast import load_fast

KUBECTL_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":80}]}}
  creationTimestamp: "2026-01-02T03:04:05Z"
  labels:
    app: web
    version: "010"
  name: web
  namespace: shop
  resourceVersion: "1234"
  uid: 0b6a1e0c-5a3f-4c93-8f9e-7c1a9d3e5f01
spec:
  clusterIP: 10.96.0.10
  clusterIPs:
  - 10.96.0.10
  - fd00:10:96::a
  internalTrafficPolicy: Cluster
  ipFamilies:
  - IPv4
  - IPv6
  ports:
  - name: http
    nodePort: 30080
    port: 80
    protocol: TCP
    targetPort: 8080
  selector:
    app: web
  sessionAffinity: None
  type: NodePort
status:
  loadBalancer: {}
"""
KUBECTL_LIST = (
    "apiVersion: v1\nitems:\n"
    + "".join(
        ("- " if number == 0 else "  ") + line
        for _ in range(2)
        for number, line in enumerate(KUBECTL_SERVICE.splitlines(keepends=True))
    )
    + 'kind: List\nmetadata:\n  resourceVersion: ""\n'
)


@pytest.mark.parametrize(
    "text, count",
    [
        (KUBECTL_SERVICE, 1),
        (KUBECTL_LIST, 2),
        (f"{KUBECTL_SERVICE}---\n{KUBECTL_SERVICE}", 2),
        (KUBECTL_LIST.replace("\n", "\r\n"), 2),
    ],
    ids=["object", "list", "documents", "crlf"],
)
def test_what_kubectl_prints_takes_the_fast_way(
    text: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows' line ends are no reason against it: reading a source turns them into line feeds."""

    def never(_: object) -> None:
        raise AssertionError("the exact reader was asked")

    monkeypatch.setattr(documents, "parse_documents", never)
    (source,) = read_sources(["-"], io.BytesIO(text.encode())).texts
    found = list(split_text(source))
    assert len(found) == count
    for document in found:
        assert isinstance(document, Document)
        assert document.payload.plain()["metadata"]["labels"]["version"] == "010"


@pytest.mark.parametrize(
    "text",
    [
        "a: yes\n",
        "a: [x, off]\n",
        "{a: on}\n",
        "- No\n",
        "on: 1\n",
        "a: 010\n",
        "a: 0o10\n",
        "a: 0b1\n",
        "a: -0x10\n",
        "a: 1_000\n",
        "a: 1e400\n",
        "a:\n  yes\n",
        "a: yes # comment\n",
        "a: yes\r\n",
        "a: yes",
        "a: !!str 1\n",
        "a: &x 1\nb: *x\n",
        "a: {<<: {b: 1}}\n",
        "%YAML 1.1\n---\na: 1\n",
        "? a\n: b\n",
        "a:\tb\n",
        "a: \x07\n",
        "\ufeffa: 1\n",
        "a: [\n",
        "a: 1\na: 2\n",
        "- " * 300 + "x\n",
    ],
)
def test_whatever_could_differ_is_left_to_the_exact_reader(text: str) -> None:
    assert load_fast(text) == (False, None)


def test_a_date_stays_text() -> None:
    assert load_fast("a: 2001-12-14\n") == (True, {"a": "2001-12-14"})


def test_keys_that_are_collections_are_left_to_the_exact_reader() -> None:
    assert load_fast("{{[a]: [b]}: c}\n") == (False, None)


def test_the_exact_reader_finds_what_the_fast_one_read() -> None:
    _, data = load_fast(KUBECTL_SERVICE)
    node = next(yaml_nodes.parse_documents(KUBECTL_SERVICE))
    assert node is not None
    assert yaml_nodes.construct(node) == data
