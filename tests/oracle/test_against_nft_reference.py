"""Our nftables rules are those of a second implementation, for random clusters with every feature mixed."""

from __future__ import annotations

import re

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.conformance.nft_text import nft_differences, read_transaction
from tests.oracle.compiling import nft_script_text, random_input
from tests.oracle.reference_nft import reference_nft_script
from tests.oracle.test_against_reference import CLUSTERS, FIRST_SEED

EVERY_KIND_OF_RULE = {
    "cluster IP": r"element ip6? kube-proxy service-ips \{ .* : goto service-",
    "cluster IP under policy Local": r"service-ips \{ .* : goto local-",
    "external traffic": r"service-ips \{ .* : goto external-",
    "no endpoints": r"no-endpoint-services \{ .* : goto reject-chain",
    "no local endpoints": r"no-endpoint-services \{ .* : drop",
    "node port": r"service-nodeports \{ .* : goto external-",
    "node port without endpoints": r"no-endpoint-nodeports \{ .* : goto reject-chain",
    "node port without local endpoints": r"no-endpoint-nodeports \{ .* : drop",
    "firewall": r"firewall-ips \{ .* : goto firewall-",
    "node behind the firewall": r"saddr != \{ .* , 198\.51\.100\.\d+ \} drop",
    "hairpin": r"hairpin-connections \{ \S+ \. \S+ \. (tcp|udp|sctp) \. \d+ \}",
    "masquerade all": r"masquerade all clusterIP traffic",
    "masquerade by network": r"cluster-ips ip6? saddr != \S+ mark set",
    "masquerade by bridge": r"cluster-ips iifname != cni0 mark set",
    "masquerade by prefix": r"cluster-ips iifname != (veth|cali)\* mark set",
    "short cut of pods": r"short-circuit pod traffic",
    "short cut of the node": r"short-circuit local traffic",
    "affinity set": r"add set ip6? kube-proxy affinity-\S+ \{ type ipv\d_addr ; flags dynamic,timeout",
    "affinity": r"saddr @affinity-\S+ goto endpoint-",
    "draw among chains": r"numgen random mod \d+ vmap",
    "draw among destinations": r"dnat ip6? addr \. port to numgen random mod \d+ map",
    "all addresses take node ports": r"fib daddr type local ip daddr != 127\.0\.0\.0/8",
    "node-port addresses": r"add element ip6? kube-proxy nodeport-ips",
    "unallocated cluster IPs": r"Drop traffic to unallocated ClusterIPs",
}


def expected(seed: int, family: IpFamily) -> str:
    given = random_input(seed)
    return reference_nft_script(
        given.objects,
        family=str(family),
        node_name="node1",
        config=given.config,
        local_addresses=given.addresses,
        service_cidrs=given.service_cidrs,
    )


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + CLUSTERS))
def test_same_rules(seed: int, family: IpFamily) -> None:
    ours = nft_script_text(random_input(seed).nft_view(family))
    theirs = expected(seed, family)
    assert not nft_differences(read_transaction(ours), read_transaction(theirs))
    # Both settle the order of Services alike, so even the order of commands is the same.
    assert ours == theirs


def test_the_clusters_mix_every_feature() -> None:
    """A rule that no cluster has would be compared with nothing."""
    text = "".join(expected(seed, family) for seed in range(30) for family in IpFamily)
    assert not [kind for kind, form in EVERY_KIND_OF_RULE.items() if not re.search(form, text)]
