"""diff of two revisions of a large cluster that differ in one endpoint, beside plain ``diff`` of the dumps.

Wall and processor seconds of whole commands, interpreter start included, and peak memory; medians of several
runs. Where other programs compete for the processors, the processor seconds are what to judge by. Bars at
5,000 Services x 10 endpoints: from rule files, of iptables and nftables, in both layouts, structural at most
2 s, service at most 4 s; from JSON manifests at most 3 s. For information, without a bar: the level text, one
Service more, another mode, and a cluster in which every Service has changed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import clusters

Manifests = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        benchmark(Path(folder), options.services, options.endpoints, options.runs)


def benchmark(folder: Path, services: int, endpoints: int, runs: int) -> None:
    old = clusters.cluster(services, endpoints)
    write(folder, "old", old)
    write(folder, "one-endpoint", with_one_endpoint_moved(old))
    write(folder, "one-service", [*old, clusters.service(services), clusters.endpoint_slice(services, 2)])
    write(folder, "all-changed", [without_last_endpoint(item) for item in old])
    size = (folder / "old.rules").read_text().count("\n")
    print(f"{services} Services x {endpoints} endpoints, {size} lines, medians of {runs} runs")
    print(f"  {'':<48} {'wall s':>6} {'CPU s':>6} {'MB':>6}")
    report("plain diff of iptables-save", ["diff", "old.rules", "one-endpoint.rules"], folder, runs)
    report("plain diff of nft list ruleset", ["diff", "old.nft", "one-endpoint.nft"], folder, runs)
    for title, extension, arguments in (
        ("iptables rules, structural (bar 2 s)", "rules", ("--level", "structural")),
        ("iptables rules, service (bar 4 s)", "rules", ("--level", "service")),
        ("nftables rules, structural (bar 2 s)", "nft", ("--level", "structural")),
        ("nftables rules, service (bar 4 s)", "nft", ("--level", "service")),
        ("compact iptables rules, structural (bar 2 s)", "compact.rules", ("--level", "structural")),
        ("compact iptables rules, service (bar 4 s)", "compact.rules", ("--level", "service")),
        ("compact nftables rules, structural (bar 2 s)", "compact.nft", ("--level", "structural")),
        ("compact nftables rules, service (bar 4 s)", "compact.nft", ("--level", "service")),
        ("JSON manifests, service (bar 3 s)", "json", ()),
        ("JSON manifests, service, nftables (bar 3 s)", "json", ("--mode", "nftables")),
        ("iptables rules, text", "rules", ("--level", "text")),
        ("nftables rules, text", "nft", ("--level", "text")),
    ):
        report(title, command(f"old.{extension}", f"one-endpoint.{extension}", *arguments), folder, runs)
    report("iptables rules, a Service more", command("old.rules", "one-service.rules"), folder, runs)
    report("nftables rules, a Service more", command("old.nft", "one-service.nft"), folder, runs)
    report("JSON manifests, a Service more", command("old.json", "one-service.json"), folder, runs)
    report("iptables rules, every Service changed", command("old.rules", "all-changed.rules"), folder, 1)
    report("nftables rules, every Service changed", command("old.nft", "all-changed.nft"), folder, 1)
    report("rules of one mode against those of the other", command("old.rules", "old.nft"), folder, 1)
    report("JSON manifests, every Service changed", command("old.json", "all-changed.json"), folder, 1)


def with_one_endpoint_moved(items: Manifests) -> Manifests:
    changed = copy.deepcopy(items[-1])
    changed["endpoints"][-1]["addresses"] = ["10.250.0.99"]
    return [*items[:-1], changed]


def without_last_endpoint(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "endpoints": item["endpoints"][:-1]} if "endpoints" in item else item


def write(folder: Path, name: str, items: Manifests) -> None:
    """Write a revision as JSON, and as the rules that it compiles to."""
    manifests = folder / f"{name}.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    compiling = [sys.executable, "-m", "kproxy_nat", "-q", "compile", str(manifests)]
    for extension, mode in (("rules", "iptables"), ("nft", "nftables")):
        for layout, kind in (("kube-proxy", ""), ("compact", "compact.")):
            with (folder / f"{name}.{kind}{extension}").open("w") as output:
                options = ("--mode", mode, "--layout", layout)
                subprocess.run([*compiling, *options], check=True, stdout=output)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kproxy_nat", "-q", "diff", *arguments]


def report(title: str, arguments: list[str], folder: Path, runs: int) -> None:
    figures = [measured(arguments, folder) for _ in range(runs)]
    wall, processor, memory = (statistics.median(column) for column in zip(*figures, strict=True))
    print(f"  {title:<48} {wall:6.2f} {processor:6.2f} {memory:6.0f}", flush=True)


def measured(arguments: list[str], folder: Path) -> tuple[float, float, float]:
    """Return wall and processor seconds and peak megabytes of a command that has to find a difference."""
    start = time.perf_counter()
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 1, process.returncode
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
