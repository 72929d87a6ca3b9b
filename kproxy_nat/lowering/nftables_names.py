"""The names of what kube-proxy makes in nftables.

Names tell their Service in clear, behind eight characters of base32 over a SHA-256 of the same text.
"""

from __future__ import annotations

from kproxy_nat.lowering.chain_names import name_hashes
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.ports import ServicePort

TABLE = "kube-proxy"

NODE_PORT_CHECK = "nodeport-endpoints-check"
SERVICE_CHECK = "service-endpoints-check"
FIREWALL_CHECK = "firewall-check"
SERVICES = "services"
MASQUERADING = "masquerading"
CLUSTER_IPS_CHECK = "cluster-ips-check"
REJECT = "reject-chain"

HAIRPIN_SET = "hairpin-connections"
CLUSTER_IPS_SET = "cluster-ips"
NODE_PORT_IPS_SET = "nodeport-ips"
NO_ENDPOINT_SERVICES_MAP = "no-endpoint-services"
NO_ENDPOINT_NODE_PORTS_MAP = "no-endpoint-nodeports"
FIREWALL_MAP = "firewall-ips"
SERVICES_MAP = "service-ips"
NODE_PORTS_MAP = "service-nodeports"

CLUSTER_PREFIX = "service-"
LOCAL_PREFIX = "local-"
EXTERNAL_PREFIX = "external-"
FIREWALL_PREFIX = "firewall-"
ENDPOINT_PREFIX = "endpoint-"
AFFINITY_PREFIX = "affinity-"
BALANCE_PREFIX = "balance-"
ENDPOINTS_PREFIX = "endpoints-"
LOCAL_ENDPOINTS_PREFIX = "endpoints-local-"
DRAW_PREFIX = "draw-"
LOCAL_DRAW_PREFIX = "draw-local-"
"""The last five are the compact layout's own."""

MAX_BASE = 240
MAX_ELEMENT_COMMENT = 128
_CUT = "..."
_HASH_LENGTH = 8


def service_base(port: ServicePort) -> str:
    """Return what the names of a service port's chains share."""
    return _hashed(_service_text(port))


def endpoint_base(port: ServicePort, endpoint: Endpoint) -> str:
    """Return what the names of an endpoint's chain and set share. Colons are no part of nft's names."""
    address = endpoint.address.replace(":", ".")
    return _hashed(f"{_service_text(port)}__{address}/{endpoint.port}")


def element_comment(text: str) -> str:
    """Return the comment of an element, cut to the 128 characters that nft takes.

    kube-proxy 1.36 writes longer ones, and nft refuses the whole transaction (kubernetes/kubernetes#139515).
    """
    return _shortened(text, MAX_ELEMENT_COMMENT)


def short_hash(text: str) -> str:
    """Return the hash by which names begin or end."""
    return name_hashes([text])[0][:_HASH_LENGTH]


def _service_text(port: ServicePort) -> str:
    return f"{port.name.namespace}/{port.name.service}/{port.protocol}/{port.name.port}"


def _hashed(text: str) -> str:
    return _shortened(f"{short_hash(text)}-{text}", MAX_BASE)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - len(_CUT)] + _CUT
