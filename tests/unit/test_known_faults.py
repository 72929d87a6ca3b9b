"""Which versions have which faults."""

from __future__ import annotations

import re

import pytest

from kproxy_nat.apply.known_faults import (
    IPTABLES_LEGACY,
    IPTABLES_NFT,
    KERNEL,
    KNOWN_FAULTS,
    NFT,
    VersionRange,
    known_faults,
)
from kproxy_nat.apply.tools import Version

DEBIAN_12 = {IPTABLES_NFT: (1, 8, 9), IPTABLES_LEGACY: (1, 8, 9), NFT: (1, 0, 6), KERNEL: (6, 1, 0)}


def ids(versions: dict[str, Version]) -> set[str]:
    return {fault.id for fault in known_faults(versions)}


def test_debian_12_has_the_faults_that_were_seen_there() -> None:
    assert ids(dict(DEBIAN_12)) == {
        "iptables-nft-restore-replace-crash",
        "iptables-nft-restore-rename",
        "iptables-nft-restore-zero",
        "nft-crashes-on-newer-sets",
        "nft-list-jhash-crash",
        "nft-json-table-flags",
    }


@pytest.mark.parametrize(
    ("fault", "tool", "last_bad", "first_good"),
    [
        ("iptables-no-random-fully", IPTABLES_LEGACY, (1, 6, 1), (1, 6, 2)),
        ("iptables-nft-check-fails", IPTABLES_NFT, (1, 8, 2), (1, 8, 3)),
        ("iptables-nft-loses-mark", IPTABLES_NFT, (1, 8, 7), (1, 8, 8)),
        ("nft-reads-whole-ruleset", NFT, (1, 0, 0), (1, 0, 1)),
        ("nft-crashes-on-newer-sets", NFT, (1, 0, 6), (1, 0, 6, 1)),
        ("nft-crashes-on-newer-sets", NFT, (1, 1, 1), (1, 1, 2)),
        ("nft-list-jhash-crash", NFT, (1, 0, 6), (1, 0, 6, 1)),
        ("kernel-too-old-for-nftables-mode", KERNEL, (5, 12, 19), (5, 13, 0)),
    ],
)
def test_a_fault_ends_with_the_version_that_repairs_it(
    fault: str, tool: str, last_bad: Version, first_good: Version
) -> None:
    assert fault in ids({tool: last_bad})
    assert fault not in ids({tool: first_good})


def test_a_tool_that_is_not_there_or_does_not_tell_its_version_has_no_faults() -> None:
    assert ids({}) == set()
    assert ids(dict.fromkeys((IPTABLES_NFT, IPTABLES_LEGACY, NFT, KERNEL), ())) == set()


def test_a_fault_is_that_of_one_tool() -> None:
    assert ids({IPTABLES_LEGACY: (1, 8, 9)}) == set()
    assert ids({"conntrack": (1, 0, 6)}) == set()


@pytest.mark.parametrize(
    ("affected", "text"),
    [
        (VersionRange(before=(5, 13)), "before 5.13"),
        (VersionRange((1, 8), (1, 8, 3)), "since 1.8, before 1.8.3"),
        (VersionRange.only((1, 8, 9)), "1.8.9"),
        (
            VersionRange(before=(1, 1, 2), without=frozenset({(1, 0, 6, 1)})),
            "before 1.1.2, except 1.0.6.1",
        ),
    ],
)
def test_a_range_is_written_as_people_do(affected: VersionRange, text: str) -> None:
    assert str(affected) == text


def test_one_version_is_a_range_of_itself() -> None:
    assert (1, 8, 9) in VersionRange.only((1, 8, 9))
    for other in ((1, 8, 8), (1, 8, 9, 1), (1, 8, 10)):
        assert other not in VersionRange.only((1, 8, 9))


def test_every_fault_says_where_it_was_seen() -> None:
    assert len({fault.id for fault in KNOWN_FAULTS}) == len(KNOWN_FAULTS)
    for fault in KNOWN_FAULTS:
        assert re.match(r"https://|seen with \d", fault.reference), fault.id
        assert fault.effect, fault.id
        assert fault.remedy, fault.id
