"""Our nftables rules are those that a real kube-proxy wrote: chains in order, sets and maps as sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.nft_text import nft_differences, read_listing, read_transaction
from tests.conformance.scenarios import FORMS, SCENARIOS, Scenario

READERS = {"restore": read_transaction, "save": read_listing}
by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.mark.parametrize("form", FORMS)
@by_scenario
def test_rules_are_those_of_kube_proxy(scenario: Scenario, form: str, tmp_path: Path) -> None:
    ours = READERS[form](scenario.compiled_nft(form, tmp_path))
    theirs = READERS[form](scenario.recorded_nft(form))
    assert not nft_differences(ours, theirs)


@pytest.mark.parametrize("form", FORMS)
def test_recordings_are_taken_apart_whole(form: str) -> None:
    """What the comparison does not see it cannot compare."""
    text = SCENARIOS[0].recorded_nft(form)
    read = READERS[form](text)
    if form == "restore":
        pieces = [
            piece
            for item in read.objects.values()
            for piece in (*item.declaration, *item.rules, *item.elements)
        ]
        assert len(pieces) == len(text.splitlines())
    else:
        lines = sum(len(item.rules) + bool(item.elements) for item in read.objects.values())
        braces = 2 * len(read.objects) + 2 * 2
        blank = text.count("\n\n")
        assert lines + braces + blank + 2 == len(text.splitlines())


class TestTheComparisonItself:
    """It would prove nothing if it could not fail."""

    TRANSACTION = SCENARIOS[0].recorded_nft("restore")
    LISTING = SCENARIOS[0].recorded_nft("save")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("ct state new jump firewall-check", "jump firewall-check"),
            ("10.96.0.20 . tcp . 80", "10.96.0.20 . tcp . 81"),
            ("priority -110", "priority -111"),
            ("mod 2", "mod 3"),
            ("ipv4_addr", "ipv6_addr"),
        ],
    )
    def test_a_changed_transaction_is_noticed(self, old: str, new: str) -> None:
        changed = self.TRANSACTION.replace(old, new, 1)
        assert changed != self.TRANSACTION
        assert nft_differences(read_transaction(changed), read_transaction(self.TRANSACTION))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("policy accept", "policy drop"),
            ("dstnat - 10", "dstnat - 9"),
            ("reject comment", "drop comment"),
            ("10.96.0.20 . tcp", "10.96.0.21 . tcp"),
            ('comment "rules for kube-proxy"', 'comment "rules"'),
        ],
    )
    def test_a_changed_listing_is_noticed(self, old: str, new: str) -> None:
        changed = self.LISTING.replace(old, new, 1)
        assert changed != self.LISTING
        assert nft_differences(read_listing(changed), read_listing(self.LISTING))
