"""What both shapes of the compact layout for nftables share: traffic from outside, and source ranges."""

from __future__ import annotations

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.local_traffic import local_traffic
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.proxy.ports import ServicePort
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.actions import Drop, Goto, SetMark
from kproxy_nat.ruleset.keys import Field
from kproxy_nat.ruleset.matches import AddrType, AnyMatch, Comment, OneOf
from kproxy_nat.ruleset.nft_values import merged_networks
from kproxy_nat.ruleset.rules import Rule

_FROM_LOCAL = AddrType("src", ("LOCAL",))


def external_rules(
    view: NodeView, to_cluster: str, to_local: str | None, *, external_local: bool
) -> list[Rule]:
    """Return what traffic from outside meets: masquerade, or the short cuts of the policy Local.

    ``to_local`` is the chain that draws endpoints on this node, ``None`` if there are none.
    """
    bit = 1 << view.options.masquerade_bit
    masqueraded = (SetMark(bit, bit), Goto(to_cluster))
    if not external_local:
        return [Rule((Comment("masquerade"),), masqueraded)]
    rules = []
    pods = local_traffic(view, negated=False)
    if pods is not None:
        rules.append(Rule((pods, Comment("short-circuit pod traffic")), (Goto(to_cluster),)))
    rules.append(Rule((_FROM_LOCAL, Comment("masquerade and short-circuit local traffic")), masqueraded))
    if to_local is not None:
        rules.append(Rule((), (Goto(to_local),)))
    return rules


def ensure_firewall_chain(port: ServicePort, view: NodeView, out: NftTransactionBuilder) -> str:
    """Return the chain that drops what comes from elsewhere than the sources that a port admits.

    Service ports that admit the same sources share a chain, also where one spells them in another way: what
    lies within another range is not in the name, as nft does not keep it either.
    """
    sources = sorted(merged_networks(view.admitted_sources(port)))
    chain = names.FIREWALL_PREFIX + names.short_hash(" ".join(sources))
    if out.ensure_chain(chain):
        values = tuple((source,) for source in sources)
        matches: tuple[AnyMatch, ...] = (OneOf((Field.SOURCE,), values, negated=True),)
        out.rule(chain, matches, (Drop(),))
    return chain
