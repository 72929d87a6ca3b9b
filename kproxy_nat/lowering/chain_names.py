"""The names of kube-proxy's chains.

The names of per-service chains are a prefix and 16 characters of base32 over a SHA-256: 80 bits. There are
as many names as endpoints, so those of one service port are spelt together, by arithmetic on one large
integer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from hashlib import sha256

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
KUBELET_FIREWALL = "KUBE-FIREWALL"

CLUSTER_PREFIX = "KUBE-SVC-"
LOCAL_PREFIX = "KUBE-SVL-"
EXTERNAL_PREFIX = "KUBE-EXT-"
FIREWALL_PREFIX = "KUBE-FW-"
ENDPOINT_PREFIX = "KUBE-SEP-"

_LETTERS = bytes.maketrans(bytes(range(32)), b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_HASH_LENGTH = 16
_DIGEST_LENGTH = 10
_PADDING = bytes(_HASH_LENGTH - _DIGEST_LENGTH)


def name_hashes(texts: Sequence[str]) -> list[str]:
    """Return the 16 characters that stand for each text in a chain name.

    Each digest stands at the end of a lane of 16 bytes. Four times, the upper half of what each lane holds
    moves up into a lane of its own, half as wide. In the end each byte holds five bits: a letter's number.
    """
    digests = [sha256(text.encode()).digest()[:_DIGEST_LENGTH] for text in texts]
    bits = int.from_bytes(_PADDING.join((b"", *digests)), "big")
    for lower, upper, distance in _halvings(len(texts)):
        bits = bits & lower | (bits & upper) << distance
    letters = bits.to_bytes(len(texts) * _HASH_LENGTH, "big").translate(_LETTERS).decode("ascii")
    return [letters[start : start + _HASH_LENGTH] for start in range(0, len(letters), _HASH_LENGTH)]


@functools.lru_cache(maxsize=256)
def _halvings(count: int) -> list[tuple[int, int, int]]:
    """Return for each halving of the lanes: masks of lower and upper halves, and how far the upper move."""
    halvings = []
    for lane, width in ((128, 40), (64, 20), (32, 10), (16, 5)):
        lower = sum((1 << width) - 1 << start for start in range(0, count * 128, lane))
        halvings.append((lower, lower << width, lane // 2 - width))
    return halvings


def service_chains(
    port_text: str, protocol: str, endpoint_texts: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """Return the hash that a service port's own chains share, and the chain of each of its endpoints.

    The service port is given by its name text and its protocol in lower case.
    """
    prefix = port_text + protocol
    service, *endpoints = name_hashes([prefix, *[prefix + text for text in endpoint_texts]])
    chains = {text: ENDPOINT_PREFIX + name for text, name in zip(endpoint_texts, endpoints, strict=True)}
    return service, chains
