"""The canonical form of nftables rules and sets: what nft lists after loading its own listing."""

from __future__ import annotations

import msgspec

from kproxy_nat.net.addresses import Address, Cidr, IpFamily, listed_by_kernel_tools
from kproxy_nat.ruleset.actions import AnyAction, DestinationEntry, Dnat, DnatMap, VerdictEntry, VerdictMap
from kproxy_nat.ruleset.keys import Field, KeyValue
from kproxy_nat.ruleset.matches import AnyMatch, Comment, Destination, OneOf, Protocol, Source
from kproxy_nat.ruleset.nft_values import in_listed_order, key_types, listed_value, merged_networks
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.sets import Element, NamedSet

_ADDRESS_MATCH: dict[Field, type[Source | Destination]] = {
    Field.SOURCE: Source,
    Field.DESTINATION: Destination,
}


def canonical_nft_rule(rule: Rule, family: IpFamily) -> Rule:
    """Return ``rule`` as nft lists it: the comment last, host networks as addresses, sets in order."""
    matches = [_canonical_match(match, family) for match in rule.matches]
    comments = [match for match in matches if isinstance(match, Comment)]
    conditions = [match for match in matches if not isinstance(match, Comment)]
    actions = tuple(_canonical_action(action, family) for action in rule.actions)
    return Rule((*conditions, *comments), actions, rule.origin, rule.counters)


def _canonical_match(match: AnyMatch, family: IpFamily) -> AnyMatch:
    if isinstance(match, Source | Destination):
        return type(match)(_listed_network(match.network), match.negated)
    if isinstance(match, OneOf):
        return _canonical_one_of(match, family)
    return match


def _listed_network(network: str) -> Address | Cidr:
    address, _, length = network.partition("/")
    if length == ("128" if ":" in address else "32"):
        network = address
    return Cidr(listed_by_kernel_tools(network))


def _canonical_one_of(match: OneOf, family: IpFamily) -> AnyMatch:
    values = list(dict.fromkeys(map(_listed_key, match.values)))
    part = match.key[0] if len(match.key) == 1 else None
    if part in _ADDRESS_MATCH:
        if len(values) > 1:
            values = _merged(values)
        if len(values) == 1 and "-" not in str(values[0][0]):
            assert isinstance(part, Field)
            return _ADDRESS_MATCH[part](_listed_network(str(values[0][0])), match.negated)
        return OneOf(match.key, tuple(values), match.negated)
    if part is Field.PROTOCOL and len(values) == 1:
        return Protocol(str(values[0][0]), match.negated)
    return OneOf(match.key, tuple(in_listed_order(values, key_types(match.key, family))), match.negated)


def _merged(values: list[KeyValue]) -> list[KeyValue]:
    try:
        return [(value,) for value in merged_networks(str(value) for (value,) in values)]
    except (OSError, ValueError):
        # A damaged rule, which nft would refuse: there is nothing to merge.
        return values


def _canonical_action(action: AnyAction, family: IpFamily) -> AnyAction:
    if isinstance(action, Dnat):
        return Dnat(Address(listed_by_kernel_tools(action.address)), action.port)
    if isinstance(action, VerdictMap) and not isinstance(action.map, str):
        verdicts = {_listed_key(entry.key): entry.verdict for entry in action.map}
        order = in_listed_order(verdicts, key_types(action.key, family))
        return VerdictMap(action.key, tuple(VerdictEntry(key, verdicts[key]) for key in order))
    if isinstance(action, DnatMap) and not isinstance(action.map, str):
        entries = {_listed_key(entry.key): entry for entry in action.map}
        order = in_listed_order(entries, key_types(action.key, family))
        return DnatMap(action.key, tuple(_listed_destination(key, entries[key]) for key in order))
    return action


def _listed_destination(key: KeyValue, entry: DestinationEntry) -> DestinationEntry:
    return DestinationEntry(key, Address(listed_by_kernel_tools(entry.address)), entry.port)


def _listed_key(key: KeyValue) -> KeyValue:
    return tuple(map(listed_value, key))


def canonical_set(named: NamedSet) -> NamedSet:
    """Return a set or map as nft lists it: with its elements in order."""
    elements = {_listed_key(key): element for key, element in named.elements.items()}
    order = in_listed_order(elements, named.key_types)
    listed = {key: _listed_element(key, elements[key]) for key in order}
    return msgspec.structs.replace(named, elements=listed)


def _listed_element(key: KeyValue, element: Element) -> Element:
    value = element.value
    if isinstance(value, tuple):
        value = _listed_key(value)
    return msgspec.structs.replace(element, key=key, value=value)
