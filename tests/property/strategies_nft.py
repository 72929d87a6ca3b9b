"""Rules and tables of nftables to test with, of every kind of match and action that has a type.

The kernel takes the tables of :func:`tables` and nft lists them without rewriting what is canonical.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.actions import DestinationEntry, NftAction, Verdict, VerdictEntry
from kproxy_nat.ruleset.keys import DESTINATION_PORTS, Field, Key, KeyPart, KeyValue, Numgen, Value
from kproxy_nat.ruleset.matches import FULL_MARK, AnyMatch
from kproxy_nat.ruleset.nft_values import ADDRESS_TYPES, INTEGER, key_types
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Chain, Hook, Rule, Table
from kproxy_nat.ruleset.sets import VERDICT, Element, NamedSet
from tests.property.strategies_rules import MARKS, Strategy, addresses, networks, words_in_order

LEAF = "leaf/tcp/80__x.y"
CT_STATES = ("INVALID", "ESTABLISHED", "RELATED", "NEW", "UNTRACKED")
CT_STATUSES = ("expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "dying")
ADDRESS_KINDS = ("UNICAST", "LOCAL", "BROADCAST", "MULTICAST")
PROTOCOLS = ("icmp", "tcp", "udp", "sctp", "99")
PORTS = st.integers(1, 65535)
COMMENTS = st.text(
    st.characters(codec="ascii", min_codepoint=32, exclude_characters='"'), min_size=1, max_size=128
)
INTERFACES = st.from_regex(r"[a-z0-9][a-z0-9.:@-]{0,12}\+?", fullmatch=True)
SERVICE_KEY: Key = (Field.DESTINATION, Field.PROTOCOL, Field.DESTINATION_PORT)
KEYS: tuple[Key, ...] = (
    (Field.SOURCE,),
    (Field.PROTOCOL,),
    (Field.DESTINATION_PORT,),
    SERVICE_KEY,
    (Field.PROTOCOL, Field.DESTINATION_PORT),
    (Field.SOURCE, Field.DESTINATION, Field.PROTOCOL, Field.DESTINATION_PORT),
)


def slots_key(protocol: str) -> Key:
    """Return the key of a map of slots."""
    return Field.DESTINATION, DESTINATION_PORTS[protocol], Numgen(300)


def set_name(key: Key, kind: str) -> str:
    """Return the name of the set or map of a table that has this key."""
    return f"{kind}-{'-'.join(str(part).split()[-1] for part in key)}"


def values(part: KeyPart, family: IpFamily) -> Strategy[Value]:
    """Return values of a part of a key."""
    if isinstance(part, Numgen):
        return st.integers(part.offset, part.offset + part.modulus - 1)
    if part in (Field.SOURCE, Field.DESTINATION):
        return addresses(family)
    # nft lists a protocol without a name as a number.
    protocols = st.sampled_from(PROTOCOLS).map(lambda name: int(name) if name.isdecimal() else name)
    return protocols if part is Field.PROTOCOL else PORTS


def key_values(key: Key, family: IpFamily) -> Strategy[KeyValue]:
    """Return values of a key."""
    return st.tuples(*(values(part, family) for part in key))


@st.composite
def ranges(draw: st.DrawFn, family: IpFamily) -> str:
    """Return a range of addresses."""
    first = ipaddress.ip_address(draw(addresses(family)))
    last = int(first) + draw(st.integers(1, 1000))
    if last >= 1 << family.bits:
        return str(first)
    return f"{first}-{type(first)(last)}"


def networks_or_ranges(family: IpFamily) -> Strategy[str]:
    """Return what an anonymous set of addresses may hold."""
    return networks(family, smallest=1) | ranges(family)


@st.composite
def sets_of_values(draw: st.DrawFn, family: IpFamily) -> AnyMatch:
    """Return look-ups in anonymous sets."""
    key = draw(st.sampled_from(KEYS))
    of_one = networks_or_ranges(family).map(lambda value: (value,))
    items = of_one if key == (Field.SOURCE,) else key_values(key, family)
    return matches.OneOf(key, tuple(draw(st.lists(items, min_size=1, max_size=6))), draw(st.booleans()))


def interface(kind: Callable[[str, bool], AnyMatch]) -> Strategy[AnyMatch]:
    """Return matches of an interface."""
    return st.builds(kind, INTERFACES, st.booleans())


def masked_marks() -> Strategy[AnyMatch]:
    """Return matches of the mark, but not under the first bits alone: nft may list these as a prefix."""
    masks = st.integers(1, FULL_MARK).filter(
        lambda mask: mask == FULL_MARK or (FULL_MARK - mask) & (FULL_MARK - mask + 1)
    )
    return st.builds(matches.Mark, MARKS, masks, st.booleans()).map(
        lambda m: matches.Mark(m.value & m.mask, m.mask, m.negated)
    )


MATCHES: dict[type[AnyMatch], Callable[[IpFamily], Strategy[AnyMatch]]] = {
    matches.Source: lambda f: st.builds(matches.Source, networks(f, smallest=1), st.booleans()),
    matches.Destination: lambda f: st.builds(matches.Destination, networks(f, smallest=1), st.booleans()),
    matches.InInterface: lambda _: interface(matches.InInterface),
    matches.OutInterface: lambda _: interface(matches.OutInterface),
    matches.Protocol: lambda _: st.builds(matches.Protocol, st.sampled_from(PROTOCOLS), st.booleans()),
    matches.CtState: lambda _: words_in_order(CT_STATES).map(matches.CtState),
    matches.CtStatus: lambda _: words_in_order(CT_STATUSES).map(matches.CtStatus),
    matches.Mark: lambda _: masked_marks(),
    matches.AddrType: lambda _: st.builds(
        matches.AddrType, st.sampled_from(("src", "dst")), words_in_order(ADDRESS_KINDS), st.booleans()
    ),
    matches.Lookup: lambda _: st.builds(
        lambda key, negated: matches.Lookup(key, set_name(key, "set"), negated),
        st.sampled_from(KEYS),
        st.booleans(),
    ),
    matches.OneOf: sets_of_values,
    matches.Counter: lambda _: st.just(matches.Counter()),
    matches.Comment: lambda _: COMMENTS.map(matches.Comment),
}

VERDICTS: Strategy[Verdict] = st.sampled_from(
    (actions.Accept(), actions.Drop(), actions.Return(), actions.Jump(LEAF), actions.Goto(LEAF))
)
NUMGENS = st.builds(
    Numgen, st.integers(1, 300), st.sampled_from(("random", "inc")), st.sampled_from((0, 0, 7))
)


def verdict_maps(family: IpFamily) -> Strategy[NftAction]:
    """Return verdict maps, named and anonymous."""
    named = st.sampled_from(KEYS).map(lambda key: actions.VerdictMap(key, set_name(key, "verdicts")))
    keys = st.sampled_from(KEYS) | NUMGENS.map(lambda numgen: (numgen,))
    return named | keys.flatmap(lambda key: entries(key, family))


def entries(key: Key, family: IpFamily) -> Strategy[NftAction]:
    """Return anonymous verdict maps."""
    found = st.dictionaries(key_values(key, family), VERDICTS, min_size=1, max_size=8)
    return found.map(
        lambda items: actions.VerdictMap(key, tuple(VerdictEntry(k, verdict) for k, verdict in items.items()))
    )


@st.composite
def destination_maps(draw: st.DrawFn, family: IpFamily) -> NftAction:
    """Return translations through maps, named and anonymous."""
    which = draw(st.sampled_from(("named", "slots", "one port", "anonymous")))
    if which == "named":
        return actions.DnatMap(SERVICE_KEY, set_name(SERVICE_KEY, "destinations"))
    if which == "one port":
        return actions.DnatMap((draw(NUMGENS),), "addresses", draw(PORTS))
    if which == "slots":
        protocol, port = draw(st.sampled_from(list(DESTINATION_PORTS.items())))
        return actions.DnatMap((Field.DESTINATION, port, draw(NUMGENS)), f"slots-{protocol}")
    numgen = draw(NUMGENS)
    slots = draw(st.lists(st.tuples(addresses(family), PORTS), min_size=1, max_size=numgen.modulus))
    found = tuple(DestinationEntry((numgen.offset + n,), *slot) for n, slot in enumerate(slots))
    return actions.DnatMap((numgen,), found)


def set_marks() -> Strategy[actions.SetMark]:
    """Return changes of the mark that are one operation of nft."""
    return st.one_of(
        MARKS.map(lambda value: actions.SetMark(value, FULL_MARK)),
        st.integers(1, FULL_MARK - 1).map(lambda bit: actions.SetMark(bit, bit)),
        st.integers(1, FULL_MARK).map(lambda bit: actions.SetMark(bit, 0)),
        st.integers(1, FULL_MARK).map(lambda bit: actions.SetMark(0, bit)),
    )


NOTE_CLIENT = actions.UpdateSet("clients", (Field.SOURCE,))
STATEMENTS: dict[type, Callable[[IpFamily], Strategy[actions.AnyAction]]] = {
    actions.SetMark: lambda _: set_marks(),
    actions.UpdateSet: lambda _: st.just(NOTE_CLIENT),
}
ENDS: dict[type, Callable[[IpFamily], Strategy[actions.AnyAction]]] = {
    actions.Accept: lambda _: st.just(actions.Accept()),
    actions.Drop: lambda _: st.just(actions.Drop()),
    actions.Return: lambda _: st.just(actions.Return()),
    actions.Jump: lambda _: st.just(actions.Jump(LEAF)),
    actions.Goto: lambda _: st.just(actions.Goto(LEAF)),
    actions.Reject: lambda _: st.just(actions.Reject()),
    actions.Masquerade: lambda _: st.builds(actions.Masquerade, random_fully=st.booleans()),
    actions.Dnat: lambda f: st.builds(actions.Dnat, addresses(f), PORTS),
    actions.VerdictMap: verdict_maps,
    actions.DnatMap: destination_maps,
}


def keyed(item: AnyMatch | actions.AnyAction) -> Key:
    """Return the key of what has one."""
    if isinstance(item, matches.OneOf | matches.Lookup | actions.VerdictMap | actions.DnatMap):
        return item.key
    return ()


def is_about_transport(item: AnyMatch | actions.AnyAction) -> bool:
    """Tell whether protocol or port is asked: nft joins two such conditions to one, as in ``tcp dport``."""
    parts = keyed(item)
    return isinstance(item, matches.Protocol) or not {Field.SOURCE, Field.DESTINATION}.issuperset(parts)


@st.composite
def nft_rules(draw: st.DrawFn, family: IpFamily) -> Rule:
    """Return rules that have at least one statement."""
    kinds = draw(st.lists(st.sampled_from(list(MATCHES)), max_size=3, unique=True))
    found = [draw(MATCHES[kind](family)) for kind in kinds if kind is not matches.Comment]
    acts = [draw(STATEMENTS[kind](family)) for kind in draw(st.sets(st.sampled_from(list(STATEMENTS))))]
    end = draw(st.sampled_from([None, *ENDS]))
    if end is not None:
        acts.append(draw(ENDS[end](family)))
    if acts and is_about_transport(acts[-1]):
        found = [match for match in found if not is_about_transport(match)]
    transport = [match for match in found if is_about_transport(match)]
    found = [match for match in found if match not in transport[1:]]
    if end in (actions.Dnat, actions.DnatMap) and not keyed(acts[-1])[1:]:
        found = [*(match for match in found if not is_about_transport(match)), matches.Protocol("tcp")]
    if not found and not acts:
        found.append(matches.Counter())
    if matches.Comment in kinds:
        found.append(draw(MATCHES[matches.Comment](family)))
    return Rule(tuple(found), tuple(acts))


@st.composite
def named_sets(draw: st.DrawFn, family: IpFamily) -> dict[str, NamedSet]:
    """Return the sets and maps that the rules of :func:`nft_rules` name."""
    timeout, size = draw(st.integers(1, 86400)), draw(st.sampled_from((65535, 10)))
    clients = NamedSet("clients", (ADDRESS_TYPES[family],), timeout=timeout, size=size)
    clients.flags = ("dynamic", "timeout")
    found = [clients]
    for key in KEYS:
        types = key_types(key, family)
        given = draw(st.lists(key_values(key, family), max_size=6, unique=True))
        comments = st.just("") | COMMENTS
        plain = {k: Element(k, comment=draw(comments)) for k in given}
        found.append(NamedSet(set_name(key, "set"), types, (), draw(comments), elements=plain))
        verdicts = {k: Element(k, draw(VERDICTS), draw(comments)) for k in given}
        found.append(NamedSet(set_name(key, "verdicts"), types, (VERDICT,), elements=verdicts))
    types, values_of = key_types(SERVICE_KEY, family), (ADDRESS_TYPES[family], "inet_service")
    slots = draw(st.lists(key_values(SERVICE_KEY, family), max_size=4, unique=True))
    destinations = {k: Element(k, (draw(addresses(family)), draw(PORTS))) for k in slots}
    found.append(NamedSet(set_name(SERVICE_KEY, "destinations"), types, values_of, elements=destinations))
    for protocol in DESTINATION_PORTS:
        types = key_types(slots_key(protocol), family)
        slots = draw(st.lists(key_values(slots_key(protocol), family), max_size=4, unique=True))
        destinations = {k: Element(k, (draw(addresses(family)), draw(PORTS))) for k in slots}
        named = NamedSet(f"slots-{protocol}", types, values_of, elements=destinations, transport=protocol)
        found.append(named)
    numbers = draw(st.lists(st.integers(0, 300), max_size=4, unique=True))
    numbered: dict[KeyValue, Element] = {(n,): Element((n,), (draw(addresses(family)),)) for n in numbers}
    found.append(NamedSet("addresses", (INTEGER,), values_of[:1], size=512, elements=numbered))
    return {named.name: named for named in found}


def hooks(kinds: Sequence[str]) -> Strategy[Hook]:
    """Return hooks that every kernel has."""
    places = ("prerouting", "input", "forward", "output", "postrouting")
    return st.builds(Hook, st.sampled_from(kinds), st.sampled_from(places), st.integers(-400, 400))


@st.composite
def tables(draw: st.DrawFn, family: IpFamily) -> Table:
    """Return a table that the kernel takes: only chains without rules of their own are base chains."""
    # nft's JSON tells a set that rules add to only by these rules, and the protocol of a map likewise.
    leaf = [Rule((), (NOTE_CLIENT,)), Rule((), (actions.Drop(),))]
    chains = {LEAF: Chain(LEAF, leaf, comment=draw(st.just("") | COMMENTS))}
    translating = [
        Rule((), (actions.DnatMap(slots_key(protocol), f"slots-{protocol}"),))
        for protocol in DESTINATION_PORTS
    ]
    chains["translating"] = Chain("translating", translating)
    for number in range(draw(st.integers(1, 3))):
        name = f"chain-{number}"
        chains[name] = Chain(name, draw(st.lists(nft_rules(family), max_size=6)))
    for number in range(draw(st.integers(0, 2))):
        name, policy = f"base-{number}", draw(st.sampled_from(("ACCEPT", "DROP")))
        chains[name] = Chain(name, policy=policy, hook=draw(hooks(("filter",))))
    comment = draw(st.just("") | COMMENTS)
    return Table("tables", chains, NFT_FAMILIES[family], comment, draw(named_sets(family)))
