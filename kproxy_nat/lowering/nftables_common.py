"""What the nftables layouts share: keys, and the transaction under construction."""

from __future__ import annotations

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import AnyAction, Verdict
from kproxy_nat.ruleset.keys import Field, Key, KeyValue
from kproxy_nat.ruleset.matches import AnyMatch, Comment
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddElement,
    AddRule,
    FlushChain,
    NftCommand,
    NftTableTransaction,
)
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Hook, Rule, RuleOrigin
from kproxy_nat.ruleset.sets import Element

SERVICE_KEY: Key = (Field.DESTINATION, Field.PROTOCOL, Field.DESTINATION_PORT)
NODE_PORT_KEY: Key = (Field.PROTOCOL, Field.DESTINATION_PORT)
HAIRPIN_KEY: Key = (Field.SOURCE, Field.DESTINATION, Field.PROTOCOL, Field.DESTINATION_PORT)


class NftTransactionBuilder:
    """A transaction for one table, in which nothing is made or added twice."""

    def __init__(self) -> None:
        self.commands: list[NftCommand] = []
        self._chains: set[str] = set()
        self._elements: set[tuple[str, KeyValue]] = set()

    def add(self, command: NftCommand) -> None:
        """Add any command."""
        self.commands.append(command)

    def ensure_chain(self, name: str, hook: Hook | None = None, comment: str = "") -> bool:
        """Make a chain and empty it, unless that is done already; return whether it was not."""
        if name in self._chains:
            return False
        self._chains.add(name)
        self.commands += (AddChain(name, hook, comment), FlushChain(name))
        return True

    def rule(
        self,
        chain: str,
        matches: tuple[AnyMatch, ...],
        actions: tuple[AnyAction, ...],
        comment: str = "",
        origin: RuleOrigin | None = None,
    ) -> None:
        """Append a rule to a chain."""
        if comment:
            matches = (*matches, Comment(comment))
        self.commands.append(AddRule(chain, Rule(matches, actions, origin)))

    def element(self, name: str, key: KeyValue, verdict: Verdict | None = None, comment: str = "") -> bool:
        """Add an element to a set or map, and return whether it is new: the first with a key stays."""
        if (name, key) in self._elements:
            return False
        self._elements.add((name, key))
        self.commands.append(AddElement(name, Element(key, verdict, comment)))
        return True

    def extend(self, other: NftTransactionBuilder) -> None:
        """Add the commands of another builder."""
        self.commands += other.commands

    def build(self, family: IpFamily, table: str) -> NftTableTransaction:
        """Return the transaction."""
        return NftTableTransaction(NFT_FAMILIES[family], table, self.commands)
