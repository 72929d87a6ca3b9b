"""The kernel takes what we compile and lists it back byte for byte, with iptables-nft and iptables-legacy.

The legacy variant lists the tables in the order in which they came into use, so tables are compared by name.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kproxy_nat.formats.iptables_render import render_restore, render_save
from kproxy_nat.lowering import iptables_compact
from kproxy_nat.lowering.iptables_common import NfacctCounter
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.iptables_kube_proxy import jumps_transaction
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.golden.gallery import TOPICS, compact_text, rule_text
from tests.kernel.netns import (
    VARIANTS,
    WAIT,
    KernelRefusedError,
    load_and_save,
    requires_kernel,
    run_in_fresh_namespace,
)
from tests.oracle.compiling import random_input, restore_text, save_text

pytestmark = [pytest.mark.kernel, requires_kernel]

RANDOM_CLUSTERS = 20

by_variant = pytest.mark.parametrize("variant", VARIANTS)
by_family = pytest.mark.parametrize("family", IpFamily)


def tables(text: str) -> dict[str, str]:
    """Return each table's text, by name."""
    return dict(re.findall(r"^\*(\w+)\n(.*?)^COMMIT\n", text, re.MULTILINE | re.DOTALL))


def counters_in(text: str) -> list[str]:
    """Return the accounting objects that a rule file needs."""
    return [counter for counter in NfacctCounter if counter in text]


def assert_listed(listed: str, expected: str, variant: str) -> None:
    if variant == "nft":
        assert listed == expected
    else:
        assert tables(listed) == tables(expected)


def load_transaction(jumps: str, transaction: str, variant: str, family: IpFamily, folder: Path) -> str:
    """Do as kube-proxy does: the jumps first, the transaction upon them, and that once more; list it."""
    (folder / "jumps").write_text(jumps)
    (folder / "transaction").write_text(transaction)
    tool = f"{'iptables' if family is IpFamily.IPV4 else 'ip6tables'}-{variant}"
    apply = f"{tool}-restore {WAIT} --noflush --counters < {folder}/transaction || exit"
    objects = [f"nfacct add {name} || exit" for name in counters_in(transaction)]
    script = [*objects, f"{tool}-restore {WAIT} < {folder}/jumps || exit", apply, apply, f"{tool}-save"]
    done = run_in_fresh_namespace("\n".join(script))
    assert done.returncode == 0, done.stderr
    return re.sub(r"(?m)^#.*\n", "", done.stdout)


@by_family
@by_variant
@pytest.mark.parametrize("topic", TOPICS)
def test_gallery(topic: str, variant: str, family: IpFamily) -> None:
    for text in (rule_text(topic, family), compact_text(topic, family)):
        assert_listed(load_and_save(text, variant, family), text, variant)


@by_family
@by_variant
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_recorded_scenarios(scenario: Scenario, variant: str, family: IpFamily, tmp_path: Path) -> None:
    saved = scenario.compiled("save", family, tmp_path)
    assert_listed(load_and_save(saved, variant, family, counters_in(saved)), saved, variant)
    jumps = render_restore(jumps_transaction(family))
    transaction = scenario.compiled("restore", family, tmp_path)
    assert_listed(load_transaction(jumps, transaction, variant, family, tmp_path), saved, variant)


@by_family
@by_variant
@pytest.mark.parametrize("seed", range(RANDOM_CLUSTERS))
def test_random_clusters(seed: int, variant: str, family: IpFamily, tmp_path: Path) -> None:
    view = random_input(seed).view(family, nfacct=seed % 2 == 0)
    saved = save_text(view)
    assert_listed(load_and_save(saved, variant, family, counters_in(saved)), saved, variant)
    jumps = render_restore(jumps_transaction(family))
    listed = load_transaction(jumps, restore_text(view), variant, family, tmp_path)
    assert_listed(listed, saved, variant)


@by_family
@by_variant
@pytest.mark.parametrize("seed", range(RANDOM_CLUSTERS))
def test_random_clusters_in_the_compact_layout(
    seed: int, variant: str, family: IpFamily, tmp_path: Path
) -> None:
    view = random_input(seed).view(family, nfacct=seed % 2 == 0)
    layout = Layout(LayoutName.COMPACT, Hairpin.ADDRESSES if seed % 4 == 0 else Hairpin.BPF)
    saved = render_save(layout.ruleset(view))
    assert_listed(load_and_save(saved, variant, family, counters_in(saved)), saved, variant)
    jumps = render_restore(iptables_compact.jumps_transaction(family))
    transaction = render_restore(layout.transaction(view))
    assert_listed(load_transaction(jumps, transaction, variant, family, tmp_path), saved, variant)


@by_variant
def test_a_rule_that_the_kernel_cannot_hold_is_refused(variant: str) -> None:
    """The tests above can fail."""
    text = rule_text("clusterip", IpFamily.IPV4).replace(
        "-j KUBE-SVC-67NZLRHBNDSAWJRO", "-j KUBE-SVC-NOT-THERE", 1
    )
    with pytest.raises(KernelRefusedError):
        load_and_save(text, variant)


@by_variant
def test_a_rule_in_another_spelling_is_noticed(variant: str) -> None:
    text = rule_text("clusterip", IpFamily.IPV4)
    other = text.replace("-d 10.96.12.34/32", "-d 10.96.12.34", 1)
    with pytest.raises(AssertionError):
        assert_listed(load_and_save(other, variant), other, variant)
