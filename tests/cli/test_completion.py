"""Shell completion, as the scripts that are given to shells ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kproxy_nat.apply import namespaces

SHELLS = ("bash", "zsh", "fish")


def ask(instruction: str, *words: str, at: int = 0) -> str:
    """Return what a shell is answered."""
    asked = {"_KPROXY_NAT_COMPLETE": instruction, "COMP_WORDS": " ".join(words), "COMP_CWORD": str(at)}
    command = [sys.executable, "-m", "kproxy_nat"]
    done = subprocess.run(
        command, env={**os.environ, **asked}, capture_output=True, check=True, encoding="utf-8"
    )
    assert done.stderr == ""
    return done.stdout


def completed(*words: str) -> list[str]:
    """Return what bash would offer for the last word, each with its kind."""
    return ask("bash_complete", "kproxy-nat", *words, at=len(words)).split()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script(shell: str) -> None:
    text = ask(f"{shell}_source")
    assert f"_KPROXY_NAT_COMPLETE={shell}_complete" in text
    assert "kproxy-nat" in text


def test_commands() -> None:
    assert completed("ro") == ["plain,rollback"]


def test_options() -> None:
    assert set(completed("apply", "--conf")) == {"plain,--config", "plain,--confirm"}


def test_choices() -> None:
    assert completed("apply", "--mode", "n") == ["plain,nftables"]


@pytest.mark.parametrize("command", ["compile", "apply", "plan", "stats", "services", "diff", "import"])
def test_sources_are_files(command: str) -> None:
    assert completed(command, "k8s/w") == ["file,k8s/w"]


def test_after_a_command_that_does_not_exist() -> None:
    assert "plain,--version" in completed("aply", "--")


def test_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kproxy_nat.cli.main import COMMANDS, cli

    for name in ("demo", "dell", "other"):
        (tmp_path / name).touch()
    monkeypatch.setattr(namespaces, "NAMED", tmp_path)
    root = cli.make_context("kproxy-nat", [], resilient_parsing=True)
    offered = {}
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        option = next((p for p in command.params if "--netns" in p.opts), None)
        if option is not None:
            offered[name] = [item.value for item in option.shell_complete(root, "de")]
    assert offered.keys() == {"plan", "apply", "confirm", "status", "delete", "rollback", "doctor"}
    assert set(map(tuple, offered.values())) == {("dell", "demo")}
