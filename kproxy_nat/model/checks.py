"""Checks that several kinds of objects share. Each returns findings, nearly always none; none raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kproxy_nat.errors import Code, FieldPath
from kproxy_nat.model.base import ObjectMeta
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.names import (
    LABEL_RULE,
    SUBDOMAIN_RULE,
    is_dns_label,
    is_dns_subdomain,
    shown,
)
from kproxy_nat.net.addresses import (
    Address,
    AddressError,
    IpFamily,
    cidr_contains,
    family_of,
    parse_address,
    parse_cidr,
)

PROTOCOLS = ("TCP", "UDP", "SCTP")

Findings = Iterable[Finding]

_NOT_ENDPOINTS = {
    parse_cidr("0.0.0.0/32"): "unspecified",
    parse_cidr("::/128"): "unspecified",
    parse_cidr("127.0.0.0/8"): "a loopback address",
    parse_cidr("::1/128"): "a loopback address",
    parse_cidr("169.254.0.0/16"): "a link-local address",
    parse_cidr("fe80::/10"): "a link-local address",
    parse_cidr("224.0.0.0/24"): "a link-local multicast address",
    parse_cidr("ff02::/16"): "a link-local multicast address",
}
_ORDINARY_STARTS = ("10.", "172.", "192.", "2")
"""How most addresses begin: none of the special ones does."""


def check_meta(meta: ObjectMeta, *, subdomain: bool = False) -> Findings:
    """Check name and namespace; ``subdomain`` allows dots in the name."""
    is_name = is_dns_subdomain if subdomain else is_dns_label
    if is_name(meta.name) and is_dns_label(meta.namespace):
        return ()
    findings = []
    if not meta.name:
        findings.append(Finding(Code.MISSING_FIELD, ("metadata", "name"), "metadata.name is missing"))
    elif not is_name(meta.name):
        rule = SUBDOMAIN_RULE if subdomain else LABEL_RULE
        message = f"name {shown(meta.name)} is not valid"
        findings.append(Finding(Code.BAD_NAME, ("metadata", "name"), message, rule))
    if not is_dns_label(meta.namespace):
        message = f"namespace {shown(meta.namespace)} is not valid"
        findings.append(Finding(Code.BAD_NAME, ("metadata", "namespace"), message, LABEL_RULE))
    return findings


def check_port(number: int, path: FieldPath, what: str = "port") -> Findings:
    """Check that a port is one that can be used."""
    if 1 <= number <= 65535:
        return ()
    message = f"{what} {number} is not between 1 and 65535"
    return (Finding(Code.PORT_RANGE, path, message, "give a port that can be listened on"),)


def check_port_name(name: str, path: FieldPath) -> Findings:
    """Check the name of a port; an empty one is no name."""
    if not name or is_dns_label(name):
        return ()
    return (Finding(Code.BAD_NAME, path, f"port name {shown(name)} is not valid", LABEL_RULE),)


def check_choice(value: str, choices: Sequence[str], path: FieldPath) -> Findings:
    """Check that ``value`` is one of ``choices``."""
    if value in choices:
        return ()
    hint = f"use one of: {', '.join(filter(None, choices))}"
    field = next(step for step in reversed(path) if isinstance(step, str))
    return (Finding(Code.UNSUPPORTED_VALUE, path, f"{field} {shown(value)} is not supported", hint),)


def check_address(text: str, path: FieldPath, family: IpFamily | None = None) -> Findings:
    """Check that ``text`` is an IP address, of ``family`` if that is given."""
    try:
        address = parse_address(text)
    except AddressError as error:
        return (
            Finding(Code.BAD_ADDRESS, path, str(error), "write an address such as 10.96.0.10 or fd00::10"),
        )
    if family is not None and family_of(address) is not family:
        hint = f"put it where {family_of(address)} addresses belong"
        return (Finding(Code.FAMILY_MISMATCH, path, f"{text} is not an {family} address", hint),)
    return ()


def check_destination(text: str, path: FieldPath, family: IpFamily | None = None) -> Findings:
    """Check an address that traffic is sent to: not unspecified, loopback or link-local."""
    findings = check_address(text, path, family)
    reason = "" if findings else special_use(parse_address(text))
    if not reason:
        return findings
    hint = "use an address that other hosts can reach"
    return (Finding(Code.BAD_ADDRESS, path, f"{text} is {reason}", hint),)


def special_use(address: Address) -> str:
    """Say why ``address`` cannot be an endpoint or external IP; an empty text if it can."""
    if address.startswith(_ORDINARY_STARTS) and not address.startswith("224."):
        return ""
    for network, reason in _NOT_ENDPOINTS.items():
        if cidr_contains(network, address):
            return reason
    return ""


def check_cidr(text: str, path: FieldPath) -> Findings:
    """Check that ``text`` is a network."""
    try:
        parse_cidr(text)
    except AddressError as error:
        hint = "write a network as address/length, such as 10.0.0.0/8"
        return (Finding(Code.BAD_CIDR, path, str(error), hint),)
    return ()


def check_range(value: int, low: int, high: int, path: FieldPath) -> Findings:
    """Check that ``value`` is from ``low`` to ``high``."""
    if low <= value <= high:
        return ()
    return (Finding(Code.OUT_OF_RANGE, path, f"{path[-1]} {value} is not between {low} and {high}"),)
