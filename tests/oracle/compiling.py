"""Compiling objects that a test has in memory: by way of text, through every stage but the command line."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from kproxy_nat.controlplane.mirroring import mirror_endpoints
from kproxy_nat.errors import Severity
from kproxy_nat.formats.iptables_render import render_restore, render_save
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset, lower_to_transaction
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily, parse_address
from kproxy_nat.proxy.options import NodeOptions, Overrides, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view
from tests.oracle.random_clusters import random_cluster

Manifest = dict[str, Any]

CONFIG_HEADER = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
OWN_ADDRESSES = ("192.168.0.2", "fd00:192:168::2")
"""What the node of every random cluster has, besides the addresses that come with the cluster."""

SIZES = (3, 10, 40, 120)
"""How many Services a random cluster has."""


def yaml_text(objects: Iterable[Manifest]) -> str:
    """Return the objects as a stream of YAML documents."""
    return "\n---\n".join(yaml.dump(item, Dumper=yaml.CSafeDumper) for item in objects)


def json_text(objects: Iterable[Manifest]) -> str:
    """Return the objects as a List in JSON."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def load(*texts: str) -> Cluster:
    """Return the cluster of texts that have to be without errors."""
    loaded = load_texts([SourceText(f"text-{number}", text) for number, text in enumerate(texts, start=1)])
    errors = [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
    assert not errors, errors
    loaded.cluster.slices.extend(mirror_endpoints(loaded.cluster)[0])
    return loaded.cluster


def cluster_of(objects: Iterable[Manifest], config: Manifest | None = None) -> Cluster:
    """Return the cluster that holds ``objects``; ``config`` holds fields of a KubeProxyConfiguration."""
    return load(yaml_text([*objects, {**CONFIG_HEADER, **(config or {})}]))


def options_of(
    cluster: Cluster, *, local_addresses: Sequence[str] = (), nfacct: bool = False, node_name: str = "node1"
) -> NodeOptions:
    """Return the options of ``node1`` with these interface addresses (a prefix length may follow)."""
    addresses = [parse_address(text.partition("/")[0]) for text in local_addresses]
    return resolve_options(cluster, Overrides(node_name=node_name, local_addresses=addresses, nfacct=nfacct))


def view_of(
    objects: Iterable[Manifest], family: IpFamily = IpFamily.IPV4, config: Manifest | None = None
) -> NodeView:
    """Return the view that ``node1`` has of ``objects``."""
    cluster = cluster_of(objects, config)
    return build_view(cluster, options_of(cluster), family)


def restore_text(view: NodeView) -> str:
    """Return kube-proxy's transaction."""
    return render_restore(lower_to_transaction(view))


def save_text(view: NodeView) -> str:
    """Return the rules as the kernel lists them."""
    return render_save(lower_to_ruleset(view))


@dataclass(frozen=True)
class RandomInput:
    """A random cluster: as objects, and as our loader reads them."""

    objects: list[Manifest]
    config: Manifest
    addresses: list[str]
    cluster: Cluster

    def view(self, family: IpFamily, *, nfacct: bool = False) -> NodeView:
        """Return the view that ``node1`` has of it."""
        options = options_of(self.cluster, local_addresses=self.addresses, nfacct=nfacct)
        return build_view(self.cluster, options, family)


@functools.lru_cache(maxsize=32)
def random_input(seed: int, sizes: Sequence[int] = SIZES) -> RandomInput:
    """Return the random cluster of a seed; every fourth is read as JSON, the others as YAML."""
    rng = random.Random(seed)
    objects, config, addresses = random_cluster(rng, rng.choice(sizes))
    text = json_text([*objects, config]) if seed % 4 == 0 else yaml_text([*objects, config])
    return RandomInput(objects, config, [*addresses, *OWN_ADDRESSES], load(text))
