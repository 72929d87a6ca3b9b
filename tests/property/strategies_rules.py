"""Rules and rule sets to test with, of every kind of match and action.

Rule sets of :func:`rulesets` are such that every kernel with the usual modules takes them, and its tools
list them without rewriting: no negated port range from 0 and no range of all ports, which iptables prints as
other rules.
"""

from __future__ import annotations

import functools
import ipaddress
import typing
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from kproxy_nat.net.addresses import Address, Cidr, IpFamily
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import AnyAction
from kproxy_nat.ruleset.bytecode import SAME_ADDRESSES
from kproxy_nat.ruleset.matches import AnyMatch, Ports
from kproxy_nat.ruleset.rules import Chain, Rule, Ruleset, Table, empty_table

Strategy = st.SearchStrategy
MARKS = st.integers(0, 0xFFFFFFFF)
NFACCT_NAMES = ("localhost_nps_accepted_pkts", "ct_state_invalid_dropped_pkts", "a.b", "two words")
TRANSPORTS = ("tcp", "udp", "sctp", "dccp")
CT_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
ADDRESS_TYPES = ("UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE")
ADDRESS_TYPES6 = ("UNICAST", "LOCAL", "ANYCAST", "MULTICAST", "UNREACHABLE")
USER_CHAINS = ("10", "KUBE-MARK-MASQ", "KUBE-SVC-ERIFXISQEP7F7OF4", "a.chain:with_odd+chars@x", "z" * 28)
REPLIES = {
    IpFamily.IPV4: ("", "icmp-net-unreachable", "icmp-host-prohibited", "icmp-admin-prohibited"),
    IpFamily.IPV6: ("", "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable"),
}
MASKS = {
    IpFamily.IPV4: ("255.255.255.255", "255.255.255.0", "255.0.255.0"),
    IpFamily.IPV6: ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff::"),
}
HOLED = {
    IpFamily.IPV4: "10.0.0.0/255.0.0.255",
    IpFamily.IPV6: "2001:db8::1/ffff:ffff::ffff",
}
OTHER_MODULES = (
    "-m limit --limit 5/min --limit-burst 10",
    "-m pkttype ! --pkt-type multicast",
    "-m length --length 40:100",
    "-m statistic --mode nth --every 3 --packet 0",
    '-m string --string "a \\"quoted\\" -j DROP" --algo bm',
    "-m conntrack --ctproto 6 --ctorigdstport 80",
    "-m addrtype --src-type LOCAL --dst-type LOCAL",
)


def words_in_order(known: Sequence[str]) -> Strategy[tuple[str, ...]]:
    """Return some of ``known``, at least one, in their order."""
    return st.sets(st.sampled_from(known), min_size=1).map(
        lambda chosen: tuple(word for word in known if word in chosen)
    )


def addresses(family: IpFamily) -> Strategy[Address]:
    """Return addresses, some of them of few bits."""
    if family is IpFamily.IPV4:
        return st.integers(0, (1 << 32) - 1).map(lambda n: Address(str(ipaddress.IPv4Address(n))))
    values = st.one_of(
        st.integers(0, (1 << 32) - 1),
        st.integers(1 << 80, (1 << 128) - 1),
        st.integers(0, 64).map(lambda n: 1 << n),
    )
    return values.map(lambda n: Address(ipaddress.IPv6Address(n).compressed))


@st.composite
def networks(draw: st.DrawFn, family: IpFamily, *, smallest: int = 0) -> Address | Cidr:
    """Return a bare address, or a network of at least ``smallest`` bits."""
    address = draw(addresses(family))
    if draw(st.booleans()):
        return address
    length = draw(st.integers(smallest, family.bits))
    return Cidr(ipaddress.ip_network(f"{address}/{length}", strict=False).compressed)


@st.composite
def endpoints(
    draw: st.DrawFn, family: IpFamily, kind: type[matches.Source | matches.Destination]
) -> AnyMatch:
    """Return a match of the source or destination, but not ``! 0/0``, which some tools refuse."""
    negated = draw(st.booleans())
    return kind(draw(networks(family, smallest=1 if negated else 0)), negated)


def interfaces(kind: Callable[[str, bool], AnyMatch]) -> Strategy[AnyMatch]:
    """Return matches of an interface."""
    names = st.from_regex(r"[a-z][a-z0-9.:-]{0,13}\+?", fullmatch=True)
    return st.builds(kind, names, st.booleans()) | st.just(kind("+", False))


def protocols() -> Strategy[matches.Protocol]:
    """Return protocols as iptables lists them."""
    return st.builds(
        matches.Protocol, st.sampled_from((*TRANSPORTS, "icmp", "ipv6-icmp", "200")), st.booleans()
    )


def opaque_headers(family: IpFamily) -> Strategy[matches.OpaqueHeader]:
    """Return conditions on the header that are kept word for word."""
    texts = [("-s", 0), ("-d", 1)]
    found = [
        matches.OpaqueHeader(f"{no}{option} {HOLED[family]}", rank)
        for option, rank in texts
        for no in ("", "! ")
    ]
    if family is IpFamily.IPV4:
        found += [matches.OpaqueHeader("-f", 5), matches.OpaqueHeader("! -f", 5)]
    return st.sampled_from(found)


def texts(max_size: int = 60) -> Strategy[str]:
    """Return texts that a rule's line can hold."""
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=max_size)


@functools.cache
@st.composite
def ports(draw: st.DrawFn) -> Ports | None:
    """Return a range of ports or none; see the head of this module for what is left out."""
    if draw(st.booleans()):
        return None
    negated = draw(st.booleans())
    first = draw(st.integers(1 if negated else 0, 65535))
    last = draw(st.just(first) | st.integers(first, 65535 if first else 65534))
    return Ports(first, last, negated)


@functools.cache
def transports(protocol: str) -> Strategy[matches.Transport]:
    """Return the ports of ``protocol``."""
    return st.builds(matches.Transport, st.just(protocol), ports(), ports())


@st.composite
def multiports(draw: st.DrawFn) -> matches.Multiport:
    """Return a list of ports and ranges; a range counts as two of the 15 ports that the module takes."""
    ranges = []
    for _ in range(draw(st.integers(1, 7))):
        first = draw(st.integers(0, 65534))
        ranges.append(Ports(first, draw(st.just(first) | st.integers(first + 1, 65535))))
    side = draw(st.sampled_from(("dports", "sports", "ports")))
    return matches.Multiport(tuple(ranges), side, draw(st.booleans()))


def ct_states() -> Strategy[matches.CtState]:
    """Return states of connections."""
    conntrack = st.builds(matches.CtState, words_in_order(CT_STATES), st.booleans())
    state = st.builds(matches.CtState, words_in_order(CT_STATES[:5]), st.booleans(), st.just("state"))
    return conntrack | state


def addr_types(family: IpFamily) -> Strategy[matches.AddrType]:
    """Return types of addresses."""
    known = ADDRESS_TYPES if family is IpFamily.IPV4 else ADDRESS_TYPES6
    return st.builds(matches.AddrType, st.sampled_from(("src", "dst")), words_in_order(known), st.booleans())


@st.composite
def recents(draw: st.DrawFn, family: IpFamily) -> matches.Recent:
    """Return lists of addresses seen; conditions on time go with looking up only."""
    operation = draw(st.sampled_from(("set", "rcheck", "update", "remove")))
    looks_up = operation in ("rcheck", "update")
    seconds = draw(st.integers(0, 86400)) if looks_up else 0
    return matches.Recent(
        draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True)),
        operation,
        seconds,
        seconds > 0 and draw(st.booleans()),
        draw(st.integers(0, 20)) if looks_up else 0,
        draw(st.sampled_from(MASKS[family])),
        draw(st.sampled_from(("rsource", "rdest"))),
        draw(st.booleans()),
    )


MATCHES: dict[type[AnyMatch], Callable[[IpFamily], Strategy[AnyMatch]]] = {
    matches.Source: lambda family: endpoints(family, matches.Source),
    matches.Destination: lambda family: endpoints(family, matches.Destination),
    matches.InInterface: lambda _: interfaces(matches.InInterface),
    matches.OutInterface: lambda _: interfaces(matches.OutInterface),
    matches.Protocol: lambda _: protocols(),
    matches.OpaqueHeader: opaque_headers,
    matches.Comment: lambda _: st.builds(matches.Comment, texts()),
    matches.Transport: lambda _: st.sampled_from(TRANSPORTS).flatmap(transports),
    matches.Multiport: lambda _: multiports(),
    matches.CtState: lambda _: ct_states(),
    matches.Mark: lambda _: st.builds(matches.Mark, MARKS, MARKS | st.just(matches.FULL_MARK), st.booleans()),
    matches.AddrType: addr_types,
    matches.Random: lambda _: st.builds(matches.Random, st.integers(0, 1 << 31), st.booleans()),
    matches.Recent: recents,
    matches.Bpf: lambda family: st.builds(
        matches.Bpf, st.sampled_from(["1,6 0 0 0", SAME_ADDRESSES[family]])
    ),
    matches.Nfacct: lambda _: st.builds(matches.Nfacct, st.sampled_from(NFACCT_NAMES)),
    matches.Opaque: lambda _: st.builds(matches.Opaque, st.sampled_from(OTHER_MODULES)),
}
"""For each kind of match, a strategy for values that stand on their own in a rule."""

ACTIONS: dict[type[AnyAction], Callable[[IpFamily], Strategy[AnyAction]]] = {
    actions.Jump: lambda _: st.builds(actions.Jump, st.sampled_from(USER_CHAINS)),
    actions.Goto: lambda _: st.builds(actions.Goto, st.sampled_from(USER_CHAINS)),
    actions.Return: lambda _: st.just(actions.Return()),
    actions.Accept: lambda _: st.just(actions.Accept()),
    actions.Drop: lambda _: st.just(actions.Drop()),
    actions.Reject: lambda family: st.builds(actions.Reject, st.sampled_from(REPLIES[family])),
    actions.Dnat: lambda family: st.builds(actions.Dnat, addresses(family), st.integers(1, 65535)),
    actions.Masquerade: lambda _: st.builds(actions.Masquerade, st.booleans()),
    actions.SetMark: lambda _: st.builds(actions.SetMark, MARKS, MARKS | st.sampled_from((0, 0x4000))),
    actions.OpaqueAction: lambda _: st.sampled_from(
        (
            actions.OpaqueAction('-j LOG --log-prefix "a b: " --log-level 6'),
            actions.OpaqueAction("-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff"),
        )
    ),
}
"""The same for actions."""


@functools.cache
def of_kind(kind: type, family: IpFamily) -> Strategy[typing.Any]:
    """Return the strategy for a kind; made once, since making them is slow."""
    both: dict[type, typing.Any] = {**MATCHES, **ACTIONS}
    return both[kind](family)  # type: ignore[no-any-return]


NOT_IN_MODULES = (
    matches.Transport,
    matches.Multiport,
    *(kind for kind in MATCHES if issubclass(kind, matches.HeaderMatch)),
)
HEADER_OPTIONS = (matches.Source, matches.Destination, matches.InInterface, matches.OutInterface)

INPUT_HOOKS = ("PREROUTING", "INPUT")
OUTPUT_HOOKS = ("OUTPUT", "POSTROUTING")


@st.composite
def rules(
    draw: st.DrawFn,
    family: IpFamily,
    kinds: Sequence[type[AnyAction]] = tuple(ACTIONS),
    chain: str = "",
    lead: int = 0,
) -> Rule:
    """Return a rule of ``chain`` with one of the ``kinds`` of actions, or none.

    It holds each header condition once at most, ports only with their protocol, and leads to a user chain
    after the first ``lead``, so that rule sets of such rules have no circles.
    """
    header = draw(headers(family, chain))
    modules = draw(st.lists(st.sampled_from([k for k in MATCHES if k not in NOT_IN_MODULES]), max_size=4))
    conditions = [*header, *(draw(of_kind(kind, family)) for kind in modules)]
    protocol = next((m for m in header if isinstance(m, matches.Protocol)), None)
    if protocol and protocol.name in TRANSPORTS and not protocol.negated and draw(st.booleans()):
        conditions.append(draw(transports(protocol.name) | multiports()))
    if draw(st.booleans()):
        conditions = draw(st.permutations(conditions))
    return Rule(tuple(conditions), draw(verdicts(family, kinds, lead)))


@st.composite
def headers(draw: st.DrawFn, family: IpFamily, chain: str) -> list[AnyMatch]:
    """Return conditions on the header such as ``chain`` can have."""
    kinds = [
        kind
        for kind in HEADER_OPTIONS
        if not (kind is matches.OutInterface and chain in INPUT_HOOKS)
        and not (kind is matches.InInterface and chain in OUTPUT_HOOKS)
    ]
    chosen = draw(st.sets(st.sampled_from([*kinds, matches.Protocol, matches.OpaqueHeader]), max_size=4))
    found: list[AnyMatch] = [draw(of_kind(kind, family)) for kind in MATCHES if kind in chosen]
    opaque = [match.text for match in found if isinstance(match, matches.OpaqueHeader)]
    taken = {matches.Source: "-s", matches.Destination: "-d"}
    return [match for match in found if not any(taken.get(type(match), "none") in text for text in opaque)]


@st.composite
def verdicts(
    draw: st.DrawFn, family: IpFamily, kinds: Sequence[type[AnyAction]], lead: int
) -> tuple[AnyAction, ...]:
    """Return an action, or none; jumps lead to user chains after the first ``lead``."""
    jumps = (actions.Jump, actions.Goto)
    kind = draw(st.sampled_from([None, *(k for k in kinds if k not in jumps or lead < len(USER_CHAINS))]))
    if kind is None:
        return ()
    if kind in jumps:
        return (kind(draw(st.sampled_from(USER_CHAINS[lead:]))),)
    return (draw(of_kind(kind, family)),)


LOADABLE: dict[tuple[str, str], tuple[type[AnyAction], ...]] = {
    ("filter", ""): (
        actions.Jump,
        actions.Goto,
        actions.Return,
        actions.Accept,
        actions.Drop,
        actions.Reject,
        actions.SetMark,
        actions.OpaqueAction,
    ),
    ("nat", ""): (actions.Jump, actions.Goto, actions.Return, actions.Accept, actions.SetMark),
    ("nat", "PREROUTING"): (actions.Jump, actions.Dnat),
    ("nat", "POSTROUTING"): (actions.Jump, actions.Masquerade),
}
"""The actions that the kernel takes in a table, and in a chain of it."""


@st.composite
def rulesets(draw: st.DrawFn, family: IpFamily) -> Ruleset:
    """Return a sound rule set that the kernel takes."""
    names = draw(st.sets(st.sampled_from(("filter", "nat")), min_size=1))
    return Ruleset(family, {name: draw(tables(family, name)) for name in sorted(names)})


@st.composite
def tables(draw: st.DrawFn, family: IpFamily, name: str) -> Table:
    """Return a table with all user chains, whose jumps only lead to later ones."""
    table = empty_table(name)
    table.chains.update({chain: Chain(chain, []) for chain in USER_CHAINS})
    for chain in table.chains.values():
        lead = USER_CHAINS.index(chain.name) + 1 if chain.policy is None else 0
        kinds = LOADABLE.get((name, chain.name), LOADABLE[name, ""])
        found = draw(st.lists(rules(family, kinds, chain.name, lead), max_size=2))
        chain.rules = [with_protocol(rule) for rule in found]
    return table


def with_protocol(rule: Rule) -> Rule:
    """Return ``rule`` with TCP for its protocol if it translates ports, which the kernel asks for."""
    if not any(isinstance(action, actions.Dnat) for action in rule.actions):
        return rule
    kept = [
        m for m in rule.matches if not isinstance(m, matches.Protocol | matches.Transport | matches.Multiport)
    ]
    return Rule((matches.Protocol("tcp"), *kept), rule.actions)
