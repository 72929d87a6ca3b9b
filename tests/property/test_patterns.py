"""Laws of patterns: what a template or the evaluation makes of one are its rules, chain by chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.formats.iptables_render import render_restore
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.ruleset.actions import AnyAction, Dnat, Goto, Jump
from kproxy_nat.ruleset.matches import Comment, Destination, Recent, Source
from kproxy_nat.ruleset.rules import Rule, RuleOrigin
from kproxy_nat.ruleset.transactions import (
    AppendAlike,
    AppendRules,
    Command,
    DeclareChain,
    DeclareChains,
    TableTransaction,
    Transaction,
    evaluate,
)
from tests.property import examples
from tests.property.strategies_rules import addresses, rules

NAMES = st.from_regex(r"[A-Z][A-Z0-9-]{0,15}", fullmatch=True)
LAW = settings(deadline=None, max_examples=examples(60))


@dataclass(frozen=True)
class Pattern:
    """Any rules, with words wherever these can stand."""

    rest: tuple[Rule, ...]
    goes_on: bool
    port: int

    def rules(self, chain: str, words: Sequence[str], origin: RuleOrigin | None) -> list[Rule]:
        source, destination, target = Address(words[0]), Address(words[1]), words[2]
        verdict: AnyAction = Goto(target) if self.goes_on else Jump(target)
        comment = Comment(f"{target} is where {chain} leads")
        own = (comment, Source(source), Recent(chain, "set"), Destination(destination, negated=True))
        return [
            *(Rule((*own, *rule.matches), rule.actions, origin) for rule in self.rest),
            Rule(own, (Dnat(destination, self.port),), origin),
            Rule((), (verdict,), origin),
        ]


@st.composite
def alike(draw: st.DrawFn, family: IpFamily) -> AppendAlike:
    pattern = Pattern(
        tuple(draw(st.lists(rules(family), max_size=2))), draw(st.booleans()), draw(st.integers(1, 65535))
    )
    chains = draw(st.lists(NAMES, unique=True, max_size=4))
    kinds = (addresses(family), addresses(family), NAMES)
    words = [draw(st.lists(kind, min_size=len(chains), max_size=len(chains))) for kind in kinds]
    return AppendAlike(pattern, chains, words, RuleOrigin("a subject", "file", 1))


def one_by_one(command: AppendAlike) -> list[Command]:
    rows = zip(command.chains, *command.words, strict=True)
    return [AppendRules(c, command.pattern.rules(c, words, command.origin)) for c, *words in rows]


def transaction(family: IpFamily, *commands: Command) -> Transaction:
    return Transaction(family, [TableTransaction("nat", list(commands))])


FAMILY_AND_COMMANDS = st.sampled_from(IpFamily).flatmap(
    lambda family: st.tuples(st.just(family), st.lists(alike(family), min_size=1, max_size=3))
)


@LAW
@given(FAMILY_AND_COMMANDS)
def test_a_pattern_is_written_as_its_rules_are(drawn: tuple[IpFamily, list[AppendAlike]]) -> None:
    family, commands = drawn
    expanded = [single for command in commands for single in one_by_one(command)]
    assert render_restore(transaction(family, *commands)) == render_restore(transaction(family, *expanded))


@LAW
@given(FAMILY_AND_COMMANDS)
def test_a_pattern_is_evaluated_as_its_rules_are(drawn: tuple[IpFamily, list[AppendAlike]]) -> None:
    family, commands = drawn
    declared = DeclareChains(list(dict.fromkeys(chain for command in commands for chain in command.chains)))
    expanded = [single for command in commands for single in one_by_one(command)]
    found = evaluate(transaction(family, declared, *commands))
    assert found == evaluate(transaction(family, declared, *expanded))
    assert all(rule.origin == commands[0].origin for _, _, rule in found.rules())


@LAW
@given(st.lists(NAMES))
def test_chains_are_declared_as_one_by_one(names: list[str]) -> None:
    together = transaction(IpFamily.IPV4, DeclareChains(names))
    singly = transaction(IpFamily.IPV4, *map(DeclareChain, names))
    assert render_restore(together) == render_restore(singly)
    assert evaluate(together) == evaluate(singly)
