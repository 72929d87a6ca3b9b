"""A namespace to apply rules to, and the command line in it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Engine
from kproxy_nat.net.addresses import IpFamily
from tests.apply.tables import merged, normal, render
from tests.kernel.netns import WAIT
from tests.patience import patient

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "rules"
PATIENCE = patient(60)
"""Seconds after which what should have happened has not."""
TOOLS = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}
ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
NOTHING = dict.fromkeys(IpFamily, "")

Dumps = dict[IpFamily, str]


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


Main = Callable[..., Result]


@dataclass(frozen=True)
class Bench:
    """A namespace of one variant of iptables.

    Attributes:
        main: runs the command line in this process.
    """

    name: str
    variant: str
    state_dir: Path
    main: Main

    @property
    def options(self) -> list[str]:
        """Return the options that all commands need."""
        return ["--netns", self.name, "--state-dir", str(self.state_dir), "--iptables", self.variant]

    @property
    def folder(self) -> Path:
        return self.state_dir / f"netns-{self.name}"

    def run(self, command: str, *arguments: str | Path) -> Result:
        return self.main(command, *map(str, arguments), *self.options)

    def done(self, command: str, *arguments: str | Path) -> Result:
        """Run a command that has to succeed."""
        result = self.run(command, *arguments)
        assert result.status == 0, result
        return result

    def command(self, command: str, *arguments: str | Path) -> list[str]:
        """Return the words of a command for a process of its own."""
        return [sys.executable, "-m", "kproxy_nat", command, *map(str, arguments), *self.options]

    def inside(self, *command: str, stdin: str = "") -> str:
        """Run a command in the namespace that has to succeed; return what it prints."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            input=stdin,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def iptables(self, rule: str, family: IpFamily = IpFamily.IPV4) -> None:
        self.inside(f"{TOOLS[family]}-{self.variant}", WAIT, *rule.split())

    def load(self, text: str, family: IpFamily = IpFamily.IPV4, *options: str) -> None:
        self.inside(f"{TOOLS[family]}-{self.variant}-restore", WAIT, *options, stdin=text)

    def counted(self, family: IpFamily) -> str:
        """Return the rules with counters."""
        return normal(self.inside(f"{TOOLS[family]}-{self.variant}-save", "--counters"))

    def dump(self) -> Dumps:
        """Return all rules of both families."""
        return {f: normal(self.inside(f"{TOOLS[f]}-{self.variant}-save")) for f in IpFamily}

    def sysctl(self, name: str = ROUTE_LOCALNET) -> str:
        return self.inside("sysctl", "-n", name).strip()

    def set_sysctl(self, name: str, value: str) -> None:
        self.inside("sysctl", "-qw", f"{name}={value}")

    def nfacct(self) -> set[str]:
        return {line.rpartition("= ")[2].rstrip(";") for line in self.inside("nfacct", "list").splitlines()}

    def unfinished(self) -> list[str]:
        return [path.name for path in self.folder.glob("*.unfinished")]

    def finished(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*") if path.name.isdecimal())


def environment() -> dict[str, str]:
    """Return the environment of a command in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@functools.cache
def compiled(source: Path, *options: str) -> Mapping[IpFamily, str]:
    """Return what ``kproxy-nat compile`` makes of a source, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kproxy_nat", "compile", str(source), "-o", f"{folder}/", *options]
        subprocess.run(command, check=True, env=environment(), capture_output=True)
        return {f: (Path(folder) / f"{TOOLS[f]}.rules").read_text(encoding="utf-8") for f in IpFamily}


def expected(source: Path, foreign: Mapping[IpFamily, str] = NOTHING, *options: str) -> Dumps:
    """Return the dumps after a first apply over foreign rules."""
    rules = compiled(source, *(options or ("--nfacct",)))
    return {family: render(merged(foreign[family], rules[family])) for family in IpFamily}


def load(engine: Engine, change: FamilyChange) -> None:
    """Let an engine carry out a change."""
    with engine.exclusive():
        engine.prepare(change).commit()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def host_dump() -> Sequence[str]:
    """Return the rules of the caller's own namespace."""
    tools = [f"{tool}-{variant}-save" for tool in TOOLS.values() for variant in ("nft", "legacy")]
    return [
        normal(subprocess.run([tool], check=True, capture_output=True, text=True).stdout) for tool in tools
    ]


def put_before(tool: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script be found in place of a tool, which it reaches as ``$REAL``.

    It is not asked where the tool is only asked for its version, or for a rehearsal.
    """
    real = shutil.which(tool)
    assert real is not None
    asked = 'case " $* " in *" --version "*|*" --test "*) exec "$REAL" "$@";; esac'
    path = folder / tool
    folder.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nREAL={real}\n{asked}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    if str(folder) not in os.environ["PATH"].split(os.pathsep):
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
