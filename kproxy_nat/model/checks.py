"""Checks that several kinds of objects share. Each yields findings; none raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
_SUSPECT_STARTS = ("0", "127.", "169.254.", "224.0.0.", ":", "f")


def check_meta(meta: ObjectMeta, *, subdomain: bool = False) -> Iterator[Finding]:
    """Check name and namespace; ``subdomain`` allows dots in the name."""
    if not meta.name:
        yield Finding(Code.MISSING_FIELD, ("metadata", "name"), "metadata.name is missing")
    elif not (is_dns_subdomain if subdomain else is_dns_label)(meta.name):
        rule = SUBDOMAIN_RULE if subdomain else LABEL_RULE
        yield Finding(Code.BAD_NAME, ("metadata", "name"), f"name {shown(meta.name)} is not valid", rule)
    if not is_dns_label(meta.namespace):
        yield Finding(
            Code.BAD_NAME,
            ("metadata", "namespace"),
            f"namespace {shown(meta.namespace)} is not valid",
            LABEL_RULE,
        )


def check_port(number: int, path: FieldPath, what: str = "port") -> Iterator[Finding]:
    """Check that a port is one that can be used."""
    if not 1 <= number <= 65535:
        yield Finding(Code.PORT_RANGE, path, f"{what} {number} is not between 1 and 65535")


def check_port_name(name: str, path: FieldPath) -> Iterator[Finding]:
    """Check the name of a port; an empty one is no name."""
    if name and not is_dns_label(name):
        yield Finding(Code.BAD_NAME, path, f"port name {shown(name)} is not valid", LABEL_RULE)


def check_choice(value: str, choices: Iterable[str], path: FieldPath) -> Iterator[Finding]:
    """Check that ``value`` is one of ``choices``."""
    if value not in choices:
        allowed = ", ".join(choice or '""' for choice in choices)
        yield Finding(
            Code.UNSUPPORTED_VALUE,
            path,
            f"{path[-1]} {shown(value)} is not supported",
            f"use one of: {allowed}",
        )


def check_address(text: str, path: FieldPath, family: IpFamily | None = None) -> Iterator[Finding]:
    """Check that ``text`` is an IP address, of ``family`` if that is given."""
    try:
        address = parse_address(text)
    except AddressError as error:
        yield Finding(Code.BAD_ADDRESS, path, str(error))
        return
    if family is not None and family_of(address) is not family:
        yield Finding(Code.FAMILY_MISMATCH, path, f"{text} is not an {family} address")


def check_destination(text: str, path: FieldPath, family: IpFamily | None = None) -> Iterator[Finding]:
    """Check an address that traffic is sent to: not unspecified, loopback or link-local."""
    findings = list(check_address(text, path, family))
    yield from findings
    if findings or not text.startswith(_SUSPECT_STARTS):
        return
    reason = special_use(parse_address(text))
    if reason:
        yield Finding(
            Code.BAD_ADDRESS, path, f"{text} is {reason}", "use an address that other hosts can reach"
        )


def special_use(address: Address) -> str:
    """Say why ``address`` cannot be an endpoint or external IP; an empty text if it can."""
    for network, reason in _NOT_ENDPOINTS.items():
        if cidr_contains(network, address):
            return reason
    return ""


def check_cidr(text: str, path: FieldPath) -> Iterator[Finding]:
    """Check that ``text`` is a network."""
    try:
        parse_cidr(text)
    except AddressError as error:
        yield Finding(
            Code.BAD_CIDR, path, str(error), "write a network as address/length, such as 10.0.0.0/8"
        )


def check_range(value: int, low: int, high: int, path: FieldPath) -> Iterator[Finding]:
    """Check that ``value`` is from ``low`` to ``high``."""
    if not low <= value <= high:
        yield Finding(Code.OUT_OF_RANGE, path, f"{path[-1]} {value} is not between {low} and {high}")
