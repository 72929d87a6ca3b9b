"""What a control plane adds: Deployments and their Services, as typed, to addresses, Pods and EndpointSlices.

Bar: 2,000 Deployments of 10 with their Services (20,000 Pods) in at most 2 s of CPU time, from objects that
are read already. Each run has a process of its own; medians are printed. Beside it what ``json.dumps`` and
``json.loads`` take for the derived slices in the same process, as a yardstick.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import msgspec

from kproxy_nat.controlplane.completion import ControlPlaneOptions, complete_cluster, needs_pods
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText

COLUMNS = ("read", "derive", "yardstick", "pods", "slices", "peak_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[500, 2_000, 4_000])
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.replicas)))
        return
    print("  ".join(f"{column:>10}" for column in ("services", *COLUMNS)))
    for services in arguments.services:
        command = [sys.executable, __file__, "--one", str(services), "--replicas", str(arguments.replicas)]
        results = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(arguments.runs)
        ]
        median = {key: statistics.median(result[key] for result in results) for key in COLUMNS}
        cells = [f"{services}x{arguments.replicas}"]
        cells += [f"{median[key]:.3f}" for key in COLUMNS[:3]] + [f"{median[key]:.0f}" for key in COLUMNS[3:]]
        print("  ".join(f"{cell:>10}" for cell in cells))


def typed_objects(services: int, replicas: int) -> list[dict[str, Any]]:
    """Return Deployments and Services in namespaces of 100, without any address."""
    objects: list[dict[str, Any]] = []
    for number in range(services):
        meta = {"name": f"app-{number}", "namespace": f"team-{number // 100}"}
        labels = {"app": meta["name"]}
        container = {"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        deployed = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        served = {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]}
        objects += (
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployed},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": served,
            },
        )
    return objects


def measure(services: int, replicas: int) -> dict[str, float]:
    """Read and derive once, in this process."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": typed_objects(services, replicas)})
    gc.collect()
    gc.disable()
    start = time.process_time()
    loaded = load_texts([SourceText("memory", text)], needs_workloads=needs_pods)
    read = time.process_time()
    derivation = complete_cluster(loaded.cluster, ControlPlaneOptions())
    end = time.process_time()
    assert not derivation.problems, derivation.problems[:3]
    endpoints = sum(len(source.value.endpoints or ()) for source in loaded.cluster.slices)
    assert endpoints == services * replicas
    return {
        "read": read - start,
        "derive": end - read,
        "yardstick": yardstick([source.value for source in loaded.cluster.slices]),
        "pods": len(loaded.cluster.pods),
        "slices": len(loaded.cluster.slices),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def yardstick(slices: list[Any]) -> float:
    """Return what the standard library takes to write the derived slices and to read them back."""
    plain = msgspec.to_builtins(slices)
    start = time.process_time()
    json.loads(json.dumps(plain))
    return time.process_time() - start


if __name__ == "__main__":
    main()
