"""Services of which something is left open, and what allocation makes of them."""

from __future__ import annotations

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.assumptions import Derivation
from kproxy_nat.errors import Problem, Severity
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText
from kproxy_nat.model.base import Sourced
from kproxy_nat.model.service import Service, ServiceSpec
from kproxy_nat.net.addresses import IpFamily, parse_cidr

V4, V6 = IpFamily.IPV4, IpFamily.IPV6
ONE_PORT = "ports: [{port: 80}]"
TWO_PORTS = "ports: [{name: http, port: 80}, {name: https, port: 443}]"


def service(name: str, spec: str = ONE_PORT, status: str = "{}") -> str:
    meta = f"{{name: {name}, namespace: shop}}"
    return f"{{apiVersion: v1, kind: Service, metadata: {meta}, spec: {{{spec}}}, status: {status}}}\n"


def ranges(
    *cidrs: str, node_ports: tuple[int, int] = (30000, 32767), pool: tuple[str, ...] = ()
) -> AllocationOptions:
    service_cidrs = tuple(map(parse_cidr, cidrs or ("10.96.0.0/12",)))
    return AllocationOptions(service_cidrs, node_ports, tuple(map(parse_cidr, pool)))


DUAL = ranges("10.96.0.0/12", "fd00:10:96::/112")
DUAL6 = ranges("fd00:10:96::/112", "10.96.0.0/12")
SINGLE = ranges()


def loaded(*documents: str) -> list[Sourced[Service]]:
    result = load_texts([SourceText("x.yaml", "---\n".join(documents))], needs_workloads=lambda _: True)
    assert result.problems == []
    return result.cluster.services


def completed(*documents: str, options: AllocationOptions = DUAL) -> list[Service]:
    services, derivation = complete_services(loaded(*documents), options)
    assert derivation.problems == []
    return [sourced.value for sourced in services]


def spec_of(spec: str, options: AllocationOptions = DUAL) -> ServiceSpec:
    (made,) = completed(service("web", spec), options=options)
    return made.spec


def derived(*documents: str, options: AllocationOptions = DUAL) -> Derivation:
    return complete_services(loaded(*documents), options)[1]


def texts(*documents: str, options: AllocationOptions = DUAL) -> list[str]:
    derivation = derived(*documents, options=options)
    assert derivation.problems == []
    return [f"{assumption.subject}: {assumption.text}" for assumption in derivation.assumptions]


def refused(*documents: str, options: AllocationOptions = DUAL) -> Problem:
    services = loaded(*documents)
    _, derivation = complete_services(services, options)
    (problem,) = derivation.problems
    assert problem.severity is Severity.ERROR
    assert not any(assumption.subject == problem.subject for assumption in derivation.assumptions)
    return problem


def place(problem: Problem) -> str:
    assert problem.location is not None
    return str(problem.location)
