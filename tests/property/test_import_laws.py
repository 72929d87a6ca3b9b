"""Laws of import: what comes out of rules compiles to these rules, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.view import build_view
from kproxy_nat.recover.iptables import read_services
from kproxy_nat.recover.node_objects import configuration_object, node_object
from kproxy_nat.recover.objects import NODE_NAME, needs_zone, service_objects
from kproxy_nat.recover.settings import read_settings
from kproxy_nat.recover.sources import RulesetSource
from tests.conformance.command_line import compiled, run
from tests.conformance.rule_text import chain_differences, comparable, read_chains
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.golden.gallery import GALLERY, RULE_FILES, TOPICS
from tests.oracle.compiling import load, options_of, random_input, save_text, yaml_text

SEEDS = range(3000, 3024)
LARGE = "large-cluster"
"""Whether the rules of endpoints have comments follows from endpoints that are not ready, too."""


def imported(tmp_path: Path, *rules: Path) -> Path:
    """Import rule files, and return the file of manifests."""
    status, out, err = run("import", *rules)
    assert status == 0, err
    manifests = tmp_path / "imported.yaml"
    manifests.write_text(out)
    return manifests


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != LARGE])
def test_the_gallery_compiles_to_itself(topic: str, tmp_path: Path) -> None:
    files = {family: GALLERY / topic / name for family, name in RULE_FILES.items()}
    manifests = imported(tmp_path, *files.values())
    for family, path in files.items():
        assert compiled(manifests, "--family", family.lower()) == path.read_text()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_kube_proxy_wrote_is_compiled_again(scenario: Scenario, tmp_path: Path) -> None:
    files = {family: tmp_path / name for family, name in RULE_FILES.items()}
    for family, path in files.items():
        path.write_text(scenario.recorded("save", family))
    manifests = imported(tmp_path, *files.values())
    for family in IpFamily:
        ours = compiled(manifests, "--nfacct", "--family", family.lower())
        before, after = (comparable(read_chains(t)) for t in (ours, scenario.recorded("save", family)))
        assert not chain_differences(before, after)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_clusters_compile_to_themselves(seed: int) -> None:
    made = random_input(seed, sizes=(4, 15))
    rulesets = {family: lower_to_ruleset(made.view(family)) for family in IpFamily}
    sources = {family: RulesetSource(ruleset) for family, ruleset in rulesets.items()}
    families = {f: (read_services(source), read_settings(source)) for f, source in sources.items()}
    ports = [found for found, _ in families.values()]
    objects = [
        configuration_object(families),
        node_object(families, zone=needs_zone(ports)),
        *service_objects(ports),
    ]
    cluster = load(yaml_text(objects))
    options = options_of(cluster, node_name=NODE_NAME)
    for family in IpFamily:
        if made.view(family).is_large_cluster:
            continue
        again = read_chains(save_text(build_view(cluster, options, family)))
        assert not chain_differences(again, read_chains(save_text(made.view(family))))
