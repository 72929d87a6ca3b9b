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
from kproxy_nat.formats.nft_render import render_listing, render_script
from kproxy_nat.lowering.iptables_kube_proxy import lower_to_ruleset, lower_to_transaction
from kproxy_nat.lowering.nftables_kube_proxy import lower_to_nft_ruleset, lower_to_nft_transaction
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import IpFamily, parse_address, parse_cidr
from kproxy_nat.proxy.options import NodeOptions, Overrides, ProxyMode, resolve_options
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
    cluster: Cluster,
    *,
    local_addresses: Sequence[str] = (),
    nfacct: bool = False,
    node_name: str = "node1",
    mode: ProxyMode = ProxyMode.IPTABLES,
    service_cidrs: Sequence[str] = (),
) -> NodeOptions:
    """Return the options of ``node1`` with these interface addresses (a prefix length may follow)."""
    overrides = Overrides(
        node_name=node_name,
        local_addresses=[parse_address(text.partition("/")[0]) for text in local_addresses],
        nfacct=nfacct,
        mode=mode,
        service_cidrs=list(map(parse_cidr, service_cidrs)),
    )
    return resolve_options(cluster, overrides)


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


def nft_script_text(view: NodeView) -> str:
    """Return kube-proxy's transaction of nftables mode."""
    return render_script([lower_to_nft_transaction(view)])


def nft_listing_text(view: NodeView) -> str:
    """Return the table as nft lists it."""
    return render_listing(lower_to_nft_ruleset(view).tables.values())


@dataclass(frozen=True)
class RandomInput:
    """A random cluster: as objects, and as our loader reads them."""

    objects: list[Manifest]
    config: Manifest
    addresses: list[str]
    service_cidrs: list[str]
    cluster: Cluster

    def view(self, family: IpFamily, *, nfacct: bool = False) -> NodeView:
        """Return the view that ``node1`` has of it."""
        options = options_of(self.cluster, local_addresses=self.addresses, nfacct=nfacct)
        return build_view(self.cluster, options, family)

    def nft_view(self, family: IpFamily) -> NodeView:
        """Return the view that ``node1`` has of it in nftables mode."""
        options = options_of(
            self.cluster,
            local_addresses=self.addresses,
            mode=ProxyMode.NFTABLES,
            service_cidrs=self.service_cidrs,
        )
        return build_view(self.cluster, options, family)


def add_nftables_options(rng: random.Random, config: Manifest) -> list[str]:
    """Give a configuration options of nftables mode, and return the service CIDRs that are known."""
    section: Manifest = {}
    if rng.random() < 0.5:
        section["masqueradeBit"] = rng.randrange(32)
    if rng.random() < 0.5:
        section["masqueradeAll"] = rng.random() < 0.4
    if section:
        config["nftables"] = section
    known = ["10.96.0.0/12", "fd00:10:96::/112", "172.30.0.0/16", "10.0.0.0/24", "fd00:20::/64"]
    return rng.sample(known, rng.randrange(len(known)))


@functools.lru_cache(maxsize=32)
def random_input(seed: int, sizes: Sequence[int] = SIZES) -> RandomInput:
    """Return the random cluster of a seed; every fourth is read as JSON, the others as YAML."""
    rng = random.Random(seed)
    objects, config, addresses = random_cluster(rng, rng.choice(sizes))
    service_cidrs = add_nftables_options(rng, config)
    text = json_text([*objects, config]) if seed % 4 == 0 else yaml_text([*objects, config])
    return RandomInput(objects, config, [*addresses, *OWN_ADDRESSES], service_cidrs, load(text))
