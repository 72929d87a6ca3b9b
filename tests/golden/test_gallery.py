"""The rule files of the gallery are current, sound, and say the same when they are read back."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.formats.nft_json_parse import rulesets_of
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.formats.nft_script_parse import parse_script, parse_tables
from kproxy_nat.formats.ruleset_json import parse_json
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.wellformed import faults
from tests.conformance.command_line import compiled
from tests.golden.gallery import (
    GALLERY,
    ROOT,
    TOPICS,
    compact_nft_text,
    compact_text,
    load_script,
    nft_text,
    rule_text,
)

SCRIPT = load_script()

by_topic = pytest.mark.parametrize("topic", TOPICS)
by_family = pytest.mark.parametrize("family", IpFamily)


def test_the_gallery_is_there() -> None:
    recorded = {path.name for path in (ROOT / "tests/conformance/recorded").iterdir() if path.is_dir()}
    assert recorded <= set(TOPICS)
    assert {"tutorial-clusterip", "tutorial-nodeport", "tutorial-external-nginx"} <= set(TOPICS)


@by_topic
def test_rule_files_are_current(topic: str) -> None:
    """If not: look at the difference, and run scripts/regenerate-rules when it is intended."""
    stale = [SCRIPT.difference(*found) for found in SCRIPT.stale(GALLERY / topic)]
    assert not stale, "\n".join(stale)


@by_topic
def test_rule_files_are_what_stdout_shows(topic: str) -> None:
    """The script goes by way of files; readers of the README go by way of the terminal."""
    assert compiled(GALLERY / topic) == rule_text(topic, IpFamily.IPV4)
    assert compiled(GALLERY / topic, "--family", "ipv6") == rule_text(topic, IpFamily.IPV6)
    assert compiled(GALLERY / topic, "--mode", "nftables") == nft_text(topic)


@by_family
@by_topic
def test_reading_back_gives_the_same_bytes(topic: str, family: IpFamily) -> None:
    for text in (rule_text(topic, family), compact_text(topic, family)):
        ruleset = parse_save(text, family)
        assert render_save(ruleset) == text
        assert list(faults(ruleset)) == []


@by_topic
def test_reading_back_nftables_gives_the_same_bytes(topic: str) -> None:
    for text in (nft_text(topic), compact_nft_text(topic)):
        tables = parse_tables(text)
        assert render_listing(tables) == text
        assert [list(faults(ruleset)) for ruleset in rulesets_of(tables)] == [[], []]


@by_topic
def test_json_holds_the_same_rules(topic: str) -> None:
    for ruleset in parse_json(compiled(GALLERY / topic, "--form", "json")):
        assert render_save(ruleset) == rule_text(topic, ruleset.family)
    for ruleset in parse_json(compiled(GALLERY / topic, "--form", "json", "--layout", "compact")):
        assert render_save(ruleset) == compact_text(topic, ruleset.family)
    rulesets = parse_json(compiled(GALLERY / topic, "--form", "json", "--mode", "nftables"))
    assert render_listing(t for ruleset in rulesets for t in ruleset.tables.values()) == nft_text(topic)
    options = ("--form", "json", "--mode", "nftables", "--layout", "compact")
    rulesets = parse_json(compiled(GALLERY / topic, *options))
    assert render_listing(t for r in rulesets for t in r.tables.values()) == compact_nft_text(topic)


@by_topic
def test_the_nftables_transaction_makes_the_same_tables(topic: str) -> None:
    script = compiled(GALLERY / topic, "--form", "restore", "--mode", "nftables")
    assert render_script(parse_script(script)) == script
    assert render_listing(parse_tables(script)) == nft_text(topic)


@by_topic
def test_the_compact_nftables_transaction_replaces_what_is_there(topic: str) -> None:
    options = ("--form", "restore", "--mode", "nftables", "--layout", "compact")
    script = compiled(GALLERY / topic, *options)
    assert render_script(parse_script(script)) == script
    assert render_listing(parse_tables(nft_text(topic) + script)) == compact_nft_text(topic)


@by_family
@by_topic
def test_restore_form_makes_the_same_chains(topic: str, family: IpFamily) -> None:
    """The transaction, read back, holds every rule of the save form but the jumps from built-in chains."""
    restore = compiled(GALLERY / topic, "--form", "restore", "--family", family.lower())
    listed = render_save(parse_save(restore, family))
    jumps = re.compile(r"-A (?:INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING) ")
    expected = [line for line in rule_text(topic, family).splitlines() if not jumps.match(line)]
    if ":KUBE-FIREWALL - [0:0]" not in listed:  # the jump to it needs the chain; the transaction does not
        expected.remove(":KUBE-FIREWALL - [0:0]")
    assert listed.splitlines() == expected


@by_family
@by_topic
def test_restore_form_of_the_compact_layout_makes_the_same_chains(topic: str, family: IpFamily) -> None:
    options = ("--form", "restore", "--family", family.lower(), "--layout", "compact")
    listed = render_save(parse_save(compiled(GALLERY / topic, *options), family))
    jumps = re.compile(r"-A (?:INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING) ")
    wanted = compact_text(topic, family).splitlines()
    assert listed.splitlines() == [line for line in wanted if not jumps.match(line)]


@by_topic
def test_order_of_documents_does_not_matter(topic: str, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((GALLERY / topic / "manifests.yaml").read_text()))
    random.Random(topic).shuffle(documents)
    (tmp_path / "shuffled.yaml").write_text(yaml.safe_dump_all(documents))
    for family in IpFamily:
        shuffled = compiled(tmp_path / "shuffled.yaml", "--family", family.lower())
        assert shuffled == rule_text(topic, family)
    assert compiled(tmp_path / "shuffled.yaml", "--mode", "nftables") == nft_text(topic)


def test_readme_lists_every_topic_with_its_first_line() -> None:
    rows = re.findall(
        r"^\| \[(\S+)\]\((\S+)\) \| (.+) \|$", (GALLERY / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(topic for topic, _, _ in rows) == TOPICS
    for topic, target, summary in rows:
        assert target == f"{topic}/manifests.yaml"
        first_line = (GALLERY / target).read_text().partition("\n")[0]
        assert first_line == f"# {summary}"


class TestTheScript:
    def test_it_can_be_run(self) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/regenerate-rules", "--check"],
            capture_output=True,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr

    def test_it_says_what_is_stale_and_mends_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gallery = tmp_path / "rules"
        shutil.copytree(GALLERY / "clusterip", gallery / "clusterip")
        file = gallery / "clusterip" / "iptables.rules"
        current = file.read_text()
        file.write_text(current.replace("--dport 80 ", "--dport 81 ", 1))
        assert SCRIPT.main(["--check"], gallery) == 1
        printed = capsys.readouterr().out
        assert re.search(r"^-.*--dport 81 ", printed, re.MULTILINE)
        assert re.search(r"^\+.*--dport 80 ", printed, re.MULTILINE)
        assert SCRIPT.main([], gallery) == 0
        assert file.read_text() == current
        assert SCRIPT.main(["--check"], gallery) == 0
