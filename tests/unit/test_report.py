"""Messages: how a problem looks, to people and to programs; and the catalogue of ids."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kproxy_nat.cli.report import Reporter
from kproxy_nat.errors import Code, InvalidInputError, Location, Problem, Severity

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
PROBLEM = Problem(
    Code.PORT_RANGE,
    "port 70000 is not between 1 and 65535",
    location=Location("manifests.yaml", 14, 11, "  - port: 70000"),
    subject="Service ns1/web",
    hint="correct it",
)
WARNING = Problem(Code.NO_CLUSTER_IP, "it has no clusterIP", Severity.WARNING)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_problem_shows_its_line_with_a_caret(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().report([PROBLEM])
    assert printed(capsys) == (
        "kproxy-nat: error[KPN103]: manifests.yaml:14:11: Service ns1/web: port 70000 is not between 1 and 65535\n"  # noqa: E501
        "  14 |   - port: 70000\n"
        "     |           ^\n"
        "  help: correct it\n"
    )


def test_a_problem_without_place_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().report([WARNING])
    assert printed(capsys) == "kproxy-nat: warning[KPN304]: it has no clusterIP\n"


@pytest.mark.parametrize("length", [111, 500, 100_000])
@pytest.mark.parametrize("column", [1, 50, 100, 111])
def test_of_a_long_line_the_part_around_the_caret_is_shown(
    length: int, column: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "".join("!" if number == column else "." for number in range(1, length + 1))
    Reporter().report([Problem(Code.BAD_NAME, "x", location=Location("f", 1, column, line))])
    _, shown, caret = printed(capsys).splitlines()
    assert shown[caret.index("^")] == "!"
    assert len(shown) < 130


@pytest.mark.parametrize("character", ["\x1b", "\r", "\u202e", "\x07", "\u2028", "\x9b"])
def test_the_line_shows_no_character_that_a_terminal_acts_upon(
    character: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Reporter().report([Problem(Code.BAD_NAME, "x", location=Location("f", 1, 3, f"a:{character}b"))])
    assert character not in printed(capsys)


def test_the_message_shows_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().report([Problem(Code.UNKNOWN_KIND, "kind \x1b[31mX has no part in Service rules")])
    assert "\x1b" not in printed(capsys)


def test_tabs_keep_the_caret_in_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().report([Problem(Code.BAD_NAME, "x", location=Location("f", 1, 4, "a:\t!"))])
    _, shown, caret = printed(capsys).splitlines()
    assert shown[caret.index("^")] == "!"


def test_wide_characters_move_the_caret(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().report([Problem(Code.BAD_NAME, "x", location=Location("f", 1, 3, "網路!"))])
    _, _, caret = printed(capsys).splitlines()
    assert caret.index("^") == len("  1 | ") + 4


def test_quiet_hides_warnings_and_notes_but_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.report([WARNING, PROBLEM])
    reporter.note("remark")
    reporter.explain("more")
    assert [line.split(":")[1] for line in printed(capsys).splitlines()[:1]] == [" error[KPN103]"]


def test_explanations_are_for_verbose_only(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().explain("why")
    Reporter(verbose=True).explain("because")
    assert printed(capsys) == "kproxy-nat: because\n"


def test_colours_are_put_on_and_taken_off(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(color=True).report([PROBLEM])
    shown = printed(capsys)
    assert shown.count("\x1b[0m") == 3
    Reporter().report([PROBLEM])
    assert re.sub(r"\x1b\[\d+m", "", shown) == printed(capsys)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(log_format="json")
    reporter.report([PROBLEM, WARNING])
    reporter.note("remark")
    first, second, third = map(json.loads, printed(capsys).splitlines())
    assert first == {
        "severity": "error",
        "code": "KPN103",
        "message": "port 70000 is not between 1 and 65535",
        "subject": "Service ns1/web",
        "source": "manifests.yaml",
        "line": 14,
        "column": 11,
        "help": "correct it",
    }
    assert (second["source"], second["line"]) == ("", 0)
    assert third == {"severity": "info", "message": "remark"}


def test_a_bug_is_json_too_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(log_format="json").report_bug(ValueError("x"))
    json.loads(printed(capsys).splitlines()[0])


def test_a_flood_is_cut_after_a_thousand_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.report([WARNING] * 600)
    reporter.report([WARNING] * 600)
    lines = printed(capsys).splitlines()
    assert len(lines) == 1001
    assert lines[-1] == "kproxy-nat: and 200 more problems (--log-format json lists all)"
    Reporter(log_format="json").report([WARNING] * 1200)
    assert len(printed(capsys).splitlines()) == 1200


def test_a_bug_is_told_without_traceback_unless_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    assert Reporter().report_bug(ValueError("oh")) == 1
    quiet = printed(capsys)
    assert "internal error: ValueError: oh" in quiet
    assert "--debug" in quiet
    Reporter(debug=True).report_bug(ValueError("oh"))
    assert "ValueError: oh" in printed(capsys)


def test_an_exception_carries_its_problems(capsys: pytest.CaptureFixture[str]) -> None:
    error = InvalidInputError(PROBLEM, WARNING)
    assert str(error) == "port 70000 is not between 1 and 65535; it has no clusterIP"
    Reporter().report_error(error)
    assert printed(capsys).count("kproxy-nat: ") == 2


@pytest.mark.parametrize(
    "location, text",
    [(Location("f"), "f"), (Location("f", 3), "f:3"), (Location("f", 3, 4), "f:3:4")],
)
def test_a_place_is_as_exact_as_is_known(location: Location, text: str) -> None:
    assert str(location) == text


ROW = re.compile(r'^\| <a id="(kpn\d{3})"></a>(KPN\d{3}) \| (.+) \| `(.+)` \| (.+) \|$', re.MULTILINE)


def test_the_catalogue_has_every_id_once_in_order_and_no_other() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [row[1] for row in rows] == sorted(code.value for code in Code)
    assert all(anchor == code.lower() for anchor, code, *_ in rows)


def test_every_line_of_the_catalogue_is_a_row() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count('<a id="') == len(ROW.findall(text)) == len(Code)


def test_other_pages_point_at_ids_that_are_there() -> None:
    known = {code.lower() for code in Code}
    for page in PAGE.parent.glob("*.md"):
        assert set(re.findall(r"errors\.md#(\w+)", page.read_text(encoding="utf-8"))) <= known
