"""Pairs of revisions, and what diff says of each."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.golden.gallery import ROOT

DIFFS = ROOT / "rules" / "diffs"
PAIRS = sorted(path.parent.name for path in DIFFS.glob("*/new.*"))


def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("regenerate_diffs", str(ROOT / "scripts/regenerate-diffs"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_pairs_are_there() -> None:
    assert len(PAIRS) >= 50


@pytest.mark.parametrize("pair", PAIRS)
def test_what_diff_says_is_current(pair: str) -> None:
    """If not: look at the difference, and run scripts/regenerate-diffs when it is intended."""
    assert (DIFFS / pair / "diff.txt").read_text() == script().compared(DIFFS / pair)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_shows_one_concept(pair: str) -> None:
    """At most one Service is changed, or several alike: a heading or two, no more."""
    text = (DIFFS / pair / "diff.txt").read_text()
    assert len(re.findall(r"^[-+~] ", text, re.MULTILINE)) <= 2


def test_the_readme_lists_every_pair_with_its_first_sentence() -> None:
    readme = (DIFFS / "README.md").read_text()
    listed = dict(re.findall(r"^\| \[(\S+)\]\(\S+\) \| (.+) \|$", readme, re.MULTILINE))
    assert list(listed) == PAIRS
    for pair, said in listed.items():
        (new,) = (DIFFS / pair).glob("new.*")
        comment = " ".join(re.match(r"(?:# .*\n)+", new.read_text())[0].replace("# ", "").split())  # type: ignore[index]
        assert said == comment


class TestTheScript:
    def test_it_reports_what_is_out_of_date(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pair = tmp_path / "pair"
        pair.mkdir()
        for side in ("old", "new"):
            (pair / f"{side}.yaml").write_text((DIFFS / "endpoint-added" / f"{side}.yaml").read_text())
        (pair / "diff.txt").write_text("something else\n")
        assert script().main(["--check"], tmp_path) == 1
        assert "-something else" in capsys.readouterr().out
        assert script().main([], tmp_path) == 0
        assert script().main(["--check"], tmp_path) == 0

    def test_it_can_be_called(self) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/regenerate-diffs", "--check"], check=False, cwd=ROOT
        )
        assert done.returncode == 0
