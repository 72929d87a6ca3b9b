"""The tutorial: what was derived can be kept, and its page quotes rules that are there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from kproxy_nat.net.addresses import IpFamily
from tests.conformance.command_line import compiled
from tests.golden.gallery import GALLERY, STEPS, load_script, rule_text

SCRIPT = load_script()
by_step = pytest.mark.parametrize("step", STEPS)


def test_all_steps_are_there() -> None:
    kinds = "clusterip nodeport loadbalancer externalname external-nginx".split()
    assert [f"tutorial/{number}-{kind}" for number, kind in enumerate(kinds, start=1)] == STEPS


@by_step
def test_manifests_leave_open_what_a_cluster_fills_in(step: str) -> None:
    documents = list(yaml.safe_load_all((GALLERY / step / "manifests.yaml").read_text()))
    assert {"Pod", "EndpointSlice", "Node"}.isdisjoint(one["kind"] for one in documents)
    assert not any("clusterIP" in one.get("spec", {}) for one in documents)


@by_step
def test_derived_objects_give_the_same_rules_with_nothing_left_to_assume(step: str) -> None:
    for family in IpFamily:
        options = ("--controlplane", "off", "--node", "node-1", "--family", family.lower())
        assert compiled(GALLERY / step / "derived", *options) == rule_text(step, family)


def test_the_page_quotes_rules_that_are_there() -> None:
    page = (GALLERY / "tutorial/README.md").read_text()
    quoted = re.findall(r"^-A .*$", page, re.MULTILINE)
    assert len(quoted) > 10
    rules = {line for step in STEPS for line in rule_text(step, IpFamily.IPV4).splitlines()}
    assert [rule for rule in quoted if rule not in rules] == []


def test_the_page_names_every_step() -> None:
    page = (GALLERY / "tutorial/README.md").read_text()
    assert re.findall(r"^\| \[(\S+)\]", page, re.MULTILINE) == [
        step.removeprefix("tutorial/") for step in STEPS
    ]


def test_stale_derived_objects_are_mended(tmp_path: Path) -> None:
    gallery = tmp_path / "rules"
    step = "tutorial/1-clusterip"
    shutil.copytree(GALLERY / step, gallery / step)
    file = gallery / step / "derived" / "endpoints.yaml"
    current = file.read_text()
    file.unlink()
    assert SCRIPT.main(["--check"], gallery) == 1
    assert SCRIPT.main([], gallery) == 0
    assert file.read_text() == current
