"""Services as a cluster would store them: with families, cluster IPs, node ports, load balancer addresses.

The order in which values are found decides who gets them, and is this:

1. What Services from a cluster hold (those with families and all their cluster IPs) is taken as it is.
2. What other Services ask for explicitly, by namespace and name. A value that somebody has, or that lies
   outside of the ranges, is a problem.
3. What is left open, by namespace and name, as ``pools`` tells: the usual value of each is a function of
   namespace, name and family or port.

A Service with an error comes back as it was, as if the API server had refused it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from kproxy_nat.controlplane.assumptions import Assumption, Derivation
from kproxy_nat.controlplane.families import (
    ServiceFamilies,
    check_families,
    configured_families,
    given_cluster_ips,
    is_headless,
    resolve_families,
)
from kproxy_nat.controlplane.open_values import (
    CLUSTER_IP,
    HEALTH_CHECK_NODE_PORT,
    LOAD_BALANCER_IP,
    NODE_PORT,
    NODE_PORTS,
    PoolName,
    Request,
    explicit_node_ports,
    open_values,
    shared_node_ports,
)
from kproxy_nat.controlplane.pools import (
    Assigned,
    Pool,
    address_of,
    load_balancer_band,
    node_port_bands,
    overlapping,
    service_bands,
)
from kproxy_nat.errors import Code, FieldPath, Location, Problem, Severity
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.finding import Finding
from kproxy_nat.model.service import HEADLESS, LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec
from kproxy_nat.net.addresses import Cidr, IpFamily, address_value, family_of, parse_address, prefix_length

SHORTEST_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class AllocationOptions:
    """The ranges of the cluster; the families of ``service_cidrs`` are those of the cluster, in order."""

    service_cidrs: tuple[Cidr, ...] = (Cidr("10.96.0.0/12"), Cidr("fd00:10:96::/112"))
    node_port_range: tuple[int, int] = (30000, 32767)
    load_balancer_pool: tuple[Cidr, ...] = ()


@dataclass(slots=True)
class Draft:
    """A Service on its way to completion."""

    sourced: Sourced[Service]
    families: ServiceFamilies
    is_stored: bool
    requests: list[Request] = field(default_factory=list)
    assigned: dict[Request, Assigned[Draft]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def spec(self) -> ServiceSpec:
        """The Service's ``spec``, as it was read."""
        return self.sourced.value.spec

    @property
    def subject(self) -> str:
        """The Service in a message."""
        meta = self.sourced.value.metadata
        return f"Service {meta.namespace}/{meta.name}"

    @property
    def order(self) -> tuple[str, str, str, int]:
        """The place of the Service among all; the source matters for those that are there twice."""
        meta, origin = self.sourced.value.metadata, self.sourced.origin
        return meta.namespace, meta.name, origin.source, origin.line

    @property
    def is_refused(self) -> bool:
        """Whether the Service has an error."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def report(self, finding: Finding) -> None:
        """Keep a finding as a problem of the Service."""
        self.problems.append(finding.at(self.sourced.origin, self.subject))


Pools = dict[PoolName, Pool[Draft]]


def complete_services(
    services: Sequence[Sourced[Service]], options: AllocationOptions
) -> tuple[list[Sourced[Service]], Derivation]:
    """Return ``services`` as a cluster of these ranges would store them, in their order.

    ExternalName Services, those from a cluster and those with errors come back as they are. Every value that
    was chosen is an assumption; assumptions and problems are sorted by namespace and name.
    """
    option_problems = check_options(options)
    if option_problems:
        return list(services), Derivation(problems=option_problems)
    if all(_is_settled(sourced.value, options) for sourced in services):
        return list(services), Derivation()
    configured = configured_families(options.service_cidrs)
    drafts = {
        position: _draft(sourced, configured)
        for position, sourced in enumerate(services)
        if sourced.value.spec.type != "ExternalName"
    }
    in_order = sorted(drafts.values(), key=lambda draft: draft.order)
    pools = _make_pools(options)
    for draft in sorted(in_order, key=lambda draft: not draft.is_stored):
        _hold_explicit(draft, pools, options)
    _find_open(in_order, pools)
    wanted = _by_pool(in_order)
    for name in pools:
        _assign(pools[name], wanted.get(name, ()))
    derivation = Derivation(
        [assumption for draft in in_order for assumption in _assumptions(draft)],
        [problem for draft in in_order for problem in draft.problems],
    )
    completed = [
        _completed(drafts[position]) if position in drafts else sourced
        for position, sourced in enumerate(services)
    ]
    return completed, derivation


def check_options(options: AllocationOptions) -> list[Problem]:
    """Return what is wrong with the ranges themselves."""
    return [
        Problem(Code.BAD_OPTION, message, location=Location(option), hint=hint)
        for option, message, hint in _option_faults(options)
    ]


def _option_faults(options: AllocationOptions) -> Iterator[tuple[str, str, str]]:
    low, high = options.node_port_range
    if not options.service_cidrs:
        yield "--service-cidr", "there is no service CIDR", "give one, such as 10.96.0.0/12"
    for cidr in options.service_cidrs:
        if family_of(cidr) is IpFamily.IPV6 and prefix_length(cidr) < SHORTEST_IPV6_PREFIX:
            message = f"the prefix of {cidr} is shorter than {SHORTEST_IPV6_PREFIX}"
            yield "--service-cidr", message, "a cluster's IPv6 service CIDR is a /64 or smaller"
    if not 1 <= low <= high <= 65535:
        message = f"{low}-{high} is not a range of ports"
        yield "--node-port-range", message, "give two ports, the lower one first: 30000-32767"
    for pool, cidr in overlapping(options.load_balancer_pool, options.service_cidrs):
        message = f"{pool} and the service CIDR {cidr} overlap"
        yield "--load-balancer-pool", message, "use a network outside of the service CIDRs"


def _draft(sourced: Sourced[Service], configured: Sequence[IpFamily]) -> Draft:
    spec = sourced.value.spec
    stored = is_stored(sourced.value)
    draft = Draft(sourced, resolve_families(spec, () if stored else configured), stored)
    if not stored and not is_headless(spec):
        for finding in check_families(spec, configured):
            draft.report(finding)
    return draft


def is_stored(service: Service) -> bool:
    """Tell whether a cluster filled in the addresses: what is typed by hand hardly ever has all of these.

    Only a cluster writes ``status``, so a load balancer's address is as good a sign as all of the fields.
    """
    spec = service.spec
    if is_headless(spec):
        return bool(spec.cluster_ips and spec.ip_families)
    if not spec.cluster_ip:
        return False
    complete = bool(spec.ip_families) and len(spec.cluster_ips) == len(spec.ip_families)
    return complete or bool(service.status.load_balancer.ingress)


def _is_settled(service: Service, options: AllocationOptions) -> bool:
    """Tell, quickly, a Service from a cluster, to which not even a load balancer's address can be added."""
    return not options.load_balancer_pool and is_stored(service)


def leaves_open(source: Sourced[Service], options: AllocationOptions) -> bool:
    """Tell whether a Service asks for any value out of a cluster's ranges."""
    if source.value.spec.type == "ExternalName" or _is_settled(source.value, options):
        return False
    configured = configured_families(options.service_cidrs)
    return bool(_requests(_draft(source, configured), configured_families(options.load_balancer_pool)))


def _make_pools(options: AllocationOptions) -> Pools:
    pools: Pools = {}
    for family in IpFamily:
        cidrs = [cidr for cidr in options.service_cidrs if family_of(cidr) is family]
        bands = [band for cidr in cidrs for band in service_bands(cidr)]
        pools[CLUSTER_IP, family] = Pool(", ".join(cidrs), bands)
    low, high = options.node_port_range
    pools[NODE_PORTS] = Pool(f"{low}-{high}", node_port_bands(low, high))
    for family in configured_families(options.load_balancer_pool):
        cidrs = [cidr for cidr in options.load_balancer_pool if family_of(cidr) is family]
        pools[LOAD_BALANCER_IP, family] = Pool(", ".join(cidrs), [load_balancer_band(cidr) for cidr in cidrs])
    return pools


def _hold_explicit(draft: Draft, pools: Pools, options: AllocationOptions) -> None:
    for finding in (
        *_hold_cluster_ips(draft, pools, options),
        *_hold_node_ports(draft, pools[NODE_PORTS]),
    ):
        draft.report(finding)
    ingress = (entry.ip for entry in draft.sourced.value.status.load_balancer.ingress)
    for text in (*draft.spec.external_ips, *ingress):
        if text:
            address = parse_address(text)
            pool = pools.get((LOAD_BALANCER_IP, family_of(address)))
            if pool:
                pool.hold(address_value(address), draft)


def _hold_cluster_ips(draft: Draft, pools: Pools, options: AllocationOptions) -> Iterator[Finding]:
    for position, address in enumerate(given_cluster_ips(draft.spec)):
        path: FieldPath = (
            ("spec", "clusterIPs", position) if draft.spec.cluster_ips else ("spec", "clusterIP")
        )
        pool = pools[CLUSTER_IP, family_of(address)]
        value = address_value(address)
        holder = pool.hold(value, draft)
        if draft.is_stored:
            continue
        if value not in pool:
            cidrs = ", ".join(options.service_cidrs)
            message = f"clusterIP {address} is not an address of the service CIDRs ({cidrs})"
            hint = "choose another or none, or give the cluster's networks with --service-cidr"
            yield Finding(Code.ADDRESS_OUT_OF_RANGE, path, message, hint)
        if holder is not draft:
            yield _taken(Code.ADDRESS_TAKEN, path, f"clusterIP {address}", holder)


def _hold_node_ports(draft: Draft, pool: Pool[Draft]) -> Iterator[Finding]:
    purposes: dict[int, str] = {}
    for what, number, path in explicit_node_ports(draft.spec):
        holder = pool.hold(number, draft)
        doubled = purposes.setdefault(number, what) != what
        if draft.is_stored:
            continue
        if number not in pool:
            message = f"{what} {number} is not in the range of node ports, {pool.title}"
            hint = "choose another or none, or give the cluster's range with --node-port-range"
            yield Finding(Code.NODE_PORT_OUT_OF_RANGE, path, message, hint)
        if doubled or holder is not draft:
            yield _taken(Code.NODE_PORT_TAKEN, path, f"{what} {number}", holder)


def _taken(code: Code, path: FieldPath, value: str, holder: Draft) -> Finding:
    origin = holder.sourced.origin
    message = f"{value} belongs to {holder.subject} ({origin.source}:{origin.line}) already"
    return Finding(code, path, message, "choose another, or leave it out to have one allocated")


def _find_open(drafts: Iterable[Draft], pools: Pools) -> None:
    """Note what each Service leaves open; a refused one gets nothing."""
    balancer_families = [name[1] for name in pools if name[0] == LOAD_BALANCER_IP]
    for draft in drafts:
        if draft.is_refused:
            continue
        draft.requests = _requests(draft, balancer_families)
        if balancer_families and _lacks_ingress(draft):
            families = " or ".join(draft.families.families)
            message = f"the load balancer pool has no {families} address, so it gets none"
            hint = "give --load-balancer-pool a network of that family"
            path = ("spec", "type")
            draft.report(Finding(Code.FAMILY_UNAVAILABLE, path, message, hint, Severity.WARNING))


def _requests(draft: Draft, balancer_families: Collection[IpFamily | None]) -> list[Request]:
    """Return what a Service leaves open; for one from a cluster at most the load balancer's address."""
    wanted = open_values(draft.sourced.value, draft.families.families, balancer_families)
    return [request for request in wanted if not draft.is_stored or request.what == LOAD_BALANCER_IP]


def _lacks_ingress(draft: Draft) -> bool:
    asked = any(request.what == LOAD_BALANCER_IP for request in draft.requests)
    has_some = bool(draft.sourced.value.status.load_balancer.ingress)
    return draft.spec.type == "LoadBalancer" and not has_some and not asked


def _by_pool(drafts: Iterable[Draft]) -> dict[PoolName, list[tuple[Draft, Request]]]:
    """Return what is asked of each pool; the order of a Service's ports does not matter."""
    wanted: dict[PoolName, list[tuple[Draft, Request]]] = {}
    for draft in drafts:
        for request in sorted(draft.requests, key=lambda request: (request.what, request.port)):
            wanted.setdefault(request.pool, []).append((draft, request))
    return wanted


def _assign(pool: Pool[Draft], wanted: Iterable[tuple[Draft, Request]]) -> None:
    """Give out the values of one pool; Services that another one refused a value get none here."""
    served = [(draft, request) for draft, request in wanted if not draft.is_refused]
    results = pool.assign([(_key(draft, request), draft) for draft, request in served])
    for (draft, request), result in zip(served, results, strict=True):
        if result is None:
            message = f"no {request.what}{request.purpose} is left: all of {pool.title} is taken"
            hint = f"enlarge the range with {request.option}"
            draft.report(Finding(Code.RANGE_EXHAUSTED, request.path, message, hint))
        else:
            draft.assigned[request] = result


def _key(draft: Draft, request: Request) -> str:
    """Return what the usual value is a function of; no name holds a slash."""
    meta = draft.sourced.value.metadata
    return f"{request.what}/{meta.namespace}/{meta.name}/{request.detail}"


def _assumptions(draft: Draft) -> Iterator[Assumption]:
    if draft.is_refused:
        return
    for request in draft.requests:
        assigned = draft.assigned[request]
        text = f"{request.what} {request.shown(assigned.value)}{request.purpose}"
        if assigned.taken_by is not None:
            noun = "node port" if request.pool == NODE_PORTS else "address"
            usual = request.shown(assigned.usual)
            text += f"; its usual {noun} {usual} is taken by {assigned.taken_by.subject}"
        yield Assumption(draft.subject, text, draft.sourced.origin)


def _completed(draft: Draft) -> Sourced[Service]:
    if draft.is_refused:
        return draft.sourced
    service = draft.sourced.value
    spec = _completed_spec(draft)
    ingress = [
        LoadBalancerIngress(address_of(request.family, assigned.value))
        for request, assigned in draft.assigned.items()
        if request.what == LOAD_BALANCER_IP and request.family
    ]
    if spec == service.spec and not ingress:
        return draft.sourced
    completed = msgspec.structs.replace(service, spec=spec)
    if ingress:
        status = msgspec.structs.replace(service.status, load_balancer=LoadBalancerStatus(ingress))
        completed = msgspec.structs.replace(completed, status=status)
    return Sourced(completed, draft.sourced.origin)


def _completed_spec(draft: Draft) -> ServiceSpec:
    spec = draft.spec
    if draft.is_stored:
        return spec
    texts = list(spec.cluster_ips) or ([spec.cluster_ip] if spec.cluster_ip else [])
    node_ports = shared_node_ports(spec)
    health_check = spec.health_check_node_port
    for request in draft.requests:
        value = draft.assigned[request].value
        if request.what == CLUSTER_IP:
            texts.append(request.shown(value))
        elif request.what == NODE_PORT:
            node_ports[request.port] = value
        elif request.what == HEALTH_CHECK_NODE_PORT:
            health_check = value
    if is_headless(spec):
        texts = [HEADLESS]
    ports = [
        port if port.node_port else msgspec.structs.replace(port, node_port=node_ports.get(port.port, 0))
        for port in spec.ports
    ]
    return msgspec.structs.replace(
        spec,
        cluster_ip=texts[0],
        cluster_ips=texts,
        ip_families=[family.value for family in draft.families.families],
        ip_family_policy=draft.families.policy,
        ports=ports,
        health_check_node_port=health_check,
    )
