"""Our rules are those of a second implementation, for random clusters with every feature mixed.

See ``README.md`` in this folder for what this proves and what it does not.
"""

from __future__ import annotations

import os
import re

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.conformance.rule_text import ChainName, ChainText, read_chains
from tests.oracle.compiling import random_input, restore_text
from tests.oracle.reference_proxy import reference_rules

CLUSTERS = int(os.environ.get("KPROXY_NAT_ORACLE_CLUSTERS", "60"))
FIRST_SEED = int(os.environ.get("KPROXY_NAT_ORACLE_FIRST_SEED", "0"))

EVERY_KIND_OF_RULE = {
    "cluster IP": r' cluster IP" .* -j KUBE-SVC-',
    "cluster IP under policy Local": r' cluster IP" .* -j KUBE-SVL-',
    "no endpoints": r'has no endpoints" .* -j REJECT',
    "no local endpoints": r'has no local endpoints" .* -j DROP',
    "node port without endpoints": r'endpoints" -m addrtype --dst-type LOCAL .* -j (REJECT|DROP)',
    "external IP": r' external IP" .* -j KUBE-EXT-',
    "load balancer": r' loadbalancer IP" .* -j KUBE-EXT-',
    "load balancer with firewall": r' loadbalancer IP" .* -j KUBE-FW-',
    "firewall's refusal": r"traffic not accepted by KUBE-FW-",
    "node behind the firewall": r' loadbalancer IP" -s 198\.51\.100\.\d+ -j KUBE-EXT-',
    "loopback node port": r"-d 127\.0\.0\.0/8 --dport \d+ -m nfacct",
    "health check": r"health check node port",
    "masquerade all": r' cluster IP" -m \S+ -p \S+ -d \S+ --dport \d+ -j KUBE-MARK-MASQ',
    "masquerade by network": r"! -s \S+ -j KUBE-MARK-MASQ",
    "masquerade by bridge": r"! -i cni0 -j KUBE-MARK-MASQ",
    "masquerade by prefix": r"! -i (veth|cali)\+ -j KUBE-MARK-MASQ",
    "short cut of pods": r"pod traffic for ",
    "short cut of the node": r"route LOCAL traffic for ",
    "affinity": r"--rcheck --seconds \d+ --reap -j KUBE-SEP-",
    "no comment in a large cluster": r"^-s \S+ -j KUBE-MARK-MASQ",
    "SCTP": r"-m sctp -p sctp -j DNAT",
    "node-port jump by address": r'this chain" -d \S+ -j KUBE-NODEPORTS',
    "node-port jump without loopback": r"--dst-type LOCAL ! -d 127\.0\.0\.0/8 -j KUBE-NODEPORTS",
    "liberal TCP aside, INVALID": r"--ctstate INVALID -j DROP",
}


def expected_chains(seed: int, family: IpFamily, *, nfacct: bool) -> dict[ChainName, ChainText]:
    given = random_input(seed)
    rules = reference_rules(
        given.objects,
        family=str(family),
        node_name="node1",
        config=given.config,
        local_addresses=given.addresses,
        nfacct=nfacct,
    )
    return {
        (table, name): ChainText("-", lines)
        for table, chains in rules.chains.items()
        for name, lines in chains.items()
    }


def compiled_chains(seed: int, family: IpFamily, *, nfacct: bool) -> dict[ChainName, ChainText]:
    return read_chains(restore_text(random_input(seed).view(family, nfacct=nfacct)))


def with_sorted_jumps(chains: dict[ChainName, ChainText]) -> dict[ChainName, ChainText]:
    """Return the chains with the jumps to single node-port addresses, which have no fixed order, sorted."""
    services = chains["nat", "KUBE-SERVICES"]
    count = sum("must be the last rule" in rule for rule in services.rules)
    keep = len(services.rules) - count
    sorted_rules = [*services.rules[:keep], *sorted(services.rules[keep:])]
    return chains | {("nat", "KUBE-SERVICES"): ChainText(services.policy, sorted_rules)}


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + CLUSTERS))
def test_same_rules(seed: int) -> None:
    for family in IpFamily:
        for nfacct in (True, False):
            ours = with_sorted_jumps(compiled_chains(seed, family, nfacct=nfacct))
            theirs = with_sorted_jumps(expected_chains(seed, family, nfacct=nfacct))
            for name in ours.keys() | theirs.keys():
                assert ours.get(name) == theirs.get(name), (seed, family, nfacct, name)
            # Both settle the order of Services alike, so even the order of declarations is the same.
            assert list(ours) == list(theirs)


def test_the_clusters_mix_every_feature() -> None:
    """A rule that no cluster has would be compared with nothing."""
    rules = [
        rule
        for seed in range(30)
        for family in IpFamily
        for chain in expected_chains(seed, family, nfacct=seed % 2 == 0).values()
        for rule in chain.rules
    ]
    text = "\n".join(rules)
    missing = [kind for kind, form in EVERY_KIND_OF_RULE.items() if not re.search(form, text, re.MULTILINE)]
    assert not missing


def test_a_changed_rule_is_noticed() -> None:
    """The comparison can fail: with nfacct on one side only, rules differ."""
    ours = compiled_chains(1, IpFamily.IPV4, nfacct=False)
    theirs = expected_chains(1, IpFamily.IPV4, nfacct=True)
    assert ours != theirs
    assert ours["nat", "KUBE-MARK-MASQ"] == theirs["nat", "KUBE-MARK-MASQ"]
