"""What ``--on-error exclude`` leaves out, and what it must not pass over."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
"""
BROKEN_SERVICE = SERVICE.replace("name: a", "name: b").replace("80", "70000")
BROKEN_NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\nspec: {podCIDR: x}\n"
BROKEN_CONFIG = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: x\n"


def test_a_broken_service_is_left_out(run: Run) -> None:
    result = run("compile", "-", "--on-error", "exclude", stdin=f"{SERVICE}---\n{BROKEN_SERVICE}")
    assert result.status == 0
    assert "default/a has no endpoints" in result.out
    assert "default/b" not in result.out
    assert "left out because of 1 error" in result.err


@pytest.mark.parametrize("broken", [BROKEN_NODE, BROKEN_CONFIG])
def test_what_decides_the_other_rules_is_not_left_out(broken: str, run: Run) -> None:
    result = run("compile", "-", "--on-error", "exclude", stdin=f"{SERVICE}---\n{broken}")
    assert (result.status, result.out) == (3, "")


def test_a_missing_source_is_not_left_out(run: Run) -> None:
    result = run("compile", "gone.yaml", "-", "--on-error", "exclude", stdin=SERVICE)
    assert (result.status, result.out) == (3, "")
