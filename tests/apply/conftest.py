"""Namespaces and state directories, one for each test, and gone after it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.cli.main import main
from tests.apply.bench import GALLERY, Bench, Main, Result, host_dump
from tests.kernel.netns import VARIANTS, make_namespace

_NUMBERS = itertools.count()
_OTHER_ENDPOINTS = (("10.180.2.5", "10.180.2.6"), ("fd00:10:180:1::34", "fd00:10:180:1::35"))


@pytest.fixture(autouse=True, scope="module")
def _host_untouched() -> Iterator[None]:
    """Whatever a test does, the host's own rules stay as they are."""
    before = host_dump()
    yield
    assert host_dump() == before


@pytest.fixture(autouse=True, scope="session")
def _signals_are_heard() -> Iterator[None]:
    """Commands that tests start hear the signals that whoever started the tests may ignore (nohup, &)."""
    ignored = [n for n in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        interrupts = number is signal.SIGINT  # Tests interrupt themselves, too.
        signal.signal(number, signal.default_int_handler if interrupts else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def kproxy_nat(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Main:
    """Run the command line in this process."""
    monkeypatch.delenv("KPROXY_NAT_STATE_DIR", raising=False)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["kproxy-nat", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        out, err = capfd.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, out, err)

    return call


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(variant: str, tmp_path: Path, kproxy_nat: Main, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Make a namespace, and delete it in the end, if it is still there.

    The lock of the legacy tools is one for all namespaces: here it is another than the host's.
    """
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    name = f"kpn-{os.getpid()}-{next(_NUMBERS)}"
    make_namespace(name)
    try:
        yield Bench(name, variant, tmp_path / "state", kproxy_nat)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def first() -> Path:
    """Return manifests of both families with a node port."""
    return GALLERY / "dual-stack"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Return another revision of them: one endpoint of each family has another address."""
    text = (GALLERY / "dual-stack" / "manifests.yaml").read_text(encoding="utf-8")
    for old, new in _OTHER_ENDPOINTS:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "second.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def third() -> Path:
    """Return manifests of other Services, without node ports."""
    return GALLERY / "dns-udp-tcp"
