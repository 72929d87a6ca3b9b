"""The names of chains: known vectors, and the standard library's base32 as a second opinion."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.ruleset.wellformed import MAX_CHAIN_NAME


@pytest.mark.parametrize(
    "text, protocol, expected",
    [
        ("ns1/svc1:p80", "tcp", "XPGD46QRK7WJZT7O"),
        ("ns2/svc2:p80", "tcp", "GNZBNJ2PO5MGZ6GT"),
        ("default/kubernetes:https", "tcp", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dns", "udp", "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns:dns-tcp", "tcp", "ERIFXISQEP7F7OF4"),
    ],
)
def test_known_services(text: str, protocol: str, expected: str) -> None:
    assert names.service_chains(text, protocol, []) == (expected, {})


@pytest.mark.parametrize(
    "endpoint, expected",
    [
        ("10.180.0.1:80", "KUBE-SEP-SXIVWICOYRO3J4NJ"),
        ("[fd00:10:180::1]:80", "KUBE-SEP-OGYCNMB4EMRUSJ6N"),
    ],
)
def test_known_endpoints(endpoint: str, expected: str) -> None:
    _, chains = names.service_chains("ns1/svc1:p80", "tcp", [endpoint])
    assert chains == {endpoint: expected}


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_hashes_are_base32(texts: list[str]) -> None:
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    assert names.name_hashes(texts) == [base64.b32encode(digest).decode()[:16] for digest in digests]


def test_name_and_protocol_are_joined_without_a_separator() -> None:
    service, endpoint = names.name_hashes(["a/btcp", "a/btcp1.2.3.4:5"])
    chains = names.service_chains("a/b", "tcp", ["1.2.3.4:5"])
    assert chains == (service, {"1.2.3.4:5": f"KUBE-SEP-{endpoint}"})


def test_names_fit() -> None:
    """iptables allows 28 characters."""
    prefixes = (
        names.CLUSTER_PREFIX,
        names.LOCAL_PREFIX,
        names.EXTERNAL_PREFIX,
        names.FIREWALL_PREFIX,
        names.ENDPOINT_PREFIX,
    )
    assert len(set(prefixes)) == 5
    assert all(len(prefix) + 16 <= MAX_CHAIN_NAME for prefix in prefixes)
