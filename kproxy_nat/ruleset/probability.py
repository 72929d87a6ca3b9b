"""Probabilities as the kernel keeps them: thresholds of 31 bits (xt_statistic)."""

from __future__ import annotations

import functools

SCALE = 1 << 31
"""A threshold of ``SCALE`` is certainty."""


def threshold_of_text(text: str) -> int:
    """Return the threshold that iptables makes of a ``--probability``.

    Raises:
        ValueError: ``text`` is not a number from 0 to 1.
    """
    probability = float(text)
    if not 0 <= probability <= 1:
        raise ValueError(text)
    return round(probability * SCALE)


@functools.lru_cache(maxsize=4096)
def threshold_of_share(count: int) -> int:
    """Return the threshold of one in ``count``, by way of the ten decimals in which kube-proxy writes it."""
    return threshold_of_text(share_text(count))


def share_text(count: int) -> str:
    """Return one in ``count`` as kube-proxy writes it."""
    return f"{1 / count:.10f}"


@functools.lru_cache(maxsize=4096)
def intended_share(threshold: int) -> int | None:
    """Return the ``count`` whose ``1 / count`` the threshold stands for, or ``None``.

    Unique up to 44,987: above, neighbouring counts share a threshold, and the smallest of them is returned.
    """
    if threshold <= 0:
        return None
    nearest = round(SCALE / threshold)
    candidates = range(max(nearest - 1, 1), nearest + 2)
    return next((count for count in candidates if threshold_of_share(count) == threshold), None)


def decimal_text(threshold: int) -> str:
    """Return the probability with the eleven decimals that iptables-save prints."""
    return f"{threshold / SCALE:.11f}"
