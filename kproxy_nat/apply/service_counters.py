"""What went where: the counters of live rules, by Service.

Only the first packet of a connection passes the nat table, so its packet counters count connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from kproxy_nat.lowering import chain_names as names
from kproxy_nat.lowering import compact_names
from kproxy_nat.net.addresses import IpFamily

_SUFFIXES = (" cluster IP", " external IP", " loadbalancer IP")
_DISPATCH = "|".join(
    (names.SERVICES, names.NODE_PORTS, compact_names.SERVICES, compact_names.NODE_PORTS, r"KPN-(?:IP|NP)-\S+")
)
_FRONTEND = re.compile(
    rf"^\[(?P<packets>\d+):\d+\] -A (?:{_DISPATCH}) (?:-d (?P<address>\S+?)(?:/32|/128)? )?"
    r'-p (?P<protocol>\w+) -m comment --comment (?:"(?P<quoted>[^"]*)"|(?P<bare>\S+)) '
    r"-m \w+ --dports? (?P<port>\d+) .*-j K(?:UBE|PN)-(?:SVC|SVL|EXT|FW)-(?P<hash>[A-Z2-7]{16})$",
    re.MULTILINE,
)
_BALANCED = re.compile(
    r"^\[\d+:\d+\] -A KUBE-SV[CL]-(?P<hash>[A-Z2-7]{16}) .*-j (?P<chain>KUBE-SEP-[A-Z2-7]{16})$", re.MULTILINE
)
_ENDPOINT = re.compile(
    r"^\[(?P<packets>\d+):(?P<bytes>\d+)\] -A (?P<chain>KUBE-SEP-[A-Z2-7]{16}) "
    r".*-j DNAT --to-destination (?P<endpoint>\S+)",
    re.MULTILINE,
)

_COMPACT_ENDPOINT = re.compile(
    r"^\[(?P<packets>\d+):(?P<bytes>\d+)\] -A KPN-SV[CL]-(?P<hash>[A-Z2-7]{16})\S* "
    r".*-j DNAT --to-destination (?P<endpoint>\S+)",
    re.MULTILINE,
)


class FrontendCounter(msgspec.Struct, frozen=True):
    """Connections to one address of a Service; ``to`` is ``address:port/protocol``, ``*`` for a node's."""

    to: str
    connections: int


class EndpointCounter(msgspec.Struct, frozen=True):
    """Connections that were sent to an endpoint."""

    endpoint: str
    connections: int


class ServiceCounters(msgspec.Struct, frozen=True):
    """The counters of one service port. Rules that do not come from a rewrite count since they were made."""

    service: str
    family: IpFamily
    frontends: list[FrontendCounter]
    endpoints: list[EndpointCounter]


def service_counters(text: str, family: IpFamily) -> list[ServiceCounters]:
    """Return the counters in the output of ``iptables-save --counters``, sorted by Service and protocol."""
    frontends: dict[str, list[FrontendCounter]] = {}
    service_names: dict[str, str] = {}
    for found in _FRONTEND.finditer(text):
        service_names[found["hash"]] = _service_name(found["quoted"] or found["bare"])
        frontends.setdefault(found["hash"], []).append(_frontend(found, family))
    endpoints = _endpoints(text)
    ordered = sorted(frontends, key=lambda key: (service_names[key], frontends[key][0].to))
    return [
        ServiceCounters(service_names[key], family, frontends[key], endpoints.get(key, [])) for key in ordered
    ]


def _frontend(found: re.Match[str], family: IpFamily) -> FrontendCounter:
    address = found["address"] or "*"
    host = f"[{address}]" if family is IpFamily.IPV6 and found["address"] else address
    return FrontendCounter(f"{host}:{found['port']}/{found['protocol'].upper()}", int(found["packets"]))


def _service_name(comment: str) -> str:
    for suffix in _SUFFIXES:
        comment = comment.removesuffix(suffix)
    return comment


def _endpoints(text: str) -> dict[str, list[EndpointCounter]]:
    """Return the endpoints of each service port, by the hash in its chains' names."""
    owners = dict(_pairs(text))
    counters: dict[str, dict[str, int]] = {}
    counted = [(owners.get(found["chain"]), found) for found in _ENDPOINT.finditer(text)]
    counted += [(found["hash"], found) for found in _COMPACT_ENDPOINT.finditer(text)]
    for owner, found in counted:
        if owner:
            # The compact layout has several rules for an endpoint: of known clients, of both policies.
            by_endpoint = counters.setdefault(owner, {})
            by_endpoint[found["endpoint"]] = by_endpoint.get(found["endpoint"], 0) + int(found["packets"])
    return {
        owner: [EndpointCounter(endpoint, packets) for endpoint, packets in sorted(by_endpoint.items())]
        for owner, by_endpoint in counters.items()
    }


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    return ((found["chain"], found["hash"]) for found in _BALANCED.finditer(text))
