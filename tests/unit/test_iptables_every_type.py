"""No kind of match or action is forgotten: each is written, generated and listed."""

from __future__ import annotations

import typing
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.formats.iptables_words import RESTORE_WRITERS, save_writers
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import IptablesAction
from kproxy_nat.ruleset.matches import IptablesMatch
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS
from tests.corpus import identity_dump
from tests.property.strategies_rules import ACTIONS, MATCHES

KINDS: tuple[type, ...] = (*typing.get_args(IptablesMatch), *typing.get_args(IptablesAction))


@cache
def kinds_in_identity_files() -> set[type]:
    found: set[type] = set()
    for family in IpFamily:
        for table in BUILTIN_CHAINS:
            for _, _, rule in parse_save(identity_dump(family, table), family).rules():
                found.update(type(item) for item in (*rule.matches, *rule.actions))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_written_in_both_styles(kind: type) -> None:
    assert kind in RESTORE_WRITERS
    assert all(kind in save_writers(family) for family in IpFamily)


def test_nothing_else_is_written() -> None:
    assert RESTORE_WRITERS.keys() == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_in_the_identity_files(kind: type) -> None:
    assert kind in kinds_in_identity_files()


@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_generated(kind: type, family: IpFamily) -> None:
    strategies: dict[type, typing.Any] = {**MATCHES, **ACTIONS}

    @settings(max_examples=3, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        assert type(data.draw(strategies[kind](family))) is kind

    check()
