"""Laws of dumps that are written from transactions: they are those of the rule sets that evaluation makes."""

from __future__ import annotations

import pytest
from hypothesis import given

from kproxy_nat.formats.iptables_dump import join_dump, split_dump
from kproxy_nat.formats.iptables_dump_render import dump_transaction
from kproxy_nat.formats.iptables_render import render_save
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import Ruleset, empty_table
from kproxy_nat.ruleset.transactions import (
    AppendAlike,
    AppendRules,
    DeclareChain,
    DeclareChains,
    DeleteChain,
    evaluate,
)
from tests.oracle.compiling import random_input
from tests.property.test_patterns import FAMILY_AND_COMMANDS, LAW, transaction


@LAW
@given(FAMILY_AND_COMMANDS)
def test_patterns_are_written_as_what_they_make(drawn: tuple[IpFamily, list[AppendAlike]]) -> None:
    family, commands = drawn
    chains = list(dict.fromkeys(chain for command in commands for chain in command.chains))
    made = transaction(family, DeclareChains(chains), *commands, *commands)
    base = Ruleset(family, {"nat": empty_table("nat")})
    assert dump_transaction(made, base) == split_dump(render_save(evaluate(made, base)), family)


@LAW
@given(FAMILY_AND_COMMANDS)
def test_a_chain_that_is_declared_again_is_empty(drawn: tuple[IpFamily, list[AppendAlike]]) -> None:
    family, commands = drawn
    chains = list(dict.fromkeys(chain for command in commands for chain in command.chains))
    once = transaction(family, DeclareChains(chains), *commands)
    base = Ruleset(family, {"nat": empty_table("nat")})
    again = [DeclareChain(chain) for chain in chains]
    emptied = transaction(family, DeclareChains(chains), *commands, *commands, *again, *commands)
    assert dump_transaction(emptied, base) == dump_transaction(once, base)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", LayoutName)
@pytest.mark.parametrize("family", IpFamily)
def test_layouts_are_written_as_what_they_make(name: LayoutName, family: IpFamily, seed: int) -> None:
    """Also the order of chains is that of a listing."""
    layout = Layout(name)
    view = random_input(seed).view(family)
    dump = dump_transaction(layout.transaction(view), layout.jumps(family))
    expected = split_dump(render_save(layout.ruleset(view)), family)
    assert dump == expected
    assert join_dump(dump) == render_save(layout.ruleset(view))
    for name_of_table, table in dump.tables.items():
        assert list(table.chains) == list(expected.table(name_of_table).chains)


def test_what_takes_away_is_refused() -> None:
    base = Ruleset(IpFamily.IPV4, {"nat": empty_table("nat")})
    for command in (DeleteChain("A"), AppendRules("A", ())):
        with pytest.raises(KeyError):
            dump_transaction(transaction(IpFamily.IPV4, command), base)
