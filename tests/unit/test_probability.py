"""Probabilities: the text that kube-proxy writes, the threshold that the kernel keeps, and what it lists."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy_nat.formats.iptables_words import RESTORE_WRITERS
from kproxy_nat.ruleset.matches import Random
from kproxy_nat.ruleset.probability import (
    SCALE,
    decimal_text,
    intended_share,
    share_text,
    threshold_of_share,
    threshold_of_text,
)


@pytest.mark.parametrize(
    "count, written, listed",
    [
        (1, "1.0000000000", "1.00000000000"),
        (2, "0.5000000000", "0.50000000000"),
        (3, "0.3333333333", "0.33333333349"),
        (4, "0.2500000000", "0.25000000000"),
        (5, "0.2000000000", "0.20000000019"),
        (6, "0.1666666667", "0.16666666651"),
        (7, "0.1428571429", "0.14285714272"),
        (999, "0.0010010010", "0.00100100087"),
        (100001, "0.0000099999", "0.00001000008"),
    ],
)
def test_known_shares(count: int, written: str, listed: str) -> None:
    assert share_text(count) == written
    assert decimal_text(threshold_of_share(count)) == listed


def test_texts_fall_strictly_up_to_100000() -> None:
    """Else two services of nearby size would get one probability."""
    texts = [share_text(count) for count in range(1, 100_001)]
    assert all(earlier > later for earlier, later in itertools.pairwise(texts))


def test_thresholds_never_rise_and_stay_near() -> None:
    earlier = SCALE + 1
    for count in range(1, 100_001):
        threshold = threshold_of_text(share_text(count))
        assert threshold <= earlier
        assert abs(threshold * count - SCALE) <= count  # within 2**-31 of 1/count
        earlier = threshold


def test_intended_share_undoes_threshold_of_share() -> None:
    assert all(intended_share(threshold_of_share(count)) == count for count in range(1, 44_988))


def test_every_share_is_recognised_as_one() -> None:
    """Above 44,987 neighbours share a threshold; but one of them should be found for each."""
    for count in range(42_872, 100_001):
        share = intended_share(threshold_of_share(count))
        assert share is not None
        assert threshold_of_share(share) == threshold_of_share(count)
        assert math.isclose(share, count, rel_tol=1e-4)


def test_every_share_is_written_as_kube_proxy_writes_it() -> None:
    """Up to 44,987: a threshold does not tell 1/44988 from 1/44989."""
    write = RESTORE_WRITERS[Random]
    for count in range(2, 44_988):
        text = write(Random(threshold_of_share(count)))
        assert text == f" -m statistic --mode random --probability {share_text(count)}"


@pytest.mark.parametrize("threshold", [0, -1, 3, SCALE - 1, SCALE // 3 + 5])
def test_thresholds_that_are_no_share(threshold: int) -> None:
    share = intended_share(threshold)
    assert share is None or threshold_of_share(share) == threshold


@given(st.integers(min_value=0, max_value=SCALE))
def test_what_the_kernel_lists_is_read_back_exactly(threshold: int) -> None:
    assert threshold_of_text(decimal_text(threshold)) == threshold


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf", "x", ""])
def test_not_a_probability(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        threshold_of_text(text)
