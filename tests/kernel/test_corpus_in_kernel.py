"""The kernel lists what we render: the corpus, generated rule sets, and what transactions leave behind."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kproxy_nat.apply.tools import Variant, find_iptables
from kproxy_nat.formats.iptables_parse import parse_restore, parse_save
from kproxy_nat.formats.iptables_quoting import restore_word, save_word
from kproxy_nat.formats.iptables_render import render_restore, render_rule, render_save
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.ruleset import transactions
from kproxy_nat.ruleset.actions import Accept, Drop, Jump
from kproxy_nat.ruleset.matches import Comment, Protocol, Source
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS, Rule, Ruleset
from kproxy_nat.ruleset.transactions import AppendRules, Command, InsertRule, TransactionError, evaluate
from kproxy_nat.ruleset.wellformed import faults
from tests.corpus import Form, forms, identity_dump, jump_targets, without_comments
from tests.kernel.netns import (
    VARIANTS,
    WAIT,
    KernelRefusedError,
    load_and_save,
    requires_kernel,
    run_in_fresh_namespace,
)
from tests.property import examples
from tests.property.strategies_rules import NFACCT_NAMES, rulesets
from tests.unit.test_ruleset_transactions import BASE as UNIT_BASE
from tests.unit.test_ruleset_transactions import MISWRITTEN, REFUSED, RULES_OF_A, WHOLE_TABLE, after

pytestmark = [pytest.mark.kernel, requires_kernel]

SETUP = """
ipset create kset hash:ip; ipset create knet hash:net; ipset create kipport hash:ip,port
ipset create kiptrip hash:ip,port,ip; ipset create 'cali40s:abcDEF_-0123456789' hash:net
ipset create kskb hash:ip skbinfo
ipset create kset6 hash:ip family inet6; ipset create kipport6 hash:ip,port family inet6
for name in http-traffic ct_state_invalid_dropped_pkts ct_state_invalid_nodes localhost_nps_accepted_pkts; do
    nfacct add $name
done
"""
"""What the rules of the corpus refer to."""

ONLY_NFT = (
    "-A INPUT -m limit --limit 1/day -j ACCEPT\n",  # refused
    "-A INPUT ! -i + -j DROP\n",  # listed without its condition
    f"-A INPUT -j NFLOG --nflog-prefix {'1234567890' * 7}\n",  # cut after 63 characters
)
"""Canonical rules that the legacy variant does not keep."""

NAMES = {
    Path("/etc/iproute2/group"): "-A INPUT -m devgroup --src-group default -j ACCEPT\n",
    Path("/etc/iproute2/rt_realms"): "-A INPUT -m realm --realm cosmos -j ACCEPT\n",
}
"""Rules with names that iptables looks up in these files. Debian 13 has them elsewhere."""

NUMBERED_LATER = {
    "igmp": 2,
    "ipencap": 4,
    "ipv6": 41,
    "gre": 47,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tp": 115,
}
"""Protocols that iptables 1.8.9 lists by their name in ``/etc/protocols``, and 1.8.11 by their number."""

_PROTOCOL = re.compile(r" -p (\w+) ")

TAKEN_LATER = {"-R A 1 -s 1.1.1.1,2.2.2.2": "-s 1.1.1.1/32"}
"""Commands that iptables 1.8.9 refuses, and of which 1.8.11 takes a part."""

IN_KERNEL = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def is_later() -> bool:
    """Whether the iptables that is installed is later than the one that the corpus is of."""
    return find_iptables(Variant.NFT).version > (1, 8, 9)


def canonical_dump(family: IpFamily, table: str, variant: str) -> str:
    """Return the canonical rules of a table that the iptables that is installed keeps, as it lists them."""
    dump = identity_dump(family, table)
    absent = [line for file, line in NAMES.items() if not file.exists()]
    for line in (*absent, *(ONLY_NFT if variant == "legacy" else ())):
        dump = dump.replace(line, "")
    if is_later():
        dump = _PROTOCOL.sub(lambda word: f" -p {NUMBERED_LATER.get(word[1], word[1])} ", dump)
    return dump


def with_protocol_names(dump: str) -> str:
    """Return a dump of a later iptables with the names of protocols that the canonical form has."""
    names = {str(number): name for name, number in NUMBERED_LATER.items()}
    return _PROTOCOL.sub(lambda word: f" -p {names.get(word[1], word[1])} ", dump)


def listed(text: str, variant: str, family: IpFamily) -> str:
    """Load a text that may name the sets and objects of the corpus, and return what is listed then."""
    tool = f"{'iptables' if family is IpFamily.IPV4 else 'ip6tables'}-{variant}"
    done = run_in_fresh_namespace(f"{SETUP}\n{tool}-restore {WAIT} && {tool}-save", text)
    assert done.returncode == 0, done.stderr
    return without_comments(done.stdout)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", IpFamily)
@pytest.mark.parametrize("table", BUILTIN_CHAINS)
def test_the_kernel_lists_canonical_rules_as_they_are(table: str, family: IpFamily, variant: str) -> None:
    dump = canonical_dump(family, table, variant)
    assert listed(dump, variant, family) == dump


def place(form: Form) -> tuple[str, str]:
    return form.family, form.table


FORM_GROUPS = {
    f"{family}-{table}": list(group)
    for (family, table), group in itertools.groupby(sorted(forms(), key=place), key=place)
}


@pytest.mark.parametrize("group", FORM_GROUPS.values(), ids=FORM_GROUPS)
def test_the_kernel_reads_our_canonical_text_as_it_reads_the_form(group: list[Form]) -> None:
    """Also of rules kept word for word: nothing of them was lost."""
    family, table = group[0].family, group[0].table
    written = list(itertools.chain(*(canonical_lines(form) for form in group)))
    chains = {name for line in written for name in (line.split()[1], *jump_targets(line))}
    order = [*BUILTIN_CHAINS[table], *sorted(chains - set(BUILTIN_CHAINS[table]))]
    declared = [f":{name} - [0:0]" for name in order]
    found = listed("\n".join([f"*{table}", *declared, *written, "COMMIT", ""]), "nft", family)
    expected = [line for form in group for line in form.listed]
    by_chain = sorted(expected, key=lambda line: order.index(line.split()[1]))
    assert [line for line in found.split("\n") if line.startswith("-A")] == by_chain


def canonical_lines(form: Form) -> list[str]:
    """Return the rules of a form as we render them."""
    (part,) = parse_restore(f"*{form.table}\n{form.written}\nCOMMIT\n", form.family).tables
    lines = []
    for command in part.commands:
        assert isinstance(command, AppendRules | InsertRule)
        for rule in rules_of(command):
            lines.append(f"-A {command.chain} {render_rule(rule, form.family)}")
    return lines


def rules_of(command: AppendRules | InsertRule | transactions.ReplaceRule) -> Sequence[Rule]:
    return command.rules if isinstance(command, AppendRules) else (command.rule,)


AWKWARD = [
    "",
    "-j",
    "!",
    "--comment",
    "COMMIT",
    "#",
    "it's",
    '"',
    "\\",
    'say "hi"',
    "C:\\new",
    "`$(x)` ${y}",
    "tab\there",
    " blanks ",
    "größe 日本",
    "\x01\x1b\x7f",
    "a\vb\fc",
    "\u00a0\u2028\x85",
    "default/web:http has no endpoints",
    "[1:2] -A INPUT",
    "\U0001f600" * 60,
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kernel_keeps_awkward_comments(variant: str) -> None:
    """Written in either style they are listed as we render them."""
    saved = [f"-A INPUT -m comment --comment {save_word(text)}\n" for text in AWKWARD]
    restored = [f"-A INPUT -m comment --comment {restore_word(text)}\n" for text in AWKWARD]
    for lines in (saved, restored):
        text = load_and_save(f"*filter\n{''.join(lines)}COMMIT\n", variant)
        assert [f"{line}\n" for line in text.split("\n") if line.startswith("-A")] == saved
        comments = [rule.matches for _, _, rule in parse_save(text, IpFamily.IPV4).rules()]
        assert comments == [(Comment(awkward),) for awkward in AWKWARD]


@pytest.mark.parametrize("family", IpFamily)
def test_the_kernel_lists_generated_rule_sets_as_we_render_them(family: IpFamily) -> None:
    @settings(IN_KERNEL, max_examples=examples(20))
    @given(rulesets(family))
    def check(ruleset: Ruleset) -> None:
        text = render_save(ruleset)
        for variant in VARIANTS:
            found = load_and_save(text, variant, family, NFACCT_NAMES)
            # The legacy variant lists tables in the order of their use.
            assert sorted(found.split("COMMIT\n")) == sorted(text.split("COMMIT\n")), variant

    check()


CHAINS = ("INPUT", "K", "L", "M")
SMALL_RULES = (
    Rule((Protocol("tcp"),), ()),
    Rule((Protocol("udp"),), (Accept(),)),
    Rule((Source(Address("10.0.0.1")),), (Drop(),)),
    Rule((Comment("two words"),), ()),
    Rule((), (Jump("L"),)),
    Rule((), (Jump("M"),)),
)
BASE = "*filter\n:K - [0:0]\n:L - [0:0]\n-A INPUT -p tcp\n-A K -p tcp\n-A K -s 10.0.0.1/32 -j DROP\nCOMMIT\n"

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        AppendRules, st.sampled_from(CHAINS), st.lists(st.sampled_from(SMALL_RULES), min_size=1, max_size=2)
    ),
    st.builds(InsertRule, st.sampled_from(CHAINS), st.sampled_from(SMALL_RULES), st.integers(1, 3)),
    st.builds(
        transactions.ReplaceRule, st.sampled_from(CHAINS), st.sampled_from(SMALL_RULES), st.integers(1, 3)
    ),
    st.builds(transactions.DeleteRule, st.sampled_from(CHAINS), st.sampled_from(SMALL_RULES)),
    st.builds(transactions.DeleteRuleAt, st.sampled_from(CHAINS), st.integers(1, 3)),
    st.builds(transactions.NewChain, st.sampled_from(CHAINS)),
    st.builds(transactions.DeleteChain, st.sampled_from((*CHAINS, None))),
    st.builds(transactions.FlushChain, st.sampled_from((*CHAINS, None))),
    st.builds(transactions.RenameChain, st.sampled_from(CHAINS), st.sampled_from(CHAINS)),
    st.builds(transactions.SetPolicy, st.sampled_from(CHAINS), st.sampled_from(("ACCEPT", "DROP"))),
    st.builds(transactions.DeclareChain, st.sampled_from(CHAINS[1:])),
    st.builds(transactions.DeclareChain, st.just("INPUT"), st.sampled_from(("ACCEPT", "DROP"))),
    st.builds(transactions.ZeroCounters, st.sampled_from((*CHAINS, None))),
)


def may_close_a_circle(command: Command) -> bool:
    """Whether it leads to the same or an earlier chain: a circle need not be refused."""
    if isinstance(command, AppendRules | InsertRule | transactions.ReplaceRule):
        actions = itertools.chain(*(rule.actions for rule in rules_of(command)))
        return any(isinstance(a, Jump) and a.chain <= command.chain for a in actions)
    return False


@st.composite
def scripts(draw: st.DrawFn) -> list[Command]:
    """Return commands that can be carried out, in some scripts with one at the end that can not."""
    ruleset = parse_save(BASE, IpFamily.IPV4)
    script: list[Command] = []
    impossible: list[Command] = []
    for command in draw(st.lists(COMMANDS, min_size=20, max_size=40)):
        if may_close_a_circle(command):
            continue
        changed = applied(command, ruleset)
        if changed is None:
            impossible = [command]
        else:
            ruleset = changed
            script.append(command)
    return script + (impossible if draw(st.sampled_from((False, False, False, True))) else [])


def applied(command: Command, ruleset: Ruleset) -> Ruleset | None:
    """Return what a command makes of a rule set; ``None`` if it cannot be carried out."""
    try:
        changed = evaluate(script_of([command]), ruleset)
    except TransactionError:
        return None
    return None if list(faults(changed)) else changed


def script_of(commands: list[Command]) -> transactions.Transaction:
    return transactions.Transaction(IpFamily.IPV4, [transactions.TableTransaction("filter", commands)])


def foretold(commands: list[Command]) -> str | None:
    """Return what the commands make of the base by our account; ``None`` if they are refused."""
    try:
        ruleset = evaluate(script_of(commands), parse_save(BASE, IpFamily.IPV4))
    except TransactionError:
        return None
    return None if list(faults(ruleset)) else render_save(ruleset)


def carried_out(text: str, variant: str, base: str = BASE) -> str | None:
    """Return what the kernel makes of it."""
    tool = f"iptables-{variant}"
    load_base = f"{tool}-restore {WAIT} <<'END' || exit 99\n{base}END\n"
    apply = f"printf '%s\\n' \"$commands\" | {tool}-restore {WAIT} --noflush && {tool}-save"
    done = run_in_fresh_namespace(f"commands=$(cat)\n{load_base}{apply}", text)
    assert done.returncode != 99, done.stderr
    return without_comments(done.stdout) if done.returncode == 0 else None


def variants_for(commands: Sequence[Command]) -> tuple[str, ...]:
    """Return the variants to ask: iptables-nft-restore 1.8.9 has faults of its own with some commands.

    It crashes or miscounts where a number means a rule of the same file, loses renamed chains, lets
    built-in ones be deleted, and forgets the policy set by the same file when it zeroes counters.
    """
    for command in commands:
        match command:
            case transactions.ReplaceRule() | transactions.DeleteRuleAt() | transactions.RenameChain():
                return ("legacy",)
            case transactions.ZeroCounters():
                return ("legacy",)
            case InsertRule(_, _, position) if position > 1:
                return ("legacy",)
            case transactions.DeleteChain(name) if name in BUILTIN_CHAINS["filter"]:
                return ("legacy",)
            case _:
                pass
    return VARIANTS


@settings(IN_KERNEL, max_examples=examples(40))
@given(scripts())
def test_commands_do_what_the_kernel_does(commands: list[Command]) -> None:
    expected = foretold(commands)
    text = render_restore(script_of(commands))
    for variant in variants_for(commands):
        assert carried_out(text, variant) == expected, (variant, text)


@pytest.mark.parametrize("commands", [command for command, _ in (*RULES_OF_A, *REFUSED)] + [*WHOLE_TABLE])
def test_what_the_unit_tests_expect_of_commands_is_what_they_do(commands: str) -> None:
    text = f"*filter\n{commands}\nCOMMIT\n"
    expected = None if commands in dict(REFUSED) else after(commands)
    for variant in variants_for(parse_restore(text, IpFamily.IPV4).tables[0].commands):
        found = carried_out(text, variant, UNIT_BASE)
        assert (found and found.split("\n")[1:-2]) == expected, variant


@pytest.mark.parametrize("command", [command for command, _ in MISWRITTEN])
def test_what_the_parser_refuses_of_commands_the_kernel_refuses(command: str) -> None:
    for variant in VARIANTS:
        done = carried_out(f"*filter\n{command}\nCOMMIT\n", variant, UNIT_BASE)
        if is_later() and command in TAKEN_LATER:
            assert TAKEN_LATER[command] in str(done)
        else:
            assert done is None, variant


def test_a_refusal_of_the_kernel_is_told() -> None:
    for variant in VARIANTS:
        with pytest.raises(KernelRefusedError, match="line"):
            load_and_save("*filter\n-A GONE\nCOMMIT\n", variant)
