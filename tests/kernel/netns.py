"""Commands in a network namespace of their own, which is gone when they end: the host's is never touched.

A test module that needs this says ``pytestmark = [pytest.mark.kernel, requires_kernel]``.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from kproxy_nat.apply.namespaces import Namespace, open_namespace
from kproxy_nat.net.addresses import IpFamily
from tests.patience import patient

VARIANTS = ("nft", "legacy")
_FIRST_SETTINGS = ("net.ipv4.ip_forward=0", "net.ipv4.conf.all.route_localnet=0")
TOOLS = (
    "unshare",
    "nfacct",
    "nft",
    "iptables-nft-restore",
    "iptables-legacy-restore",
    "ip6tables-nft-restore",
)
TIMEOUT = patient(120)
WAIT = "-w"
"""The legacy tools have one lock for all namespaces. Those of 1.8.11 do not wait for it unless told to."""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class KernelRefusedError(Exception):
    """The kernel (or its tool) did not take the rules; the message is the tool's own."""


def run_in_fresh_namespace(command: str | Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a shell script, or the words of one command, and return what came of it."""
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    return subprocess.run(
        ["unshare", "-n", *argv],
        input=stdin,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="surrogateescape",
        env=_ENVIRONMENT,
        timeout=TIMEOUT,
    )


def make_namespace(name: str) -> None:
    """Make a namespace with the settings that a kernel starts with: new ones have the host's present ones."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", *_FIRST_SETTINGS], check=True)


@contextmanager
def fresh_namespace(role: str) -> Iterator[Namespace]:
    """Make a namespace, open it, and delete it in the end; ``role`` tells it from others of this process."""
    name = f"kpn-{role}-{os.getpid()}"
    make_namespace(name)
    try:
        with open_namespace(name) as opened:
            yield opened
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def load_and_save(
    rules_text: str, variant: str, family: IpFamily = IpFamily.IPV4, nfacct: Sequence[str] = ()
) -> str:
    """Load an iptables-restore text, and return what iptables-save prints then, without its ``#`` lines.

    ``nfacct`` names the accounting objects that the rules need.

    Raises:
        KernelRefusedError: the rules were not loaded.
    """
    tool = f"{'iptables' if family is IpFamily.IPV4 else 'ip6tables'}-{variant}"
    objects = [f"nfacct add {shlex.quote(name)} || exit" for name in nfacct]
    done = run_in_fresh_namespace(
        "\n".join([*objects, f"{tool}-restore {WAIT} || exit", f"{tool}-save"]), rules_text
    )
    if done.returncode:
        raise KernelRefusedError(done.stderr)
    return re.sub(r"(?m)^#.*\n", "", done.stdout)


def load_and_list(*scripts: str, json: bool = False) -> str:
    """Load scripts with ``nft -f``, one after the other, and return what nft lists then, twice in a row.

    A listing of a set that the kernel enlarges at the same time may lack elements (nft_rhash_walk begins anew
    in another order, after as many elements as were listed before).

    Raises:
        KernelRefusedError: a script was not loaded.
    """
    # Here-documents keep text out of the arguments, whose length is limited.
    loads = [f"nft -f - <<'END OF SCRIPT' || exit\n{script}END OF SCRIPT\n" for script in scripts]
    listing = f"nft {'-j ' if json else ''}list ruleset"
    settle = f'while two=$({listing}) || exit; [ "$one" != "$two" ]; do one=$two; done\n'
    shown = 'printf "%s\\n" "$two"\n'
    done = run_in_fresh_namespace(["sh"], "".join(loads) + settle + shown)
    if done.returncode:
        raise KernelRefusedError(done.stderr)
    return done.stdout


@functools.cache
def missing() -> str:
    """Return what is missing here for tests in the kernel; nothing if they can run."""
    if os.geteuid() != 0:
        return "root is needed"
    tools = [tool for tool in TOOLS if not shutil.which(tool, path=_ENVIRONMENT["PATH"])]
    if tools:
        return f"not installed: {', '.join(tools)}"
    if run_in_fresh_namespace(["true"]).returncode:
        return "network namespaces cannot be made here"
    return ""


requires_kernel = pytest.mark.skipif(bool(missing()), reason=f"kernel tests: {missing()}")
