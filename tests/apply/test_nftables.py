"""Apply and its kin with rules of nftables; each time the whole listing is what it must be."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kproxy_nat.apply import tools
from kproxy_nat.apply.execution import Step
from kproxy_nat.cli.report import Reporter
from tests.apply.bench import NOTHING, ROUTE_LOCALNET, Bench, expected, put_before, wait_until
from tests.apply.processes import driven, locks_are_free, run
from tests.kernel.netns import requires_kernel
from tests.kernel.nft_versions import as_listed

pytestmark = [pytest.mark.kernel, requires_kernel]

MODE = ("--mode", "nftables")
ONE_VARIANT = pytest.mark.parametrize("variant", ["nft"], indirect=True)
FOREIGN = """table inet firewall {
	set trusted {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8 }
	}

	chain input {
		type filter hook input priority filter; policy drop;
		ip saddr @trusted accept
		tcp dport 22 limit rate 3/minute counter packets 0 bytes 0 accept
	}
}
table ip proxy {
	chain kube-proxy {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 99 redirect to :100
	}
}
"""
MORE = """apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.96.77.77, ports: [{port: 80}]}
"""
TABLES = ("ip", "ip6")
NFT_STEPS = [Step.RECORDED, Step.NFT_IP_LOADED, Step.NFT_IP6_LOADED, Step.VERIFIED]


def listing(bench: Bench) -> str:
    """Return all tables but those of iptables, which stay behind empty."""
    tables = [line.split()[1:] for line in bench.inside("nft", "list", "tables").splitlines()]
    ours = [table for table in tables if table[1] not in ("nat", "filter", "mangle")]
    return "".join(bench.inside("nft", "list", "table", *table) for table in ours)


def golden(scenario: Path) -> str:
    """Return the listing that the gallery has for a scenario, as the nft that is here prints it."""
    return as_listed((scenario / "nftables.nft").read_text(encoding="utf-8"))


def compiled(bench: Bench, source: Path) -> str:
    """Return what compile writes for manifests, as the nft that is here prints it."""
    return as_listed(bench.main("compile", str(source), *MODE).out)


class TestApply:
    @ONE_VARIANT
    @pytest.mark.parametrize("scenario", ["dual-stack", "session-affinity", "loadbalancer-source-ranges"])
    def test_over_nothing(self, bench: Bench, first: Path, scenario: str) -> None:
        source = first.parent / scenario
        result = bench.done("apply", source, *MODE, "--node-port-addresses", "primary")
        assert listing(bench) == golden(source)
        assert bench.dump() == NOTHING
        assert f"{bench.name}: apply done and verified\n" in result.out
        assert result.err == ""
        bench.done("delete")
        assert listing(bench) == ""

    @ONE_VARIANT
    def test_over_itself(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first, *MODE)
        before = listing(bench)
        assert bench.done("apply", first, *MODE).out == f"{bench.name}: nothing to change\n"
        assert listing(bench) == before
        assert bench.finished() == ["0001"]

    @ONE_VARIANT
    def test_another_revision(
        self, bench: Bench, first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only what differs is written: a rule, and the element for a local endpoint where it has one."""
        bench.done("apply", first, *MODE)
        script = f'case " $* " in *" --file "*) tee -a "{tmp_path}/written" | exec "$REAL" "$@";; esac\n'
        put_before("nft", f'{script}exec "$REAL" "$@"', tmp_path / "tools", monkeypatch)
        bench.done("apply", second, *MODE)
        assert listing(bench) == compiled(bench, second)
        written = (tmp_path / "written").read_text(encoding="utf-8").splitlines()
        chain = "service-KHN6ECMT-shop/web/tcp/http"
        assert {line.partition(" dnat ")[0] for line in written} == {
            f"{command} {family} kube-proxy{rest}"
            for family in TABLES
            for command, rest in (
                ("add table", ""),
                ("flush chain", f" {chain}"),
                ("add rule", f" {chain} meta l4proto tcp"),
            )
        }

    @ONE_VARIANT
    def test_of_other_services(self, bench: Bench, first: Path, third: Path) -> None:
        """Chains come and go, with the elements that lead to them."""
        bench.done("apply", first, *MODE)
        bench.done("apply", third, *MODE)
        assert sorted(listing(bench).splitlines()) == sorted(compiled(bench, third).splitlines())
        bench.done("rollback")
        assert sorted(listing(bench).splitlines()) == sorted(golden(first).splitlines())

    @ONE_VARIANT
    def test_one_family(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first, *MODE, "--family", "ipv6")
        assert listing(bench) == golden(first)[golden(first).index("table ip6 ") :]

    @ONE_VARIANT
    def test_over_foreign_tables(self, bench: Bench, first: Path, second: Path) -> None:
        bench.inside("nft", "-f", "-", stdin=FOREIGN)
        foreign = listing(bench)
        assert "tcp dport 22 limit rate" in foreign
        bench.done("apply", first, *MODE)
        assert listing(bench) == foreign + golden(first)
        bench.done("apply", second, *MODE)
        assert listing(bench) == foreign + compiled(bench, second)
        bench.done("delete")
        assert listing(bench) == foreign

    @ONE_VARIANT
    def test_edited_by_hand(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first, *MODE)
        table = ("ip", "kube-proxy")
        bench.inside("nft", "flush", "chain", *table, "services")
        bench.inside("nft", "add", "rule", *table, "nat-output", "limit rate 3/minute counter log drop")
        bench.inside("nft", "add", "element", *table, "cluster-ips", "{ 10.96.0.99 }")
        bench.inside("nft", "add", "chain", *table, "mine")
        bench.inside("nft", "add", "set", *table, "yours", "{ type ipv4_addr ; flags interval ; }")
        result = bench.run("status")
        assert result.status == 1
        assert "+ limit rate 3/minute" in result.out
        assert "+ 10.96.0.99" in result.out
        bench.done("apply", first, *MODE)
        assert listing(bench) == golden(first)
        assert bench.run("status").status == 0

    @ONE_VARIANT
    @pytest.mark.parametrize("command", ["apply", "plan", "status", "delete"])
    @pytest.mark.parametrize("filled", [True, False])
    def test_a_dormant_table(self, bench: Bench, first: Path, command: str, filled: bool) -> None:
        """None of its rules is in force, whatever they are: nobody is told that they are."""
        bench.done("apply", first, *MODE)
        if not filled:
            bench.inside("nft", "delete", "table", "ip6", "kube-proxy")
        bench.inside("nft", "add", "table", "ip6", "kube-proxy", "{ flags dormant; }")
        before = listing(bench)
        sources = (first, *MODE) if command in ("apply", "plan") else ()
        result = bench.run(command, *sources)
        assert result.status == 5
        assert "error[KPN505]: nft: table ip6 kube-proxy has flags; while it is dormant" in result.err
        told = re.search(r"wake it with: nft (.*)", result.err)
        assert told
        assert listing(bench) == before
        bench.inside("nft", *told[1].split())
        bench.done("apply", first, *MODE)
        comment = '\tcomment "rules for kube-proxy"\n'  # Only a table that is made gets one.
        assert listing(bench).replace(comment, "") == golden(first).replace(comment, "")

    @ONE_VARIANT
    def test_other_timeout_of_affinity(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        """The set is made anew, since nft has no command for it, and so are the rules that use it."""
        source = first.parent / "session-affinity" / "manifests.yaml"
        changed = tmp_path / "changed.yaml"
        text = source.read_text(encoding="utf-8")
        assert "timeoutSeconds: 1800" in text
        changed.write_text(text.replace("timeoutSeconds: 1800", "timeoutSeconds: 60"), encoding="utf-8")
        bench.done("apply", source, *MODE)
        bench.done("apply", changed, *MODE)
        assert sorted(listing(bench).splitlines()) == sorted(compiled(bench, changed).splitlines())
        assert bench.done("apply", changed, *MODE).out.endswith("nothing to change\n")

    @ONE_VARIANT
    def test_affinity_outlives_other_changes(self, bench: Bench, first: Path, tmp_path: Path) -> None:
        source = first.parent / "session-affinity" / "manifests.yaml"
        more = tmp_path / "more.yaml"
        more.write_text(MORE, encoding="utf-8")
        bench.done("apply", source, *MODE)
        listed = json.loads(bench.inside("nft", "-j", "list", "sets", "ip"))["nftables"]
        name = next(s["set"]["name"] for s in listed if s.get("set", {}).get("name", "").startswith("aff"))
        bench.inside("nft", "add", "element", "ip", "kube-proxy", name, "{ 192.0.2.1 }")
        bench.done("apply", source, more, *MODE)
        assert "192.0.2.1" in bench.inside("nft", "list", "set", "ip", "kube-proxy", name)


class TestSwitching:
    def test_to_nftables_and_back(self, bench: Bench, first: Path) -> None:
        bench.done("apply", first)
        assert bench.sysctl() == "1"
        result = bench.done("apply", first, *MODE)
        assert bench.dump() == NOTHING
        assert listing(bench) == golden(first)
        assert bench.sysctl() == "0"
        assert f"{ROUTE_LOCALNET} becomes 0" in result.out
        bench.done("apply", first)
        assert bench.dump() == expected(first)
        assert listing(bench) == ""
        assert bench.sysctl() == "1"
        bench.done("rollback")
        assert (bench.dump(), listing(bench)) == (NOTHING, golden(first))
        bench.done("rollback")
        assert (bench.dump(), listing(bench)) == (expected(first), "")
        bench.done("delete")
        assert (bench.dump(), listing(bench), bench.sysctl()) == (NOTHING, "", "0")

    @pytest.mark.parametrize("step", NFT_STEPS)
    @ONE_VARIANT
    def test_killed_on_the_way(self, bench: Bench, first: Path, step: Step) -> None:
        """The next command brings the old rules back, or finds all done, and then takes the last one back."""
        bench.done("apply", first)
        done = run(driven(bench, step, "kill all", "apply", first, *MODE))
        assert done.returncode == -signal.SIGKILL, done
        wait_until(lambda: locks_are_free(bench))
        assert "warning[KPN514]" in bench.done("rollback").err
        assert bench.unfinished() == []
        left = expected(first) if step is Step.VERIFIED else NOTHING
        assert (bench.dump(), listing(bench)) == (left, "")

    @ONE_VARIANT
    def test_refused(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """nft takes one family and refuses the other: the first goes back."""
        bench.done("apply", first)
        refuse = 'echo "/dev/stdin:1:1-9: Error: no" >&2; exit 1'
        script = (
            f'text=$(cat); case "$text" in *"table ip6 "*) {refuse};; esac; echo "$text" | exec "$REAL" "$@"'
        )
        only_files = (
            f'case " $* " in *" --check "*|*" -j "*|*" --terse "*) exec "$REAL" "$@";; esac\n{script}'
        )
        put_before("nft", only_files, tmp_path / "tools", monkeypatch)
        result = bench.run("apply", first, *MODE)
        assert result.status == 5
        assert "error[KPN505]" in result.err
        assert (bench.dump(), listing(bench), bench.sysctl()) == (expected(first), "", "1")

    @ONE_VARIANT
    @pytest.mark.parametrize("wrong", ["once", "ever since"])
    def test_read_back_otherwise(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        """A listing may lack elements while the kernel enlarges their set: it is asked for again."""
        flag = tmp_path / "loaded"
        monkeypatch.setattr(
            Reporter, "explain", lambda _, step: flag.touch() if step == Step.NFT_IP6_LOADED else None
        )
        forget = f'rm "{flag}"; ' if wrong == "once" else ""
        misread = f'"$REAL" "$@" >"{flag}" || exit; sed "s/10\\.96\\./10.97./g" "{flag}"; {forget}exit'
        script = (
            f'if [ -e "{flag}" ]; then case " $* " in *" list table ip kube-proxy "*) {misread};; esac; fi'
        )
        put_before("nft", f'{script}\nexec "$REAL" "$@"', tmp_path / "tools", monkeypatch)
        result = bench.run("apply", first, *MODE)
        assert not flag.exists() or wrong == "ever since"
        flag.unlink(missing_ok=True)
        assert result.status == (0 if wrong == "once" else 5)
        assert ("error[KPN511]" in result.err) is (wrong == "ever since")
        assert listing(bench) == (golden(first) if wrong == "once" else "")

    @ONE_VARIANT
    def test_a_listing_that_is_no_json(
        self, bench: Bench, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_before(
            "nft", 'case "$1" in -j) echo "{";; *) exec "$REAL" "$@";; esac', tmp_path / "tools", monkeypatch
        )
        result = bench.run("apply", first, *MODE)
        assert result.status == 5
        assert "error[KPN505]: nft: cannot read table kube-proxy: " in result.err
        assert listing(bench) == ""


@pytest.fixture
def without_iptables(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no variant of iptables be found any more."""

    def hide() -> None:
        monkeypatch.setattr(tools, "installed_variant", lambda _: None)

    return hide


class TestWithoutIptables:
    """A namespace that iptables was used in, and then it is not there any more."""

    @ONE_VARIANT
    def test_nothing_of_ours_is_left_there(
        self, bench: Bench, first: Path, without_iptables: Callable[[], None]
    ) -> None:
        options = ["--netns", bench.name, "--state-dir", str(bench.state_dir)]
        bench.done("apply", first)
        bench.done("delete")
        without_iptables()
        assert bench.main("apply", str(first), *MODE, *options).status == 0
        assert listing(bench) == golden(first)
        assert "nothing of ours is left in nftables;" in bench.main("delete", *options).out

    @ONE_VARIANT
    def test_rules_of_ours_are_there(
        self, bench: Bench, first: Path, without_iptables: Callable[[], None]
    ) -> None:
        """They would stay in force, so nobody goes on as if they did not."""
        options = ["--netns", bench.name, "--state-dir", str(bench.state_dir)]
        bench.done("apply", first)
        without_iptables()
        for command in (["apply", str(first), *MODE], ["delete"], ["status"]):
            result = bench.main(*command, *options)
            assert result.status == 5
            assert "error[KPN504]: the nft variant of iptables is not there" in result.err
        assert bench.dump() == expected(first)

    def test_the_variant_of_the_last_command_is_not_there(
        self, bench: Bench, first: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It held nothing of ours, so the other one will do, for status, too."""
        found = tools.installed_variant
        bench.done("apply", first, *MODE)
        monkeypatch.setattr(
            tools, "installed_variant", lambda asked: None if asked == bench.variant else found(asked)
        )
        options = ["--netns", bench.name, "--state-dir", str(bench.state_dir)]
        result = bench.main("status", *options)
        assert (result.status, result.err) == (0, "")


class TestPlan:
    @ONE_VARIANT
    def test_kept_and_carried_out(self, bench: Bench, first: Path, second: Path, tmp_path: Path) -> None:
        bench.done("apply", first, *MODE)
        path = tmp_path / "change.plan"
        shown = bench.done("plan", second, *MODE, "--out", path).out
        assert "~ chain service-KHN6ECMT-shop/web/tcp/http" in shown
        assert listing(bench) == golden(first)
        bench.done("apply", path)
        assert listing(bench) == compiled(bench, second)

    @ONE_VARIANT
    def test_outdated(self, bench: Bench, first: Path, second: Path, tmp_path: Path) -> None:
        bench.done("apply", first, *MODE)
        path = tmp_path / "change.plan"
        bench.done("plan", second, *MODE, "--out", path)
        bench.inside("nft", "delete", "element", "ip", "kube-proxy", "cluster-ips", "{ 10.96.12.34 }")
        result = bench.run("apply", path)
        assert result.status == 5
        assert "error[KPN510]" in result.err

    @ONE_VARIANT
    def test_delete_of_a_table_that_holds_nothing(self, bench: Bench) -> None:
        bench.inside("nft", "add", "table", "ip6", "kube-proxy")
        bench.done("delete")
        assert listing(bench) == ""
