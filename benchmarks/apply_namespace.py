"""Applying to a network namespace, legacy iptables: against a plain ``iptables-restore`` of a ready file.

Needs root and ``ip``. Each figure is a median of several rounds, each in namespaces of its own, of all of:

- the limit: ``iptables-legacy-restore`` of kube-proxy's own transaction, and of the file that compile writes
- apply of everything over nothing; a change of one endpoint; the same again, which changes nothing

Bars at 10,000 Services x 10 endpoints: everything at most 3 s above the limit, for either file; a change of
one endpoint hands the kernel at most 10 KB more than kube-proxy's partial sync would for that Service, and
costs at most 4 s of the command's own CPU time. json.loads of the same input is the yardstick for the
machine's speed. On a machine that others use, compare CPU seconds: those of an apply and its tools are more
than it takes on a quiet one, where some of them pass at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import clusters
import msgspec

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.plan import Plan, parse_plan
from kproxy_nat.apply.restore_text import restore_text

NAMESPACE = f"kpn-bench-{os.getpid()}"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Modules are compiled once, as after an installation, also where whoever measures has switched that off."""
COMMAND = """
import resource, sys
from kproxy_nat.cli.main import main
try:
    main(sys.argv[1:])
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    tools = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, tools.ru_utime + tools.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        benchmark(Path(folder), options.services, options.endpoints, options.runs)


def benchmark(folder: Path, services: int, endpoints: int, runs: int) -> None:
    before, after = write_manifests(folder, services, endpoints)
    restore, save = compiled(before, "restore"), compiled(before, "save")
    print(f"{services} Services x {endpoints} endpoints, {save.count(chr(10))} lines, medians of {runs} runs")
    limits = {"kube-proxy's transaction": restore, "the file that compile writes": save}
    rounds = [measured(folder / f"state{run}", before, after, limits) for run in range(runs)]
    for title in rounds[0]:
        print(f"  {title:<62} {statistics.median(figures[title] for figures in rounds):8.2f}")
    handed(folder, before, after, restore)


def measured(state: Path, before: Path, after: Path, limits: dict[str, str]) -> dict[str, float]:
    """Return the figures of one round."""
    figures = {"yardstick: json.loads, CPU seconds": yardstick(before.read_text())}
    for title, rules in limits.items():
        figures[f"limit: {title}: seconds"], figures[f"limit: {title}: CPU seconds"] = loaded(rules)
    figures |= applied(state, before, after)
    for title in limits:
        above = figures["apply everything: seconds"] - figures[f"limit: {title}: seconds"]
        figures[f"apply everything: seconds above {title}"] = above
    return figures


def write_manifests(folder: Path, services: int, endpoints: int) -> tuple[Path, Path]:
    """Write the cluster, and the same with one endpoint moved."""
    items = clusters.cluster(services, endpoints)
    before, after = folder / "before.json", folder / "after.json"
    before.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    items[-1]["endpoints"][-1]["addresses"] = ["10.250.0.99"]
    after.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return before, after


def compiled(manifests: Path, form: str) -> str:
    command = [sys.executable, "-m", "kproxy_nat", "-q", "compile", str(manifests), "--form", form]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def yardstick(text: str) -> float:
    start = time.process_time()
    json.loads(text)
    return time.process_time() - start


def loaded(rules: str) -> tuple[float, float]:
    """Return wall and CPU seconds that the tool takes for a ready file."""
    command = ["ip", "netns", "exec", NAMESPACE, "iptables-legacy-restore", "--noflush"]
    with namespace(), tempfile.TemporaryFile() as file:
        file.write(rules.encode())
        file.seek(0)
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, stdin=file, check=True)
        wall, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def applied(state: Path, before: Path, after: Path) -> dict[str, float]:
    """Return the figures of applies, one after the other in one namespace."""
    figures: dict[str, float] = {}
    with namespace():
        for title, manifests in (("everything", before), ("one endpoint", after), ("nothing", after)):
            wall, own, tools, memory = run("apply", str(manifests), "--state-dir", str(state))
            figures[f"apply {title}: seconds"] = wall
            figures[f"apply {title}: own CPU seconds"] = own
            figures[f"apply {title}: the tools' CPU seconds"] = tools
            figures[f"apply {title}: own peak memory, MB"] = memory
    return figures


def run(*arguments: str) -> tuple[float, float, float, float]:
    """Run the command; return wall seconds, its own CPU seconds, its tools', and peak memory in MB."""
    command = [sys.executable, "-c", COMMAND, "-q", *arguments, "--netns", NAMESPACE, "--iptables", "legacy"]
    start = time.perf_counter()
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - start
    own, tools, kilobytes = done.stderr.splitlines()[-1].split()
    return wall, float(own), float(tools), int(kilobytes) / 1024


def handed(folder: Path, before: Path, after: Path, restore: str) -> None:
    """Print how much text a change of one endpoint hands to the kernel, and how much kube-proxy's would."""
    state = folder / "state"
    with namespace():
        run("apply", str(before), "--state-dir", str(state))
        run("plan", str(after), "--state-dir", str(state), "--out", str(folder / "plan"))
    plan = parse_plan((folder / "plan").read_bytes(), "plan")
    ours = sum(len(restore_text(change).encode()) for change in plan.changes.values())
    theirs = partial_sync(restore, plan)
    print(f"  bytes handed for one endpoint: {ours}; by kube-proxy's partial sync: {theirs}")
    print(f"  plan: {len(msgspec.json.encode(plan))} bytes")


def partial_sync(restore: str, plan: Plan) -> int:
    """Return the size of kube-proxy's partial sync: shared chains, and those of the Service that changed."""
    changed = {chain.name for table in plan.changes[Backend.IPTABLES].tables for chain in table.chains}
    service = {
        line.split(" -j ")[1]
        for line in restore.splitlines()
        if is_in(line, changed) and " -j KUBE-SEP" in line
    }
    wanted = changed | service
    lines = (line for line in restore.splitlines(keepends=True) if is_shared(line) or is_in(line, wanted))
    return sum(len(line) for line in lines)


def is_shared(line: str) -> bool:
    return not line.startswith(("-A KUBE-SVC-", "-A KUBE-SEP-", ":KUBE-SVC-", ":KUBE-SEP-"))


def is_in(line: str, chains: set[str]) -> bool:
    return (
        line.startswith((":", "-A "))
        and line.removeprefix("-A ").removeprefix(":").split(" ", 1)[0] in chains
    )


if __name__ == "__main__":
    main()
