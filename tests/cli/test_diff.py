"""diff and import as a user meets them: levels, outputs, exit statuses, and what cannot be compared."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.golden.gallery import GALLERY

DIFFS = GALLERY / "diffs"
CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "dumps"
DUMPS = sorted(path.name for path in CORPUS.glob("*.rules"))
WITH_RULES = [name for name in DUMPS if "-A " in (CORPUS / name).read_text()]

ADDED = (DIFFS / "endpoint-added" / "old.yaml", DIFFS / "endpoint-added" / "new.yaml")
RULES = (DIFFS / "rules-endpoint-removed" / "old.rules", DIFFS / "rules-endpoint-removed" / "new.rules")
MOVED = (DIFFS / "rules-in-another-order" / "old.rules", DIFFS / "rules-in-another-order" / "new.rules")


class TestLevels:
    def test_manifests_and_rules_of_services_are_compared_as_services(self, run: Run) -> None:
        for pair in (ADDED, RULES):
            result = run("diff", *map(str, pair))
            assert result.status == 1
            assert result.out.startswith("1 service port: 1 modified\n")

    def test_rules_can_be_compared_with_manifests(self, run: Run) -> None:
        compiled = run("compile", str(ADDED[0])).out
        assert run("diff", "-", str(ADDED[0]), stdin=compiled).status == 0
        result = run("diff", "-", str(ADDED[1]), stdin=compiled)
        assert result.status == 1
        assert "+ endpoint 10.180.2.6:8080, gets 1/3" in result.out

    def test_a_transaction_is_the_same_as_the_dump_of_it(self, run: Run) -> None:
        transaction = run("compile", str(ADDED[0]), "--form", "restore").out
        result = run("diff", "-", str(ADDED[0]), "--scope", "ours", stdin=transaction)
        assert result.status == 0
        assert result.out.startswith("no Service differs\n")

    def test_structural_shows_rules_and_tells_shares_that_follow_apart(self, run: Run) -> None:
        out = run("diff", *map(str, RULES), "--level", "structural").out
        assert out.splitlines()[0] == (
            "rules: 0 added, 3 removed, 2 updated (2 only because the number of endpoints changed)"
        )
        assert "  - KUBE-SEP-7RIP4NYF266QFHEU" in out

    def test_a_move_without_effect_is_a_structural_difference_only(self, run: Run) -> None:
        assert run("diff", *map(str, MOVED)).status == 0
        result = run("diff", *map(str, MOVED), "--level", "structural")
        assert result.status == 1
        assert "moved 1 -> 2, harmless" in result.out or "moved 2 -> 1, harmless" in result.out

    def test_text_can_be_applied_with_patch(self, run: Run, tmp_path: Path) -> None:
        patch = run("diff", *map(str, RULES), "--level", "text").out
        copy = tmp_path / "copy.rules"
        copy.write_text(RULES[0].read_text())
        subprocess.run(["patch", "-s", str(copy)], input=patch, text=True, check=True)
        assert without_comments(copy) == without_comments(RULES[1])

    def test_text_is_empty_for_the_same_rules_in_another_spelling(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "spelled.rules"
        file.write_text(RULES[0].read_text().replace("-d 10.96.0.20/32", "--destination 10.96.0.20"))
        result = run("diff", str(file), str(RULES[0]), "--level", "text")
        assert (result.status, result.out) == (0, "")

    def test_services_of_foreign_rules_cannot_be_compared(self, run: Run) -> None:
        docker = str(CORPUS / "docker.rules")
        result = run("diff", docker, str(ADDED[0]), "--level", "service")
        assert result.status == 3
        assert "KPN404" in result.err
        assert "--level structural compares any rules" in result.err
        assert run("diff", docker, str(ADDED[0])).out.startswith("rules: ")


def without_comments(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


class TestFilters:
    PAIR = (DIFFS / "many-alike" / "old.yaml", DIFFS / "many-alike" / "new.yaml")

    @pytest.mark.parametrize("name", ["cart", "shop/cart", "shop/cart:http", "shop/cart:http/TCP"])
    def test_one_service(self, run: Run, name: str) -> None:
        result = run("diff", *map(str, self.PAIR), "--service", name)
        assert result.status == 1
        assert "~ shop/cart:http/TCP" in result.out
        assert "shop/mail" not in result.out
        assert "5 other differences not shown" in result.out

    def test_nothing_that_is_asked_for_differs(self, run: Run) -> None:
        result = run("diff", *map(str, self.PAIR), "--service", "shop/other")
        assert result.status == 0
        assert result.out.startswith("nothing that was asked for differs\n")
        assert "6 other differences not shown" in result.out
        assert "without changing any Service" not in result.out
        assert run("diff", *map(str, self.PAIR), "--only", "endpoints").status == 0
        assert run("diff", *map(str, self.PAIR), "--only", "endpoints", "--only", "affinity").status == 1

    def test_services_are_looked_at_on_their_level_only(self, run: Run) -> None:
        for option in (("--service", "cart"), ("--only", "endpoints")):
            assert run("diff", *map(str, self.PAIR), "--level", "structural", *option).status == 2

    def test_one_family(self, run: Run) -> None:
        pair = [str(DIFFS / "dual-stack" / f"{side}.yaml") for side in ("old", "new")]
        assert run("diff", *pair, "--family", "ipv4").status == 0
        assert run("diff", *pair, "--family", "ipv6").status == 1
        four = str(GALLERY / "clusterip" / "iptables.rules")
        result = run("diff", four, str(GALLERY / "clusterip"), "--family", "ipv6")
        assert result.status == 3
        assert "KPN405" in result.err

    def test_the_scope_leaves_foreign_rules_out(self, run: Run) -> None:
        pair = [str(DIFFS / "rules-foreign" / f"{side}.rules") for side in ("old", "new")]
        assert run("diff", *pair, "--level", "structural").status == 1
        assert run("diff", *pair, "--level", "structural", "--scope", "ours").status == 0


class TestOutputs:
    def test_json_has_shares_by_flow(self, run: Run) -> None:
        document = json.loads(run("diff", *map(str, ADDED), "-o", "json").out)
        assert document["changed"] is True
        (service,) = document["services"]
        assert (service["service"], service["change"]) == ("shop/web:http", "modified")
        (flow,) = service["flows"]
        assert (flow["to"], flow["from"]) == ("10.96.0.20:80/TCP", "any")
        assert flow["old"] == {"10.180.0.4:8080": "1/2", "10.180.1.5:8080": "1/2"}
        assert flow["new"] == dict.fromkeys(("10.180.0.4:8080", "10.180.1.5:8080", "10.180.2.6:8080"), "1/3")
        assert document["rules"]["added"] == 3
        assert document["impact"]["shares"][0]["points"] == pytest.approx(-16.67)

    def test_json_of_chains(self, run: Run) -> None:
        document = json.loads(run("diff", *map(str, MOVED), "-o", "json", "--level", "structural").out)
        (chain,) = document["chains"]
        assert (chain["table"], chain["chain"], chain["edit"]) == ("nat", "KUBE-SERVICES", "update")
        (edit,) = chain["rules"]
        assert (edit["edit"], edit["harmless"]) == ("move", True)

    def test_json_of_sets(self, run: Run, tmp_path: Path) -> None:
        """One that only has another timeout is made anew."""
        held = GALLERY / "session-affinity" / "nftables.nft"
        other = tmp_path / "other.nft"
        other.write_text(held.read_text().replace("timeout 3h", "timeout 10m", 1))
        document = json.loads(run("diff", str(held), str(other), "-o", "json", "--level", "structural").out)
        (edit,) = document["sets"]
        assert (edit["edit"], edit["map"], edit["elements"]) == ("update", False, [])
        assert edit["properties"] == {"timeout": [10800, 600]}
        assert document["impact"]["writes"]["bytes"] > len(f"delete set ip kube-proxy {edit['set']}")

    def test_clients_are_forgotten_with_a_set_of_nftables(self, run: Run, tmp_path: Path) -> None:
        """In iptables another timeout is one of the rules, and the list stays."""
        for name, old, new in (
            ("nftables.nft", "timeout 3h", "timeout 10m"),
            ("iptables.rules", "10800", "600"),
        ):
            held = GALLERY / "session-affinity" / name
            other = tmp_path / name
            other.write_text(held.read_text().replace(old, new))
            out = run("diff", str(held), str(other)).out
            assert "session affinity for 600 s, no longer 10800 s" in out
            assert ("with another timeout, sets of clients are made anew" in out) == (old == "timeout 3h")

    def test_markdown_folds_what_is_much_and_fits_into_a_comment(self, run: Run) -> None:
        few = run("diff", *map(str, ADDED), "-o", "markdown").out
        assert "<details open>" in few
        assert "+ endpoint 10.180.2.6:8080, gets 1/3" in few
        many = run("diff", "/dev/null", str(GALLERY / "large-cluster"), "-o", "markdown").out
        assert len(many.encode()) < 65_536
        assert many.count("<details") == many.count("</details>")
        assert many.count("```") % 2 == 0

    def test_html_is_a_page_that_needs_nothing_else(self, run: Run) -> None:
        page = run("diff", *map(str, ADDED), "-o", "html").out
        links = Links()
        links.feed(page)
        assert links.found == []
        assert links.open == []
        assert "endpoint 10.180.2.6:8080, gets 1/3" in page
        assert "{{" not in page

    def test_html_folds_long_lists_and_has_all_of_them(self, run: Run) -> None:
        page = run("diff", "/dev/null", str(DIFFS / "many-alike" / "new.yaml"), "-o", "html").out
        folded = re.findall(r"<summary>newly served: ([^<]*)</summary><p>([^<]*)</p>", page)
        assert [summary.partition(" and ")[2] for summary, _ in folded] == [
            f"{whole.count(', ')} more" for _, whole in folded
        ]
        assert folded

    def test_html_tells_whose_shares_move(self, run: Run) -> None:
        page = run("diff", *map(str, ADDED), "-o", "html").out
        table = re.sub(r"<[^>]*>", "|", page.partition("<table>")[2].partition("</table>")[0])
        assert re.sub(r"\|+", "|", table).strip("|").split("|") == [
            *("endpoint", "before", "after", "10.96.0.20:80/TCP from any"),
            *("10.180.0.4:8080", "50.00 %", "33.33 %", "10.180.1.5:8080", "50.00 %", "33.33 %"),
            *("10.180.2.6:8080", "33.33 %"),
        ]

    def test_html_keeps_names_that_look_like_its_own_blanks(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "{{body}}.yaml"
        path.write_text(ADDED[0].read_text())
        page = run("diff", str(path), str(ADDED[1]), "-o", "html").out
        assert "{{body}}.yaml to " in page
        assert page.count("Impact") == 1

    def test_html_escapes_what_the_rules_hold(self, run: Run, tmp_path: Path) -> None:
        evil = tmp_path / "evil.rules"
        evil.write_text(RULES[0].read_text().replace("shop/cart:http", "shop/<script>alert(1)</script>:http"))
        page = run("diff", str(evil), str(RULES[0]), "-o", "html").out
        assert "<script>alert" not in page
        assert "<script>alert" not in run("diff", str(evil), str(RULES[0]), "-o", "markdown").out

    def test_colours_only_when_asked_for(self, run: Run) -> None:
        assert "\x1b[" not in run("diff", *map(str, ADDED)).out
        assert "\x1b[32m" in run("--color", "always", "diff", *map(str, ADDED)).out
        assert "\x1b[32m" in run("--color", "always", "diff", *map(str, ADDED), "--level", "text").out


class Links(HTMLParser):
    """Finds what a page would fetch, and elements that do not end."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestOthersDumps:
    @pytest.mark.parametrize("name", DUMPS)
    def test_a_dump_is_the_same_as_itself(self, run: Run, name: str) -> None:
        path = str(CORPUS / name)
        for level in ("structural", "text"):
            result = run("diff", path, path, "--level", level)
            assert (result.status, result.err) == (0, "")

    @pytest.mark.parametrize("name", DUMPS)
    def test_counters_are_no_difference(self, run: Run, tmp_path: Path, name: str) -> None:
        counted = tmp_path / "counted.rules"
        lines = (CORPUS / name).read_text().splitlines(keepends=True)
        counted.write_text("".join(f"[7:420] {line}" if line.startswith("-A") else line for line in lines))
        assert run("diff", str(CORPUS / name), str(counted), "--level", "structural").status == 0

    @pytest.mark.parametrize("name", WITH_RULES)
    def test_a_rule_less_is_one_removed(self, run: Run, tmp_path: Path, name: str) -> None:
        text = (CORPUS / name).read_text()
        rules = [line for line in text.splitlines(keepends=True) if "-A " in line and text.count(line) == 1]
        shorter = tmp_path / "shorter.rules"
        shorter.write_text(text.replace(rules[-1], "", 1))
        document = json.loads(
            run("diff", str(CORPUS / name), str(shorter), "--level", "structural", "-o", "json").out
        )
        assert (document["rules"]["added"], document["rules"]["removed"]) == (0, 1)

    def test_import_refuses_them(self, run: Run) -> None:
        result = run("import", str(CORPUS / "calico.rules"))
        assert result.status == 3
        assert "KPN406" in result.err


class TestBadInput:
    def test_a_file_that_was_cut_off(self, run: Run, tmp_path: Path) -> None:
        cut = tmp_path / "cut.rules"
        text = RULES[0].read_text()
        for end in (len(text) // 3, text.index("COMMIT") + 3, len(text) - 8):
            cut.write_text(text[:end])
            result = run("diff", str(cut), str(RULES[0]))
            assert result.status == 3, end
            assert "KPN40" in result.err

    def test_a_broken_rule_is_reported_with_its_line(self, run: Run, tmp_path: Path) -> None:
        broken = tmp_path / "broken.rules"
        lines = RULES[0].read_text().splitlines(keepends=True)
        place = next(i for i, line in enumerate(lines) if "-A KUBE-SVC-" in line)
        lines[place] = '-A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment "open -j ACCEPT\n'
        broken.write_text("".join(lines))
        result = run("diff", str(broken), str(RULES[0]))
        assert result.status == 3
        assert f"broken.rules:{place + 1}: a quote is not closed" in result.err

    def test_neither_rules_nor_manifests(self, run: Run, tmp_path: Path) -> None:
        notes = tmp_path / "notes.txt"
        notes.write_text("just text\n")
        for command in (("diff", str(notes), str(RULES[0])), ("import", str(notes))):
            result = run(*command)
            assert result.status == 3
            assert "KPN007" in result.err
            assert "rules with *TABLE or table FAMILY NAME {" in result.err

    @pytest.mark.parametrize("form", ["listing", "transaction", "JSON"])
    def test_rules_of_nftables_that_were_cut_off(self, run: Run, tmp_path: Path, form: str) -> None:
        text = (GALLERY / "dual-stack" / "nftables-compact.nft").read_text()
        if form == "transaction":
            options = ("--mode", "nftables", "--layout", "compact", "--form", "restore")
            text = run("compile", str(GALLERY / "dual-stack"), *options).out
        if form == "JSON":
            text = json.dumps({"nftables": [{"table": {"family": "ip", "name": f"t{n}"}} for n in range(9)]})
        cut = tmp_path / "cut"
        for end in (len(text) // 3, len(text) // 2, len(text) - 3):
            cut.write_text(text[:end])
            result = run("diff", str(cut), str(RULES[0]))
            assert result.status == 3, end
            assert "cut off" in result.err

    def test_an_empty_stream_is_a_failed_pipe_but_nothing_may_be_compared(
        self, run: Run, tmp_path: Path
    ) -> None:
        result = run("diff", "-", str(ADDED[0]))
        assert result.status == 3
        assert "KPN004" in result.err
        (tmp_path / "empty").mkdir()
        for nothing in ("/dev/null", "empty"):
            result = run("diff", nothing, str(ADDED[0]))
            assert result.status == 1
            assert "1 service port: 1 added" in result.out
            assert f"{nothing} holds nothing" in result.err
        result = run("diff", str(RULES[0]), "/dev/null")
        assert "2 service ports: 2 removed" in result.out

    def test_families_that_have_nothing_in_common(self, run: Run) -> None:
        result = run(
            "diff", *(str(GALLERY / "clusterip" / f"{tool}.rules") for tool in ("iptables", "ip6tables"))
        )
        assert result.status == 3
        assert "KPN405" in result.err

    def test_both_from_standard_input(self, run: Run) -> None:
        assert run("diff", "-", "-").status == 2

    def test_a_namespace_that_is_not_there(self, run: Run) -> None:
        result = run("diff", "netns:there-is-none", str(ADDED[0]))
        assert result.status > 1
        assert "there-is-none" in result.err

    def test_a_folder_with_manifests_and_rules_yields_its_manifests(self, run: Run) -> None:
        topic = GALLERY / "clusterip"
        result = run("diff", str(topic), str(topic / "iptables.rules"))
        assert result.status == 0

    def test_a_folder_of_rule_files_holds_both_families(self, run: Run, tmp_path: Path) -> None:
        run("compile", str(GALLERY / "dual-stack"), "-o", f"{tmp_path}/out/")
        result = run("diff", f"{tmp_path}/out", str(GALLERY / "dual-stack"), "-o", "json")
        assert result.status == 0

    def test_an_internal_error_does_not_look_like_a_difference(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("kproxy_nat.cli.diff.families_to_compare", fail)
        assert run("diff", *map(str, ADDED)).status == 2


class TestLargeChanges:
    def test_many_services_alike_are_said_once(self, run: Run) -> None:
        out = run("diff", *map(str, TestFilters.PAIR)).out
        assert out.count("session affinity") == 1
        assert "~ 6 service ports alike" in out
