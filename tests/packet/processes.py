"""Servers of others, run in a lab's namespaces."""

from __future__ import annotations

import socket
import subprocess
import time

from kproxy_nat.apply.namespaces import Namespace

PATIENCE = 60.0
"""Seconds after which a server that does not listen never will."""


def wait_for_port(namespace: Namespace, process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a process that was started accepts connections."""
    deadline = time.monotonic() + PATIENCE
    while not namespace.run(_accepts, port):
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.05)


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
