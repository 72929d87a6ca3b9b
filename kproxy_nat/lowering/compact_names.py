"""The names of the chains of the compact layout.

kube-proxy's names begin with ``KUBE-``, these with ``KPN-``, so neither program takes the other's chains for
its own. The chains of a service port end in the same 16 characters as kube-proxy's.
"""

from __future__ import annotations

import re

from kproxy_nat.lowering.chain_names import name_hashes

PREFIX = "KPN-"

SERVICES = "KPN-SERVICES"
NODE_PORTS = "KPN-NODEPORTS"
POSTROUTING = "KPN-POSTROUTING"
INPUT = "KPN-INPUT"
FORWARD = "KPN-FORWARD"
OUTPUT = "KPN-OUTPUT"
FIREWALL = "KPN-FIREWALL"
CLUSTER_REFUSALS = "KPN-REFUSE-CLUSTER"
EXTERNAL_REFUSALS = "KPN-REFUSE-EXTERNAL"
NODE_PORT_REFUSALS = "KPN-REFUSE-PORTS"
HEALTH_CHECKS = "KPN-HEALTH"
HAIRPIN = "KPN-HAIRPIN"

CLUSTER_PREFIX = "KPN-SVC-"
LOCAL_PREFIX = "KPN-SVL-"
EXTERNAL_PREFIX = "KPN-EXT-"
FIREWALL_PREFIX = "KPN-FW-"

BRANCH_PREFIXES = {
    SERVICES: "KPN-IP-",
    NODE_PORTS: "KPN-NP-",
    FIREWALL: "KPN-FI-",
    CLUSTER_REFUSALS: "KPN-RC-",
    EXTERNAL_REFUSALS: "KPN-RE-",
    NODE_PORT_REFUSALS: "KPN-RP-",
    HEALTH_CHECKS: "KPN-HC-",
    HAIRPIN: "KPN-HP-",
}
"""How the names of a tree's branches begin, by the name of its root."""

_LONGEST_READABLE = 28 - 7

_FIXED = (
    *(SERVICES, NODE_PORTS, POSTROUTING, INPUT, FORWARD, OUTPUT, FIREWALL),
    *(CLUSTER_REFUSALS, EXTERNAL_REFUSALS, NODE_PORT_REFUSALS, HEALTH_CHECKS, HAIRPIN),
)
_FORM = re.compile(
    rf"{'|'.join(_FIXED)}"
    r"|KPN-(?:SVC|SVL|EXT|FW)-[A-Z2-7]{16}(?:-[0-9a-f]{1,3})?"
    r"|KPN-(?:IP|NP|FI|RC|RE|RP|HC|HP)-(?:[A-Z2-7]{16}|[0-9.]+/\d+|(?:[0-9.]+-)?[a-z]+(?:-\d+-\d+)?)"
)


def branch_name(root: str, text: str) -> str:
    """Return the name of a tree's branch: its range, where that fits into a chain name, else its hash."""
    readable = len(text) <= _LONGEST_READABLE and ":" not in text
    return BRANCH_PREFIXES[root] + (text if readable else name_hashes([text])[0])


def is_compact_chain(name: str) -> bool:
    """Whether a chain has a name of the compact layout."""
    return name.startswith(PREFIX) and bool(_FORM.fullmatch(name))
