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

GOLDENS = Path(__file__).parent / "goldens"

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
