"""The stages of compiling, from JSON in memory to restore text: CPU seconds and peak memory of each.

Each size runs several times in processes of their own; medians are printed. Bars: 10,000 Services x 10
endpoints (430,000 lines) in at most 1.5 s and 400 MB; cost grows linearly (the last column: microseconds a
line). Beside it what ``json.loads`` takes for the same input in the same process, as a yardstick.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time

import clusters

from kproxy_nat.formats.iptables_render import render_restore
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_transaction
from kproxy_nat.manifests.documents import split_text
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.net.addresses import IpFamily, parse_cidr
from kproxy_nat.proxy.options import Overrides, resolve_options
from kproxy_nat.proxy.view import build_view

STAGES = ("read", "model", "view", "lower", "render")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[1_000, 10_000, 30_000])
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.endpoints)))
        return
    columns = ("services", "lines", *STAGES, "total s", "json.loads", "input MB", "peak MB", "us/line")
    print("  ".join(f"{column:>9}" for column in columns))
    for services in arguments.services:
        print_row(services, arguments.endpoints, arguments.runs)


def print_row(services: int, endpoints: int, runs: int) -> None:
    command = [sys.executable, __file__, "--one", str(services), "--endpoints", str(endpoints)]
    results = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(runs)
    ]
    median = {key: statistics.median(result[key] for result in results) for key in results[0]}
    cells = [f"{services}x{endpoints}", f"{median['lines']:.0f}"]
    cells += [f"{median[stage]:.3f}" for stage in (*STAGES, "total", "yardstick")]
    cells += [
        f"{median['input_mb']:.0f}",
        f"{median['peak_mb']:.0f}",
        f"{median['total'] / median['lines'] * 1e6:.2f}",
    ]
    print("  ".join(f"{cell:>9}" for cell in cells))


def measure(services: int, endpoints: int) -> dict[str, float]:
    """Compile once, in this process; the input's own memory is part of the peak."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": clusters.cluster(services, endpoints)})
    gc.collect()
    gc.disable()
    source = SourceText("memory", text)
    clock = [time.process_time()]

    def lap() -> None:
        clock.append(time.process_time())

    for _ in split_text(source):
        pass
    lap()
    loaded = load_texts([source])
    lap()
    overrides = Overrides(cluster_cidrs=[parse_cidr("10.128.0.0/9")])
    view = build_view(loaded.cluster, resolve_options(loaded.cluster, overrides), IpFamily.IPV4)
    lap()
    transaction = lower_to_transaction(view)
    lap()
    rules = render_restore(transaction)
    lap()
    spent = [after - before for before, after in itertools.pairwise(clock)]
    # Loading splits the text once more, so reading is in both of the first two laps.
    spent[1] -= spent[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **dict(zip(STAGES, spent, strict=True)),
        "total": sum(spent),
        "yardstick": yardstick(text),
        "lines": rules.count("\n"),
        "input_mb": len(text) / 1e6,
        "peak_mb": peak / 1024,
    }


def yardstick(text: str) -> float:
    """Return what the standard library takes to read the same input: machines differ, from hour to hour."""
    start = time.process_time()
    json.loads(text)
    return time.process_time() - start


if __name__ == "__main__":
    main()
