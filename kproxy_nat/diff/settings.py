"""What changed in the proxy's options, as far as rules show them."""

from __future__ import annotations

from collections.abc import Iterator

from kproxy_nat.diff.facts import Fact, Sign, Topic
from kproxy_nat.diff.wording import addresses_words
from kproxy_nat.recover.model import NodeSettings

_ALL = "the proxy's rules that belong to no Service"


def diff_settings(old: NodeSettings, new: NodeSettings, *, node_ports: bool = True) -> list[Fact]:
    """Return what differs in the proxy's options.

    What only follows from another mode is not said again. ``node_ports``, whether there are any, decides if
    the addresses that serve them are to be told then.
    """
    if NodeSettings() in (old, new):
        sign = Sign.ADDED if old == NodeSettings() else Sign.REMOVED
        return [] if old == new else [Fact(sign, Topic.RULES, _ALL)]
    same_mode = old.mode == new.mode
    facts = list(_arrangement(old, new))
    facts += _masquerade(old, new)
    if same_mode or node_ports:
        facts += _node_ports(old, new)
    if same_mode:
        facts += _switches(old, new)
    return facts


def _arrangement(old: NodeSettings, new: NodeSettings) -> Iterator[Fact]:
    if old.mode != new.mode and old.mode and new.mode:
        text = f"rules of mode {new.mode}, no longer of mode {old.mode}"
        yield Fact(Sign.CHANGED, Topic.RULES, text)
    if old.layout != new.layout and old.layout and new.layout:
        yield Fact(
            Sign.CHANGED, Topic.RULES, f"rules in layout {new.layout}, no longer in layout {old.layout}"
        )


def _masquerade(old: NodeSettings, new: NodeSettings) -> Iterator[Fact]:
    if old.masquerade_mark != new.masquerade_mark:
        text = (
            f"traffic to be masqueraded has mark {new.masquerade_mark:#x}, no longer {old.masquerade_mark:#x}"
        )
        yield Fact(Sign.CHANGED, Topic.MASQUERADE, text)


def _node_ports(old: NodeSettings, new: NodeSettings) -> Iterator[Fact]:
    if old.node_ports_on is None or new.node_ports_on is None:
        return
    if sorted(old.node_ports_on) != sorted(new.node_ports_on):
        before, after = addresses_words(old.node_ports_on), addresses_words(new.node_ports_on)
        text = f"node ports are open on {after}, no longer on {before}"
        yield Fact(Sign.CHANGED, Topic.ADDRESSES, text)


def _switches(old: NodeSettings, new: NodeSettings) -> Iterator[Fact]:
    switches = (
        (old.guards_localhost, new.guards_localhost, "neighbours are kept from loopback addresses"),
        (old.drops_invalid, new.drops_invalid, "packets that conntrack calls INVALID are dropped"),
        (old.random_fully, new.random_fully, "masquerading draws ports at random"),
        (old.masquerades_hairpin, new.masquerades_hairpin, "what an endpoint sends to itself is masqueraded"),
    )
    for was, is_now, text in switches:
        if was != is_now:
            yield Fact(Sign.ADDED if is_now else Sign.REMOVED, Topic.RULES, text)
    for cidr in sorted({*old.service_cidrs} ^ {*new.service_cidrs}):
        sign = Sign.ADDED if cidr in new.service_cidrs else Sign.REMOVED
        yield Fact(sign, Topic.RULES, f"what goes to an address in {cidr} that no Service has is dropped")
