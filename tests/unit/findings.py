"""What is found in an object: code, place, message and hint of each finding, as tables of tests have them."""

from __future__ import annotations

from kproxy_nat.errors import Code, Problem
from kproxy_nat.manifests.loader import load_texts
from kproxy_nat.manifests.sources import SourceText

LABEL_RULE = "use at most 63 of the characters a-z, 0-9 and '-', with a letter or digit at both ends"
SUBDOMAIN_RULE = (
    "use at most 253 of the characters a-z, 0-9, '-' and '.', with a letter or digit at both ends"
)
INTERFACE_RULE = "use at most 15 (for a prefix 14) letters, digits and . _ - @ :, without spaces"
CIDR_HINT = "write a network as address/length, such as 10.0.0.0/8"
REACHABLE = "use an address that other hosts can reach"
PROTOCOLS = "use one of: TCP, UDP, SCTP"

HEADS = {
    "Service": "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
    "EndpointSlice": "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n",
    "Endpoints": "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n",
    "Node": "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n",
    "KubeProxyConfiguration": "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n# config\n",  # noqa: E501
}

Finding = tuple[Code, str, str, str]


def check(kind: str, body: str) -> list[Finding]:
    """Return what is found in an object whose body begins on line 4."""
    problems = load_texts([SourceText("x", HEADS[kind] + body + "\n")]).problems
    return [shown(problem) for problem in problems]


STANDING_HINTS = {
    Code.PORT_RANGE: "give a port that can be listened on",
    Code.BAD_ADDRESS: "write an address such as 10.96.0.10 or fd00::10",
}
FAMILY_HINTS = ("put it where IPv4 addresses belong", "put it where IPv6 addresses belong")


def shown(problem: Problem) -> Finding:
    """Return a problem as the tables have it: the advice that goes with a code is left out there."""
    assert problem.location is not None
    hint = problem.hint
    if hint == STANDING_HINTS.get(problem.code) or hint in FAMILY_HINTS:
        hint = ""
    return problem.code, f"{problem.location.line}:{problem.location.column}", problem.message, hint
