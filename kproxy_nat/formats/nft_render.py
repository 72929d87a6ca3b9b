"""Tables of nftables as ``nft list ruleset`` prints them, and transactions as scripts for ``nft -f``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kproxy_nat.formats.nft_priorities import priority_text
from kproxy_nat.formats.nft_words import (
    NotWritableError,
    identifier,
    listing_words,
    quoted,
    script_words,
    value_text,
    verdict_text,
)
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_canonical import canonical_nft_rule, canonical_set
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddElement,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteElement,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    NftCommand,
    NftTableTransaction,
)
from kproxy_nat.ruleset.nft_values import INTEGER
from kproxy_nat.ruleset.rules import Chain, Hook, Rule, Table
from kproxy_nat.ruleset.sets import Element, NamedSet

TYPE_EXPRESSIONS = {
    "ipv4_addr": "ip daddr",
    "ipv6_addr": "ip6 daddr",
    "inet_proto": "meta l4proto",
    "inet_service": "{transport} dport",
    INTEGER: "numgen random mod 2",
}
"""Expressions that have a type, for ``typeof``."""

_NEW_LINE = ",\n\t\t\t     "
_ELEMENTS_A_LINE = {"ipv4_addr": 2, "inet_proto": 5, "inet_service": 5, "integer": 5, "mark": 5}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def family_of_table(table: Table) -> IpFamily:
    """Return the IP family in which to read the addresses of a table's keys."""
    return IpFamily.IPV6 if table.family == "ip6" else IpFamily.IPV4


def render_listing(tables: Iterable[Table]) -> str:
    """Return the tables as ``nft list ruleset`` (1.0.6) prints them after loading.

    Raises:
        NotWritableError: a rule or name has no form in nft's text.
    """
    return "".join(map(_listed_table, tables))


def listed_rule(rule: Rule, table: Table) -> str:
    """Return one rule as nft lists it.

    Raises:
        NotWritableError: a part of it has no form in nft's text.
    """
    return listing_words(table.family).rule(canonical_nft_rule(rule, family_of_table(table)))


def _listed_table(table: Table) -> str:
    blocks = [_listed_set(named) for named in table.sets.values()]
    blocks += [_listed_chain(chain, table) for chain in table.chains.values()]
    comment = f"\tcomment {quoted(table.comment)}\n" if table.comment else ""
    body = "\n".join(blocks)
    return f"table {table.family} {identifier(table.name)} {{\n{comment}{body}}}\n"


def _listed_chain(chain: Chain, table: Table) -> str:
    lines = [f"\tchain {identifier(chain.name)} {{\n"]
    if chain.comment:
        lines.append(f"\t\tcomment {quoted(chain.comment)}\n")
    if chain.hook:
        policy = (chain.policy or "ACCEPT").lower()
        lines.append(f"\t\t{hook_text(chain.hook, priority_text(chain.hook))}; policy {policy};\n")
    lines += [f"\t\t{listed_rule(rule, table)}\n" for rule in chain.rules]
    return "".join((*lines, "\t}\n"))


def hook_text(hook: Hook, priority: str) -> str:
    """Return where a base chain is called, with its priority as given."""
    devices = [quoted(device) for device in hook.devices]
    place = f" device {devices[0]}" if len(devices) == 1 else f" devices = {{ {', '.join(devices)} }}"
    return f"type {hook.type} hook {hook.name}{place if devices else ''} priority {priority}"


def _listed_set(named: NamedSet) -> str:
    listed = canonical_set(named)
    if listed.other:
        raise NotWritableError(f"set {listed.name} has properties without a form in text: {listed.other}")
    kind = "map" if listed.value_types else "set"
    lines = [f"\t{kind} {identifier(listed.name)} {{\n", f"\t\t{types_text(listed)}\n"]
    if listed.size:
        lines.append(f"\t\tsize {listed.size}\n")
    if listed.flags:
        lines.append(f"\t\tflags {','.join(listed.flags)}\n")
    if listed.timeout:
        lines.append(f"\t\ttimeout {duration_text(listed.timeout)}\n")
    if listed.comment:
        lines.append(f"\t\tcomment {quoted(listed.comment)}\n")
    if listed.elements:
        lines.append(f"\t\telements = {{ {_listed_elements(listed)} }}\n")
    return "".join((*lines, "\t}\n"))


def types_text(named: NamedSet) -> str:
    """Return what declares the types of a set or map: ``type ipv4_addr . inet_service : verdict``.

    Those with generated numbers need expressions that have the types; which of them makes no difference.

    Raises:
        NotWritableError: a type has no such expression here.
    """
    groups = [types for types in (named.key_types, named.value_types) if types]
    if INTEGER not in named.key_types:
        return f"type {' : '.join(' . '.join(types) for types in groups)}"
    transport = named.transport or "th"
    return f"typeof {' : '.join(' . '.join(_expressions(types, transport)) for types in groups)}"


def _expressions(types: Iterable[str], transport: str) -> Iterator[str]:
    for kind in types:
        if kind not in TYPE_EXPRESSIONS:
            raise NotWritableError(f"no expression is known here that has the type {kind}")
        yield TYPE_EXPRESSIONS[kind].format(transport=transport)


def _listed_elements(named: NamedSet) -> str:
    in_a_line = _ELEMENTS_A_LINE.get(named.key_types[0], 1) if len(named.key_types) == 1 else 1
    texts = _element_texts(named)
    lines = [texts[start : start + in_a_line] for start in range(0, len(texts), in_a_line)]
    return _NEW_LINE.join(", ".join(line) for line in lines)


def _element_texts(named: NamedSet) -> list[str]:
    return [element_text(element, named.key_types) for element in named.elements.values()]


def element_text(element: Element, types: Sequence[str] = ()) -> str:
    """Return an element as scripts and listings have it: key, properties, then what it leads to.

    ``types`` are those of the key, where they are known.

    Raises:
        NotWritableError: it has no form in nft's text.
    """
    if element.other:
        raise NotWritableError(f"an element has properties without a form in text: {element.other}")
    text = value_text(element.key, types)
    if element.timeout:
        text += f" timeout {duration_text(element.timeout)}"
    if element.expires:
        text += f" expires {duration_text(element.expires)}"
    if element.comment:
        text += f" comment {quoted(element.comment)}"
    if element.value is None:
        return text
    value = value_text(element.value) if isinstance(element.value, tuple) else verdict_text(element.value)
    return f"{text} : {value}"


def duration_text(seconds: int) -> str:
    """Return a time as nft lists it: ``1h1m1s``."""
    text = ""
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def render_script(parts: Iterable[NftTableTransaction]) -> str:
    """Return the transaction as kube-proxy writes it for ``nft -f -``, a command a line.

    Raises:
        NotWritableError: a rule or name has no form in nft's text.
    """
    return "".join(line for part in parts for line in _script_lines(part))


def _script_lines(part: NftTableTransaction) -> Iterator[str]:
    place = f"{part.family} {identifier(part.table)}"
    words = script_words(part.family)
    for command in part.commands:
        if type(command) is AddRule:
            yield f"add rule {place} {identifier(command.chain)} {words.rule(command.rule)}\n"
        else:
            yield f"{_COMMANDS[type(command)](command, place)}\n"


def _block(*properties: str) -> str:
    """Return the properties of an object in braces; nothing if there are none."""
    given = [f"{text} ; " for text in properties if text]
    return f" {{ {''.join(given)}}}" if given else ""


def _comment(text: str) -> str:
    return f"comment {quoted(text)}" if text else ""


def _add_table(command: AddTable, place: str) -> str:
    return f"add table {place}{_block(_comment(command.comment))}"


def _add_chain(command: AddChain, place: str) -> str:
    hook = command.hook
    kind = hook_text(hook, str(hook.priority)) if hook else ""
    policy = f"policy {command.policy.lower()}" if command.policy else ""
    return f"add chain {place} {identifier(command.name)}{_block(kind, policy, _comment(command.comment))}"


def _add_set(command: AddSet, place: str) -> str:
    named = command.set
    block = _block(
        types_text(named),
        f"flags {','.join(named.flags)}" if named.flags else "",
        f"timeout {named.timeout}s" if named.timeout else "",
        f"size {named.size}" if named.size else "",
        _comment(named.comment),
        f"elements = {{ {', '.join(_element_texts(named))} }}" if named.elements else "",
    )
    return f"add {'map' if named.value_types else 'set'} {place} {identifier(named.name)}{block}"


_COMMANDS: dict[type[NftCommand], Callable[[Any, str], str]] = {
    AddTable: _add_table,
    DeleteTable: lambda _, place: f"delete table {place}",
    AddChain: _add_chain,
    FlushChain: lambda c, place: f"flush chain {place} {identifier(c.name)}",
    DeleteChain: lambda c, place: f"delete chain {place} {identifier(c.name)}",
    AddSet: _add_set,
    FlushSet: lambda c, place: f"flush set {place} {identifier(c.name)}",
    DeleteSet: lambda c, place: f"delete set {place} {identifier(c.name)}",
    AddElement: lambda c, place: f"add element {place} {identifier(c.set)} {{ {element_text(c.element)} }}",
    DeleteElement: lambda c, place: f"delete element {place} {identifier(c.set)} {{ {value_text(c.key)} }}",
}
