"""What the tests in a VM are started and summed up with. That they run there, they show themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VAGRANT = ROOT / "vagrant"

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.vm.test_host" name="test_packets[compact]"/>
<testcase classname="tests.kernel.test_a.TestSome" name="test_1"/>
<testcase classname="tests.kernel.test_a" name="test_2"><failure/></testcase>
<testcase classname="tests.kernel.test_a" name="test_3"><error/></testcase>
<testcase classname="tests.kernel.test_b" name="test_1"><skipped/></testcase>
<testcase classname="" name="tests.kernel.test_broken"><error/></testcase>
</testsuite></testsuites>"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )


def results(folder: Path, system: str, junit: str) -> Path:
    folder.mkdir()
    (folder / "junit-x.xml").write_text(junit, encoding="utf-8")
    (folder / "versions.tsv").write_text(f"system\t{system}\nkernel\t6.1\n", encoding="utf-8")
    return folder


def test_summary(tmp_path: Path) -> None:
    both = [
        results(tmp_path / "1", "Debian 12", JUNIT),
        results(tmp_path / "2", "Debian 13", "<testsuites/>"),
    ]
    done = run(sys.executable, VAGRANT / "guest" / "summary", *both)
    assert done.stdout.splitlines() == [
        "|  | Debian 12 | Debian 13 |",
        "| --- | --- | --- |",
        "| kernel | 6.1 | 6.1 |",
        "| tests/vm/test_host: test_packets[compact] | 1 passed |  |",
        "| tests/kernel/test_a | 1 passed, 2 failed |  |",
        "| tests/kernel/test_b | 1 skipped |  |",
        "| tests/kernel/test_broken | 1 failed |  |",
        "| **all** | 2 passed, 3 failed, 1 skipped |  |",
    ]


@pytest.mark.parametrize("suite", ["quick", "matrix"])
def test_tests_of_a_suite_are_there(suite: str) -> None:
    """A test that has another name now would be missed in the VM only."""
    listed = VAGRANT / "guest" / suite
    done = run(sys.executable, "-m", "pytest", "--collect-only", "-q", f"@{listed}")
    assert done.returncode == 0, done.stdout
    for line in listed.read_text(encoding="utf-8").partition("-k\n")[0].splitlines():
        assert re.search(rf"^{re.escape(line)}(?:\[|::|\n)", done.stdout, re.MULTILINE), line


def test_requirements_are_those_of_the_project() -> None:
    done = run(sys.executable, VAGRANT / "requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["dependencies"]) < set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "script",
    [
        "scripts/vm-test",
        "vagrant/box/build",
        *(
            f"vagrant/{name}"
            for name in ("host/isolated", "host/qemu", "host/vagrant", "guest/install", "guest/test")
        ),
    ],
)
def test_scripts_can_be_read_by_the_shell(script: str) -> None:
    assert run("sh", "-n", ROOT / script).returncode == 0


def test_an_option_that_is_not_there() -> None:
    done = run(ROOT / "scripts" / "vm-test", "--no-such-option")
    assert done.returncode == 2
    assert "--qemu" in done.stderr
