"""Our rules are those that a real kube-proxy wrote for the same input, chain by chain and in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.conformance.rule_text import chain_differences, comparable, differences, read_chains
from tests.conformance.scenarios import FORMS, SCENARIOS, Scenario, configuration


def test_all_recordings_are_here() -> None:
    assert len(SCENARIOS) == 34
    assert all(
        scenario.recorded(form, family) for scenario in SCENARIOS for form in FORMS for family in IpFamily
    )


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_rules_are_those_of_kube_proxy(
    scenario: Scenario, form: str, family: IpFamily, tmp_path: Path
) -> None:
    ours = scenario.compiled(form, family, tmp_path)
    theirs = scenario.recorded(form, family)
    assert not differences(ours, theirs)
    # The same chains in any case, canaries aside, also where one of them is empty.
    assert comparable(read_chains(ours)).keys() == comparable(read_chains(theirs)).keys()


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_fixed_chains_and_rules_stand_where_kube_proxy_puts_them(
    scenario: Scenario, family: IpFamily, tmp_path: Path
) -> None:
    """The parts of the transaction that belong to no Service, in their order within the text."""
    ours = scenario.compiled("restore", family, tmp_path).splitlines()
    theirs = scenario.recorded("restore", family).splitlines()
    assert fixed_lines(ours) == fixed_lines(theirs)


def fixed_lines(lines: list[str]) -> list[str]:
    """Return the lines that no Service adds; the node-port jumps have no fixed order among themselves."""
    hashed = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
    own = ("-A KUBE-SERVICES", "-A KUBE-NODEPORTS", "-A KUBE-EXTERNAL-SERVICES", "-A KUBE-PROXY-FIREWALL")
    return [
        line.partition(" -d ")[0] if "must be the last rule" in line else line
        for line in lines
        if "must be the last rule" in line
        or not (line.startswith(own) or any(name in line for name in hashed))
    ]


class TestTheComparisonItself:
    """It would prove nothing if it could not fail."""

    TEXT = (
        "*nat\n:KUBE-SERVICES - [0:0]\n:A - [0:0]\n"
        "-A KUBE-SERVICES -j A\n-A KUBE-SERVICES -j B\n-A A -j X\n-A A -j Y\nCOMMIT\n"
    )

    def test_order_counts_in_a_services_chain(self) -> None:
        swapped = self.TEXT.replace("-A A -j X\n-A A -j Y", "-A A -j Y\n-A A -j X")
        assert len(differences(self.TEXT, swapped)) == 1

    def test_order_does_not_count_in_a_dispatch_chain(self) -> None:
        swapped = self.TEXT.replace(
            "SERVICES -j A\n-A KUBE-SERVICES -j B", "SERVICES -j B\n-A KUBE-SERVICES -j A"
        )
        assert not differences(self.TEXT, swapped)

    def test_number_counts_in_a_dispatch_chain(self) -> None:
        doubled = self.TEXT.replace("-A KUBE-SERVICES -j B\n", "-A KUBE-SERVICES -j B\n" * 2)
        assert len(differences(self.TEXT, doubled)) == 1

    def test_a_missing_empty_chain_counts(self) -> None:
        chains = read_chains(self.TEXT)
        fewer = read_chains(self.TEXT.replace(":A - [0:0]\n", "").replace("-A A -j X\n-A A -j Y\n", ""))
        assert chain_differences(chains, fewer)

    def test_a_node_port_jump_must_stand_last(self) -> None:
        jump = '-A KUBE-SERVICES -m comment --comment "NOTE: this must be the last rule in this chain" -j N\n'
        early = self.TEXT.replace("-A KUBE-SERVICES -j A", f"{jump}-A KUBE-SERVICES -j A")
        with pytest.raises(AssertionError, match="stand last"):
            differences(early, early)

    def test_a_dotted_field_leads_into_a_group(self) -> None:
        assert configuration({"iptables.masqueradeBit": 10})["iptables"] == {"masqueradeBit": 10}
