"""The canonical rules of rules/identity*.rules are what parsing and rendering leave alone."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_parse import parse_restore, parse_save
from kproxy_nat.formats.iptables_render import render_rule, render_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS
from kproxy_nat.ruleset.transactions import AppendRules
from tests.corpus import IdentityBlock, identity_blocks, identity_dump

BLOCKS = [block for family in IpFamily for block in identity_blocks(family)]


def rendered(line: str, table: str, family: IpFamily) -> str:
    (part,) = parse_restore(f"*{table}\n{line}\nCOMMIT\n", family).tables
    (command,) = part.commands
    assert isinstance(command, AppendRules)
    (rule,) = command.rules
    return f"-A {command.chain} {render_rule(rule, family)}".rstrip()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.family}-{b.table}-{b.topic}")
def test_a_canonical_rule_stays_as_it_is(block: IdentityBlock) -> None:
    assert [rendered(line, block.table, block.family) for line in block.lines] == list(block.lines)


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("table", BUILTIN_CHAINS)
def test_a_table_of_canonical_rules_stays_as_it_is(family: IpFamily, table: str) -> None:
    dump = identity_dump(family, table)
    assert render_save(parse_save(dump, family)) == dump


@pytest.mark.parametrize("family", IpFamily)
def test_every_line_is_there_once(family: IpFamily) -> None:
    lines = [(block.table, line) for block in identity_blocks(family) for line in block.lines]
    assert len(lines) > 700
    assert len(lines) == len(set(lines))
