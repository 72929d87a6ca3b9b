"""What representative errors look like, word for word, in ``goldens/``.

After a change that is meant, write the files anew and read the difference:

    GOLDENS=write pytest tests/cli/test_goldens.py && git diff tests/cli/goldens
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_compile_errors import CONFIG, ENDPOINTS, NODE, SERVICE
from tests.cli.test_controlplane import DEPLOYMENT
from tests.cli.test_controlplane import SERVICE as TYPED

GOLDENS = Path(__file__).parent / "goldens"

WITH_IP = TYPED.replace("spec:", "spec:\n  clusterIP: 10.96.0.20").replace(", nodePort: 32600", "")
HEAD = "apiVersion: v1\nkind: Service\nmetadata: {name: datarc, namespace: datarc}\nspec:\n"
TYPED_ENDPOINTS = """\
apiVersion: v1
kind: Endpoints
metadata:
  name: datarc
  namespace: datarc
subsets:
- addresses: [{ip: 192.0.2.80}]
  ports: [{port: 8080}]
"""
SMALL_NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\nspec: {podCIDR: 10.0.0.0/30}\n"

CASES: dict[str, tuple[str, list[str]]] = {
    "port-range": (SERVICE.replace("80", "70000"), []),
    "bad-address": (SERVICE.replace("10.96.0.10", "10.96.0.300"), []),
    "wrong-types": (SERVICE.replace("80", '"80"').replace("name: web", "name: 5"), []),
    "missing-fields": (
        "apiVersion: v1\nkind: Service\nmetadata:\n  labels: {}\nspec:\n  ports:\n  - name: a\n",
        [],
    ),
    "hostile-name": (SERVICE.replace("name: web", 'name: "web\\" -j ACCEPT\\n\\e[31m"'), []),
    "long-name": (SERVICE.replace("name: web", "name: " + "w" * 300), []),
    "long-line": (
        SERVICE.replace("metadata: {", f"metadata: {{annotations: {{a: {'x' * 200}}}, ").replace(
            "web", "WEB"
        ),
        [],
    ),
    "bad-family": (SERVICE + "  ipFamilies: [IPv5]\n", []),
    "unclosed-bracket": ("apiVersion: v1\nkind: [\n", []),
    "indentation": ("apiVersion: v1\nkind: Service\n metadata: {}\n", []),
    "tab": ("apiVersion: v1\nmetadata:\n\tname: web\n", []),
    "duplicate-key": (SERVICE + "spec: {}\n", []),
    "duplicate-object": (f"{SERVICE}---\n{SERVICE}", []),
    "truncated-json": ('{"apiVersion": "v1", "kind": "Service", "metadata": {"na', []),
    "no-kind": ("replicas: 3\nimage: nginx\n", []),
    "rule-file": ("*nat\nCOMMIT\n", []),
    "nodes": (f"{NODE % 'node1'}---\n{NODE % 'node2'}", []),
    "node-not-found": (NODE % "node1", ["--node", "node9"]),
    "detect-local": (CONFIG + "detectLocalMode: BridgeInterface\n", []),
    "conflict": (f"{SERVICE}---\n{SERVICE.replace('web', 'web2')}", []),
    "not-mirrored": (ENDPOINTS, []),
    "left-out": (f"{SERVICE}---\n{SERVICE.replace('web', 'Bad')}", ["--on-error", "exclude"]),
    "selector-matches-nothing": (f"{DEPLOYMENT}---\n{TYPED.replace('{app: datarc}', '{app: datrac}')}", []),
    "named-port-not-there": (f"{DEPLOYMENT}---\n{TYPED.replace('8080', 'http')}", []),
    "node-port-twice": (f"{TYPED}---\n{TYPED.replace('name: datarc,', 'name: other,')}", []),
    "cluster-ip-twice": (f"{WITH_IP}---\n{WITH_IP.replace('name: datarc,', 'name: other,')}", []),
    "cluster-ip-out-of-range": (WITH_IP.replace("10.96.0.20", "172.30.0.20"), []),
    "node-port-out-of-range": (TYPED.replace("32600", "8080"), []),
    "more-pods-than-room": (f"{SMALL_NODE}---\n{DEPLOYMENT}---\n{TYPED}", []),
    "negative-replicas": (f"{DEPLOYMENT.replace('replicas: 2', 'replicas: -1')}---\n{TYPED}", []),
    "ten-million-replicas": (
        f"{DEPLOYMENT.replace('replicas: 2', 'replicas: 10000000')}---\n{TYPED}",
        [],
    ),
    "selector-and-endpoints": (f"{DEPLOYMENT}---\n{TYPED}---\n{TYPED_ENDPOINTS}", []),
    "endpoints-of-external-name": (
        f"{TYPED_ENDPOINTS}---\n{HEAD}  type: ExternalName\n  externalName: example.com\n",
        [],
    ),
    "endpoints-of-headless": (
        f"{TYPED_ENDPOINTS}---\n{HEAD}  clusterIP: None\n  ports: [{{port: 80}}]\n",
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_look_as_reviewed(name: str, run: Run) -> None:
    text, options = CASES[name]
    err = run("compile", "-", *options, stdin=text).err
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("GOLDENS") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(err, encoding="utf-8")
    assert err == golden.read_text(encoding="utf-8")


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in GOLDENS.glob("*")} == set(CASES)
