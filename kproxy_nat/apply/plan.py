"""Plans: what is to be done to a namespace, as a document to look at, to keep, and to carry out later."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from kproxy_nat import __version__
from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.generations import InputDigest
from kproxy_nat.apply.namespaces import Identity
from kproxy_nat.apply.planners import plan_change, planner_of
from kproxy_nat.apply.planning import LiveRules
from kproxy_nat.apply.tools import Variant
from kproxy_nat.errors import ApplyError, Code, InvalidInputError, Location, Problem
from kproxy_nat.formats.iptables_dump import Dump
from kproxy_nat.formats.ruleset_json import JsonAssumption
from kproxy_nat.json_text import json_text, parse_json_text
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.udp_flows import UdpServices

FORMAT = "kproxy-nat/plan"
VERSION = 1

_NFACCT = " --nfacct-name "
_NFACCT_NAME = re.compile(rf"{_NFACCT}+(\S+)")


class Wanted(msgspec.Struct, frozen=True):
    """What a namespace should hold.

    Attributes:
        rules: our chains and jumps of each backend, in the order in which they are to be loaded.
        sysctls: kernel settings that the rules need.
        udp_services: where UDP traffic goes from now on.
        services: how many service ports each family has.
        inputs: what it was made from.
        options: with which options.
        assumptions: what the inputs left open.
    """

    rules: dict[Backend, Dump]
    sysctls: dict[str, str] = {}
    udp_services: dict[IpFamily, UdpServices] = {}
    services: dict[IpFamily, int] = {}
    inputs: list[InputDigest] = []
    options: dict[str, str] = {}
    assumptions: list[JsonAssumption] = []


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of one namespace, made for the rules that it held then.

    Attributes:
        action: ``apply``, ``delete`` or ``rollback``.
        live: for each backend the digest of the rules that a plan which is kept was made for.
        changes: for each backend, also for those where nothing changes, in the order of loading.
        sysctls: the values wanted of those that have others.
        nfacct: the accounting objects that rules refer to which are written.
    """

    format: str
    version: int
    program: str
    action: str
    namespace: str
    identity: Identity
    variant: Variant | None
    changes: dict[Backend, FamilyChange]
    live: dict[Backend, str] = {}
    sysctls: dict[str, str] = {}
    nfacct: list[str] = []
    udp_services: dict[IpFamily, UdpServices] = {}
    services: dict[IpFamily, int] = {}
    inputs: list[InputDigest] = []
    options: dict[str, str] = {}
    assumptions: list[JsonAssumption] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.sysctls and not any(change.tables for change in self.changes.values())


class Size(msgspec.Struct, frozen=True):
    """How much the change of a backend is."""

    chains_added: int = 0
    chains_changed: int = 0
    chains_deleted: int = 0
    rules_added: int = 0
    rules_removed: int = 0


def make_plan(
    action: str,
    namespace: str,
    identity: Identity,
    variant: Variant | None,
    live: Mapping[Backend, LiveRules],
    wanted: Wanted,
    sysctls: Mapping[str, str],
) -> Plan:
    """Return the plan that brings about what is wanted; ``sysctls`` are those that have to change.

    Raises:
        ApplyError: a foreign rule leads to a chain that would be deleted.
    """
    changes = {backend: plan_change(backend, live[backend], dump) for backend, dump in wanted.rules.items()}
    return Plan(
        FORMAT,
        VERSION,
        __version__,
        action,
        namespace,
        identity,
        variant,
        changes,
        sysctls=dict(sysctls),
        nfacct=sorted({name for change in changes.values() for name in _nfacct(change)}),
        udp_services=wanted.udp_services,
        services=wanted.services,
        inputs=wanted.inputs,
        options=wanted.options,
        assumptions=wanted.assumptions,
    )


def bind(plan: Plan, live: Mapping[Backend, LiveRules]) -> Plan:
    """Return the plan for keeping: with the digests of the rules that it was made for."""
    digests = {backend: live_digest(backend, rules.dump) for backend, rules in live.items()}
    return msgspec.structs.replace(plan, live=digests)


def live_digest(backend: Backend, dump: Dump) -> str:
    """Return the SHA-256 of the rules that a plan depends on: ours, and all in built-in chains."""
    planner = planner_of(backend)
    return hashlib.sha256(planner.join(planner.owned_part(dump)).encode(errors="surrogateescape")).hexdigest()


def check_current(plan: Plan, identity: Identity, live: Mapping[Backend, LiveRules]) -> None:
    """Refuse a plan that was made for another namespace or other rules.

    Raises:
        ApplyError: it was.
    """
    same = plan.identity == identity and plan.live == {b: live_digest(b, r.dump) for b, r in live.items()}
    if not same:
        what = "the rules of" if plan.identity == identity else "the namespace"
        verb = "have changed" if plan.identity == identity else "is not the one that was there"
        when = "since the plan was made" if plan.identity == identity else "when the plan was made"
        message = f"{what} {plan.namespace} {verb} {when}"
        raise ApplyError(Problem(Code.PLAN_OUTDATED, message, hint="plan again"))


def render_plan(plan: Plan) -> str:
    """Return the plan as JSON."""
    return json_text(plan)


def is_plan(text: bytes) -> bool:
    """Tell the text of a plan from manifests."""
    return text.lstrip().startswith(b"{") and FORMAT.encode() in text[:200]


def parse_plan(text: bytes, source: str) -> Plan:
    """Return the plan that a text holds.

    Raises:
        InvalidInputError: it is none, or one of another version.
    """
    try:
        plan = parse_json_text(text, Plan)
    except msgspec.DecodeError as error:
        raise _invalid(source, f"it is damaged: {error}") from None
    if (plan.format, plan.version) != (FORMAT, VERSION):
        raise _invalid(source, f"not a plan of version {VERSION}")
    return plan


def size(change: FamilyChange) -> Size:
    """Return how much a change is."""
    chains = [chain for table in change.tables for chain in table.chains]
    own = [chain for chain in chains if not chain.builtin]
    added = sum(chain.before is None for chain in own)
    deleted = sum(chain.after is None for chain in own)
    kept = sum((Counter(c.before) & Counter(c.after)).total() for c in chains if c.before and c.after)
    return Size(
        chains_added=added,
        chains_changed=len(own) - added - deleted,
        chains_deleted=deleted,
        rules_added=sum(len(chain.after or ()) for chain in chains) - kept,
        rules_removed=sum(len(chain.before or ()) for chain in chains) - kept,
    )


def _nfacct(change: FamilyChange) -> Iterator[str]:
    for chain in (chain for table in change.tables for chain in table.chains):
        for line in chain.after or ():
            found = _NFACCT_NAME.search(line) if _NFACCT in line else None
            if found:
                yield found[1]


def _invalid(source: str, message: str) -> InvalidInputError:
    hint = "make a new one with kproxy-nat plan --out"
    return InvalidInputError(Problem(Code.PLAN_INVALID, message, location=Location(source), hint=hint))
