"""The IP families of a Service: which ones, in which order, by which policy, as the API server fills them in.

A cluster has the families of its service CIDRs, the first of which is its default. What a Service says of
addresses and families stands; the rest follows from its policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kproxy_nat.errors import Code
from kproxy_nat.model.checks import check_choice
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.service import HEADLESS, ServiceSpec
from kproxy_nat.net.addresses import Address, Cidr, IpFamily, family_of, parse_address

SINGLE_STACK = "SingleStack"
PREFER_DUAL_STACK = "PreferDualStack"
REQUIRE_DUAL_STACK = "RequireDualStack"
FAMILY_POLICIES = (SINGLE_STACK, PREFER_DUAL_STACK, REQUIRE_DUAL_STACK)


class ServiceFamilies(NamedTuple):
    """``ipFamilies`` and ``ipFamilyPolicy``, both filled in."""

    families: tuple[IpFamily, ...]
    policy: str


def configured_families(service_cidrs: Iterable[Cidr]) -> tuple[IpFamily, ...]:
    """Return the cluster's families, its default one first."""
    return tuple(dict.fromkeys(map(family_of, service_cidrs)))


def is_headless(spec: ServiceSpec) -> bool:
    """Tell whether the Service asks for no cluster IP, in the field of either age."""
    return HEADLESS in (spec.cluster_ip, *spec.cluster_ips[:1])


def given_cluster_ips(spec: ServiceSpec) -> list[Address]:
    """Return the cluster IPs that the Service names, in canonical form; none for a headless one."""
    if is_headless(spec):
        return []
    texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    return [parse_address(text) for text in texts]


def resolve_families(spec: ServiceSpec, configured: Sequence[IpFamily]) -> ServiceFamilies:
    """Return families and policy of a Service in a cluster of the families ``configured`` (at least one).

    Cluster IPs fix the first families, ``ipFamilies`` the others. A headless Service without selector may
    have families that the cluster has not, since its endpoints are somebody else's.
    """
    families = _named_families(spec) or [configured[0]]
    detached = is_headless(spec) and not spec.selector
    wants_both = detached or len(families) > 1
    policy = spec.ip_family_policy or (REQUIRE_DUAL_STACK if wants_both else SINGLE_STACK)
    other = families[0].other
    if policy != SINGLE_STACK and len(families) == 1 and (detached or other in configured):
        families.append(other)
    return ServiceFamilies(tuple(families), policy)


def check_families(spec: ServiceSpec, configured: Sequence[IpFamily]) -> Iterator[Finding]:
    """Yield what a cluster of the families ``configured`` refuses in a Service that is not headless.

    The families of cluster IPs are not looked at: an address outside of all CIDRs is a finding of its own.
    """
    path = ("spec", "ipFamilyPolicy")
    policy = spec.ip_family_policy
    if policy:
        yield from check_choice(policy, FAMILY_POLICIES, path)
    if policy == REQUIRE_DUAL_STACK and len(configured) < 2:
        message = f"{policy} cannot be met: the cluster has {configured[0]} only"
        hint = f"give --service-cidr a network of each family, or use {PREFER_DUAL_STACK}"
        yield Finding(Code.FAMILY_UNAVAILABLE, path, message, hint)
    if policy == SINGLE_STACK and len(_named_families(spec)) > 1:
        message = f"ipFamilyPolicy is {policy}, but the Service names two families"
        hint = f"use {PREFER_DUAL_STACK} or {REQUIRE_DUAL_STACK}"
        yield Finding(Code.INCONSISTENT, path, message, hint)
    for position in range(len(given_cluster_ips(spec)), len(spec.ip_families)):
        family = spec.ip_families[position]
        if family not in configured:
            message = f"the cluster has no {family} service CIDR"
            hint = f"give --service-cidr an {family} network, too"
            yield Finding(Code.FAMILY_UNAVAILABLE, ("spec", "ipFamilies", position), message, hint)


def _named_families(spec: ServiceSpec) -> list[IpFamily]:
    addresses = given_cluster_ips(spec)
    further = [IpFamily(family) for family in spec.ip_families[len(addresses) :]]
    return [*map(family_of, addresses), *further]
