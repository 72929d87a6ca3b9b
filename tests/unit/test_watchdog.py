"""What a watchdog is told."""

from __future__ import annotations

import io
import subprocess
import time
from types import SimpleNamespace
from typing import cast

import pytest

from kproxy_nat.apply.watchdog import Watchdog


def test_a_deadline_does_not_depend_on_what_time_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are set, also by hours; the monotonic one is not."""
    told = io.BytesIO()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    Watchdog(cast("subprocess.Popen[bytes]", SimpleNamespace(stdin=told))).until_confirmed(60)
    word, deadline = told.getvalue().split()
    assert word == b"confirm"
    assert float(deadline) - time.monotonic() == pytest.approx(60, abs=30)
