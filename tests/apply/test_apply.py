"""Apply, over whatever is there; each time the whole dump is what it must be."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kproxy_nat.net.addresses import IpFamily
from tests.apply.bench import NOTHING, TOOLS, Bench, compiled, environment, expected, put_before
from tests.apply.tables import (
    BUILTIN,
    Tables,
    counters,
    numbered,
    parse,
    render,
    without_counters,
)
from tests.corpus import HERE as CORPUS
from tests.corpus import read, without_comments
from tests.kernel.netns import requires_kernel

pytestmark = [pytest.mark.kernel, requires_kernel]

STALE = """*nat
:KUBE-SVC-STALESTALESTALE2 - [0:0]
:KUBE-SEP-STALESTALESTALE2 - [0:0]
-A KUBE-SVC-STALESTALESTALE2 -j KUBE-SEP-STALESTALESTALE2
-A KUBE-SEP-STALESTALESTALE2 -p tcp -m tcp -j DNAT --to-destination {address}:80
COMMIT
"""
CANARIES = "".join(
    f"*{table}\n:KUBE-KUBELET-CANARY - [0:0]\n{':KUBE-IPTABLES-HINT - [0:0]' * (table == 'mangle')}\nCOMMIT\n"
    for table in ("mangle", "nat", "filter")
)
MARTIAN = (
    "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment "
    '--comment "block incoming localnet connections" '
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
UNREADABLE = """table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		ct state vmap { established : accept, new : continue }
	}
}
"""
KUBELET_FIREWALL = (
    "*filter\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL\n"
    f"{MARTIAN}\nCOMMIT\n"
)


def count_rules(bench: Bench) -> dict[IpFamily, str]:
    """Give each rule a counter of its own; return the rules with counters."""
    for family in IpFamily:
        bench.load(numbered(bench.counted(family)), family, "--counters")
    return {family: bench.counted(family) for family in IpFamily}


def load_corpus(bench: Bench, *names: str) -> None:
    """Load dumps one after the other, without rules that refer to sets."""
    for name in names:
        family = IpFamily.IPV6 if "6" in name else IpFamily.IPV4
        text = without_comments(read(CORPUS / "dumps" / name))
        bench.load(re.sub(r"(?m)^.*--match-set.*\n", "", text), family, "--noflush")


def load_foreign(bench: Bench) -> None:
    """Load Docker's and ufw's rules, policies DROP among them, and some of a user."""
    load_corpus(bench, "docker.rules", "ufw.rules", "docker6.rules")
    for family in IpFamily:
        bench.iptables("-t nat -A OUTPUT -p tcp --dport 7 -j ACCEPT", family)
        bench.iptables("-t mangle -P FORWARD DROP", family)
        bench.iptables("-A INPUT -p tcp --dport 22 -j ACCEPT", family)


def load_kubelet(bench: Bench) -> None:
    for family in IpFamily:
        bench.load(CANARIES, family, "--noflush")
    bench.load(KUBELET_FIREWALL, IpFamily.IPV4, "--noflush")


class TestOverNothing:
    def test_apply(self, bench: Bench, first: Path) -> None:
        result = bench.done("apply", first)
        assert bench.dump() == expected(first)
        assert f"{bench.name}: apply done and verified\n" in result.out
        assert result.err == ""
        assert bench.finished() == ["0001"]
        bench.done("delete")
        assert bench.dump() == NOTHING

    def test_one_family(self, bench: Bench, first: Path) -> None:
        bench.iptables("-A INPUT -p tcp --dport 22 -j ACCEPT", IpFamily.IPV6)
        before = bench.dump()
        bench.done("apply", first, "--family", "ipv4")
        assert bench.dump() == {**before, IpFamily.IPV4: expected(first)[IpFamily.IPV4]}
        bench.done("apply", first, "--family", "ipv6")
        assert bench.dump() == expected(first, before)
        bench.done("rollback")
        assert bench.dump() == {**before, IpFamily.IPV4: expected(first)[IpFamily.IPV4]}
        bench.done("rollback")
        assert bench.dump() == before

    def test_without_ipv6(self, bench: Bench, first: Path) -> None:
        bench.set_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
        result = bench.done("apply", first)
        assert "IPv6 is switched off" in result.err
        assert bench.dump() == {**NOTHING, IpFamily.IPV4: expected(first)[IpFamily.IPV4]}

    def test_a_kube_proxy_is_warned_of(self, bench: Bench, first: Path) -> None:
        bench.load("*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n")
        before = bench.dump()
        result = bench.done("apply", first)
        assert "warning[KPN517]" in result.err
        assert bench.dump() == expected(first, before)


class TestOverOurs:
    def test_the_same(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        before = count_rules(bench)
        result = bench.done("apply", first)
        assert result.out == f"{bench.name}: nothing to change\n"
        assert {family: bench.counted(family) for family in IpFamily} == before
        assert bench.finished() == ["0001"]

    def test_another_revision(self, bench: Bench, first: Path, second: Path) -> None:
        """All rules that stay keep their counters, also in chains that are written anew."""
        bench.done("apply", first)
        before = count_rules(bench)
        bench.done("apply", second)
        assert bench.dump() == expected(second)
        for family in IpFamily:
            after = bench.counted(family)
            old, new = counters(before[family]), counters(after)
            stayed = new.keys() & old.keys()
            assert {key: new[key] for key in stayed} == {key: old[key] for key in stayed}
            assert {new[key] for key in new.keys() - old.keys()} == {"[0:0]"}
            assert without_counters(after) == expected(second)[family]

    def test_only_chains_that_differ_are_written(
        self, bench: Bench, first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.done("apply", first)
        for tool in TOOLS.values():
            script = f'tee "{tmp_path}/{tool}.written" | exec "$REAL" "$@"'
            put_before(f"{tool}-{bench.variant}-restore", script, tmp_path / "tools", monkeypatch)
        bench.done("apply", second)
        assert bench.dump() == expected(second)
        for family, tool in TOOLS.items():
            text = (tmp_path / f"{tool}.written").read_text(encoding="utf-8")
            old, new = (parse(compiled(source, "--nfacct")[family]) for source in (first, second))
            assert set(re.findall(r"(?m)^:(\S+) ", text)) == differing(old, new)
            assert not re.search(r"(?m)^(\[\S+\] )?-[DI] ", text)

    def test_jumps_removed_by_hand_are_put_back(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        before = bench.dump()
        for family in IpFamily:
            bench.iptables("-D INPUT -j KUBE-FIREWALL", family)
            bench.iptables("-t nat -D PREROUTING 1", family)
            bench.iptables("-D FORWARD 1", family)
        assert bench.dump() != before
        bench.done("apply", first)
        assert bench.dump() == before

    def test_rules_edited_by_hand_are_put_right(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        before = bench.dump()
        for family in IpFamily:
            bench.iptables("-t nat -F KUBE-SERVICES", family)
            bench.iptables("-I KUBE-FORWARD -j DROP", family)
        bench.done("apply", first)
        assert bench.dump() == before

    def test_stale_chains_of_kube_proxy_go(self, bench: Bench, first: Path) -> None:
        for family, address in zip(IpFamily, ("10.0.0.1", "[fd00::1]"), strict=True):
            bench.load(STALE.format(address=address), family)
        bench.done("apply", first)
        assert bench.dump() == expected(first)

    def test_rules_of_a_kube_proxy_are_taken_over(self, bench: Bench, first: Path) -> None:
        for family in IpFamily:
            bench.load(compiled(first)[family], family)
        result = bench.done("apply", first, "--no-nfacct")
        assert "iptables: " not in result.out
        assert bench.dump() == expected(first, NOTHING, "--no-nfacct")
        bench.done("delete")
        assert bench.dump() == NOTHING


def differing(old: Tables, new: Tables) -> set[str]:
    """Return the chains that are not the same in both."""
    return {
        chain
        for table in old.keys() | new.keys()
        for chain in old[table].chains.keys() | new[table].chains.keys()
        if old[table].chains.get(chain) != new[table].chains.get(chain)
    }


class TestOverForeignRules:
    def test_apply_and_delete(self, bench: Bench, first: Path, second: Path) -> None:
        load_foreign(bench)
        foreign = bench.dump()
        bench.done("apply", first)
        assert bench.dump() == expected(first, foreign)
        bench.done("apply", second)
        assert bench.dump() == expected(second, foreign)
        result = bench.done("delete")
        assert bench.dump() == foreign
        rules = sum(text.count("\n-A ") for text in foreign.values())
        assert f"foreign rules are as they were ({rules})" in result.out

    def test_counters_of_foreign_rules_go_on(self, bench: Bench, first: Path) -> None:
        load_foreign(bench)
        before = count_rules(bench)
        bench.done("apply", first)
        for family in IpFamily:
            after = counters(bench.counted(family))
            assert after.items() >= counters(before[family]).items()
        bench.done("delete")
        assert {family: bench.counted(family) for family in IpFamily} == before

    def test_user_rules_before_and_after_our_jumps(self, bench: Bench, first: Path, second: Path) -> None:
        """They stay where they are, and so do our jumps."""
        load_foreign(bench)
        foreign = bench.dump()
        bench.done("apply", first)
        tables = {family: parse(text) for family, text in expected(second, foreign).items()}
        for family in IpFamily:
            for table, chains in (("filter", BUILTIN["filter"]), ("nat", BUILTIN["nat"])):
                for chain in chains:
                    first_rule, last_rule, middle = (f"-p tcp -m tcp --dport {n}" for n in (1, 2, 3))
                    bench.iptables(f"-t {table} -I {chain} {first_rule}", family)
                    bench.iptables(f"-t {table} -I {chain} 2 {middle}", family)
                    bench.iptables(f"-t {table} -A {chain} {last_rule}", family)
                    rules = tables[family][table].chains[chain]
                    rules.insert(0, f"-A {chain} {first_rule}")
                    rules.insert(1, f"-A {chain} {middle}")
                    rules.append(f"-A {chain} {last_rule}")
        edited = bench.dump()
        assert bench.done("apply", first).out == f"{bench.name}: nothing to change\n"
        assert bench.dump() == edited
        bench.done("apply", second)
        assert bench.dump() == {family: render(tables[family]) for family in IpFamily}
        bench.done("rollback")
        assert bench.dump() == edited

    def test_a_kubelet(self, bench: Bench, first: Path) -> None:
        """Its KUBE-FIREWALL is shared: it holds what ours does, and stays when we go."""
        load_kubelet(bench)
        before = bench.dump()
        bench.done("apply", first)
        assert bench.dump()[IpFamily.IPV4] == expected(first, before)[IpFamily.IPV4]
        bench.done("delete")
        assert bench.dump()[IpFamily.IPV4] == before[IpFamily.IPV4]

    def test_a_kubelet_that_made_no_jumps(self, bench: Bench, first: Path) -> None:
        """It has none for IPv6; kube-proxy makes them there, too."""
        load_kubelet(bench)
        before = bench.dump()
        bench.done("apply", first)
        assert bench.dump()[IpFamily.IPV6] == expected(first, before)[IpFamily.IPV6]

    def test_rules_of_a_kubelet_stay(self, bench: Bench, first: Path) -> None:
        """An older one has a rule of its own in KUBE-FIREWALL; kube-proxy leaves that of IPv6 alone."""
        load_corpus(bench, "kubelet6.rules")
        firewall = parse(bench.dump()[IpFamily.IPV6])["filter"].chains["KUBE-FIREWALL"]
        bench.done("apply", first)
        assert parse(bench.dump()[IpFamily.IPV6])["filter"].chains["KUBE-FIREWALL"] == firewall

    def test_rules_that_are_not_utf8(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        odd = b'-A INPUT -m comment --comment "b\xfcro" -j ACCEPT'.decode("utf-8", "surrogateescape")
        bench.load(f"*filter\n{odd}\nCOMMIT\n")
        before = bench.dump()
        assert odd in before[IpFamily.IPV4]
        path = tmp_path / "change.plan"
        shown = bench.done("plan", first, "-o", "json", "--out", path).out
        assert path.read_text(encoding="utf-8") == shown
        bench.done("apply", path)
        assert bench.dump() == expected(first, before)
        bench.iptables("-F INPUT")
        odd_drift = odd.replace("ACCEPT", "DROP")
        bench.load(f"*filter\n{odd_drift}\nCOMMIT\n", IpFamily.IPV4, "--noflush")
        assert bench.run("status").status == 1
        assert json.loads(bench.run("status", "-o", "json").out)["in_step"] is False
        bench.done("apply", first)
        bench.done("delete")
        assert bench.dump() == {**before, IpFamily.IPV4: before[IpFamily.IPV4].replace(odd, odd_drift)}

    def test_manifests_whose_name_is_not_utf8(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        path = tmp_path / b"b\xfcro.yaml".decode("utf-8", "surrogateescape")
        path.write_bytes((first / "manifests.yaml").read_bytes())
        bench.done("apply", path)
        assert bench.dump() == expected(first)
        found = json.loads(bench.done("status", "-o", "json").out)
        assert [source["source"] for source in found["inputs"]] == [str(path)]
        strict = {**environment(), "PYTHONIOENCODING": "utf-8:strict"}
        shown = subprocess.run(bench.command("status"), env=strict, check=True, stdout=subprocess.PIPE).stdout
        assert os.fsencode(path) in shown
        path.unlink()
        result = bench.main("--log-format", "json", "compile", str(path))
        assert json.loads(result.err)["source"] == str(path)

    @pytest.mark.parametrize("way", ["-j", "-g"])
    def test_a_foreign_rule_that_leads_to_a_chain_that_goes(
        self, bench: Bench, first: Path, second: Path, way: str
    ) -> None:
        bench.done("apply", first)
        chain = gone_chain(compiled(first)[IpFamily.IPV6], compiled(second)[IpFamily.IPV6])
        bench.iptables("-t nat -N MINE", IpFamily.IPV6)
        bench.iptables(f"-t nat -A MINE -p udp {way} {chain}", IpFamily.IPV6)
        before = bench.dump()
        for command in (("apply", str(second)), ("delete",), ("rollback",)):
            result = bench.run(*command)
            assert result.status == 5
            assert f"error[KPN515]: nat: rule -A MINE -p udp {way} {chain} leads to {chain}" in result.err
            assert bench.dump() == before
            assert bench.sysctl() == "1"
        bench.iptables("-t nat -F MINE", IpFamily.IPV6)
        bench.done("apply", second)

    def test_a_foreign_rule_that_leads_to_a_chain_that_was_not_applied(
        self, bench: Bench, first: Path
    ) -> None:
        """It is drift to tell of, though only its owner can set it right."""
        bench.done("apply", first)
        before = bench.dump()
        bench.iptables("-t nat -N KUBE-SVC-FOREIGNFOREIGNFO", IpFamily.IPV4)
        bench.iptables("-t nat -A OUTPUT -p udp -j KUBE-SVC-FOREIGNFOREIGNFO", IpFamily.IPV4)
        result = bench.run("status")
        assert result.status == 1, result.err
        assert "  iptables nat KUBE-SVC-FOREIGNFOREIGNFO: it was not applied\n" in result.out
        assert "KPN515" in bench.run("apply", str(first)).err
        bench.iptables("-t nat -D OUTPUT -p udp -j KUBE-SVC-FOREIGNFOREIGNFO", IpFamily.IPV4)
        bench.done("apply", first)
        assert bench.dump() == before

    def test_rules_of_both_variants(self, bench: Bench, first: Path) -> None:
        """Those of the other variant are not touched, and mentioned."""
        other = Bench(bench.name, "legacy" if bench.variant == "nft" else "nft", bench.state_dir, bench.main)
        load_foreign(other)
        before = other.dump()
        result = bench.done("apply", first)
        assert "warning[KPN516]" in result.err
        assert bench.dump() == expected(first)
        bench.done("delete")
        assert bench.dump() == NOTHING
        assert other.dump() == before

    @pytest.mark.parametrize("variant", ["nft"], indirect=True)
    def test_a_table_that_iptables_cannot_read(self, bench: Bench, first: Path) -> None:
        """Nothing of it is listed, so it is not written to; nftables mode does not need it."""
        bench.inside("nft", "-f", "-", stdin=UNREADABLE)
        before = bench.inside("nft", "list", "ruleset")
        for command, *options in (("apply",), ("plan", "--layout", "compact")):
            result = bench.run(command, first, *options)
            assert (result.status, result.out) == (5, "")
            assert "error[KPN505]: table ip filter holds rules that iptables cannot read" in result.err
            assert bench.inside("nft", "list", "ruleset") == before
        assert bench.nfacct() == set()
        result = bench.done("apply", first, "--mode", "nftables")
        assert "warning[KPN505]: table ip filter holds rules that iptables cannot read" in result.err
        result = bench.done("delete")
        assert "nothing of ours is left in iptables-nft and nftables, table ip filter not read;" in result.out
        assert bench.inside("nft", "list", "table", "ip", "filter") == UNREADABLE

    def test_rules_of_ours_in_both_variants(self, bench: Bench, first: Path, second: Path) -> None:
        """Delete is done when neither holds any; the variant that was chosen stays the one that is used."""
        other = Bench(bench.name, "legacy" if bench.variant == "nft" else "nft", bench.state_dir, bench.main)
        load_foreign(other)
        before = other.dump()
        other.done("apply", second)
        both = other.dump()
        bench.done("apply", first)
        options = ["--netns", bench.name, "--state-dir", str(bench.state_dir)]
        result = bench.main("delete", *options)
        assert result.status == 0, result
        for variant in ("nft", "legacy"):
            assert f"nothing of ours is left in iptables-{variant} and nftables" in result.out
        assert (bench.dump(), other.dump()) == (NOTHING, before)
        bench.main("rollback", *options)
        assert (bench.dump(), other.dump()) == (expected(first), before)
        bench.main("rollback", *options)
        assert other.dump() == both


def gone_chain(old: str, new: str) -> str:
    """Return a chain that is only in the first."""
    (name,) = parse(old)["nat"].chains.keys() - parse(new)["nat"].chains.keys()
    return name


def test_the_variant_is_found(bench: Bench, first: Path, second: Path) -> None:
    """Without an option it is that which holds our rules."""
    bench.done("apply", first)
    options = ["--netns", bench.name, "--state-dir", str(bench.state_dir)]
    assert bench.main("apply", str(second), *options).status == 0
    assert bench.dump() == expected(second)
    assert bench.main("delete", *options).status == 0
    assert bench.dump() == NOTHING


def test_expectations_are_not_empty(first: Path, second: Path, third: Path) -> None:
    """What all these tests compare with holds rules, and different ones."""
    texts: list[Mapping[IpFamily, str]] = [expected(source) for source in (first, second, third)]
    for family in IpFamily:
        assert all(text[family].count("\n-A ") > 15 for text in texts)
        assert len({text[family] for text in texts}) == 3
