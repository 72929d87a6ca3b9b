"""Rules as people write them become the rules that the kernel lists."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_parse import parse_restore
from kproxy_nat.formats.iptables_quoting import split_words
from kproxy_nat.formats.iptables_render import render_restore, render_rule
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.actions import OpaqueAction
from kproxy_nat.ruleset.matches import Nfacct, Opaque, OpaqueHeader
from kproxy_nat.ruleset.rules import Rule
from kproxy_nat.ruleset.transactions import AppendRules, InsertRule
from tests.corpus import Form, forms

DEVIATIONS = {
    # The nf_tables variant compares ports with its own expressions, and prints what they amount to.
    "-A INPUT -p tcp ! --dport 0:1023 -j ACCEPT": "a negated range from port 0 is turned round",
    "-A INPUT -p tcp --sport 80 -m tcp --dport 90 -j ACCEPT": "a second -m tcp is merged into the first",
}
"""Forms whose listing differs from ours on purpose, with the reason."""


def parsed(form: Form) -> list[tuple[str, Rule]]:
    (part,) = parse_restore(f"*{form.table}\n{form.written}\nCOMMIT\n", form.family).tables
    found: list[tuple[str, Rule]] = []
    for command in part.commands:
        assert isinstance(command, AppendRules | InsertRule)
        rules = command.rules if isinstance(command, AppendRules) else (command.rule,)
        found.extend((command.chain, rule) for rule in rules)
    return found


def opaque_texts(rule: Rule) -> list[str]:
    kinds = (Opaque, OpaqueHeader, OpaqueAction)
    return [item.text for item in (*rule.matches, *rule.actions) if isinstance(item, kinds)]


def is_opaque(form: Form) -> bool:
    return any(opaque_texts(rule) for _, rule in parsed(form))


UNDERSTOOD = [form for form in forms() if not is_opaque(form) and form.written not in DEVIATIONS]


@pytest.mark.parametrize("form", UNDERSTOOD, ids=lambda f: f.written)
def test_a_form_is_rendered_as_the_kernel_lists_it(form: Form) -> None:
    rendered = [f"-A {chain} {render_rule(rule, form.family)}".rstrip() for chain, rule in parsed(form)]
    assert rendered == list(form.listed)


@pytest.mark.parametrize("written", DEVIATIONS)
def test_a_known_deviation_is_one_still(written: str) -> None:
    (form,) = [form for form in forms() if form.written == written]
    rendered = [f"-A {chain} {render_rule(rule, form.family)}" for chain, rule in parsed(form)]
    assert rendered != list(form.listed)


@pytest.mark.parametrize("form", [form for form in forms() if is_opaque(form)], ids=lambda f: f.written)
def test_what_is_kept_word_for_word_keeps_the_order_of_its_words(form: Form) -> None:
    """Each kept text is a subsequence of the words written, but for a module that its options imply."""
    for _, rule in parsed(form):
        for text in opaque_texts(rule):
            written = iter(word.value for word in split_words(form.written.replace("--fragment", "-f")))
            kept = [word.value for word in split_words(text)]
            implied = kept[0] == "-m" and f"-m {kept[1]}" not in form.written
            assert all(word in written for word in kept[2 if implied else 0 :]), text


def test_hardly_any_form_deviates() -> None:
    opaque = sum(is_opaque(form) for form in forms())
    assert len(forms()) - opaque > 150


SERVICE = '-m comment --comment "shop/web:http cluster IP" -m tcp -p tcp -d 10.96.0.7'
AS_KUBE_PROXY_WRITES = (
    f"-A KUBE-SERVICES {SERVICE} --dport 80 -j KUBE-SVC-ERIFXISQEP7F7OF4",
    f"-A KUBE-SERVICES {SERVICE} ! --dport 80 -j REJECT",
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000",
    "-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000",
    "-A KUBE-POSTROUTING -j MARK --set-xmark 0x00000001/0x000000ff",
    "-A KUBE-POSTROUTING -m mark --mark 0x00000001",
    '-A KUBE-POSTROUTING -m comment --comment "traffic requiring SNAT" -j MASQUERADE --random-fully',
    "-A KUBE-SVC-ERIFXISQEP7F7OF4 -m statistic --mode random --probability 0.3333333333 -j KUBE-SEP-A",
    "-A KUBE-SEP-A -m recent --name KUBE-SEP-A --rcheck --seconds 10800 --reap -j RETURN",
    "-A KUBE-SEP-A -m comment --comment shop/web:http -s 10.244.0.5 -j KUBE-MARK-MASQ",
    "-A KUBE-SEP-A -m recent --name KUBE-SEP-A --set -m udp -p udp -j DNAT --to-destination 10.244.0.5:53",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A KUBE-FIREWALL -m nfacct --nfacct-name localhost_nps_accepted_pkts -j RETURN",
    "-A KUBE-NODEPORTS -m addrtype --dst-type LOCAL -j DROP",
)
"""Options stay in their places, marks have all digits and shares ten decimals; defaults are left out."""


@pytest.mark.parametrize("line", AS_KUBE_PROXY_WRITES)
def test_restore_style_is_that_of_kube_proxy(line: str) -> None:
    text = f"*nat\n{line}\nCOMMIT\n"
    assert render_restore(parse_restore(text, IpFamily.IPV4)) == text


@pytest.mark.parametrize(
    ("arguments", "family"),
    [
        ("-m recent --set --name x --mask 255.255.255.255 --rdest", IpFamily.IPV4),
        ("-m recent --set --name x --mask 255.255.255.0 --rsource", IpFamily.IPV4),
        ("-m recent --set --name x --mask ffff:: --rsource", IpFamily.IPV6),
        ('-m recent --set --name "two words"', IpFamily.IPV4),
    ],
)
def test_restore_style_says_all_of_recent(arguments: str, family: IpFamily) -> None:
    first = parse_restore(f"*filter\n-A INPUT {arguments}\nCOMMIT\n", family)
    assert parse_restore(render_restore(first), family) == first


def test_a_name_may_look_like_an_option() -> None:
    form = Form("-A INPUT -m nfacct --nfacct-name -x", (), IpFamily.IPV4, "filter")
    assert parsed(form)[0][1].matches == (Nfacct("-x"),)


def test_a_mapped_address_stays_one() -> None:
    rule = "-p tcp -j DNAT --to-destination [::ffff:10.0.0.1]:80"
    ((_, read),) = parsed(Form(f"-A OUTPUT {rule}", (), IpFamily.IPV6, "nat"))
    assert render_rule(read, IpFamily.IPV6) == rule
