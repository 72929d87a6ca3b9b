"""Sources: what is read, in which order, and what cannot be a manifest."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from kproxy_nat.errors import Code, Problem
from kproxy_nat.manifests.sources import Reading, read_sources

TEXT = "kind: Service\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, data: bytes | str = TEXT) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def read(*sources: str, stdin: bytes = b"", recursive: bool = False, max_bytes: int = 1 << 20) -> Reading:
    return read_sources(sources, io.BytesIO(stdin), recursive=recursive, max_bytes=max_bytes)


def refused(*sources: str, stdin: bytes = b"", recursive: bool = False, max_bytes: int = 1 << 20) -> Problem:
    reading = read(*sources, stdin=stdin, recursive=recursive, max_bytes=max_bytes)
    assert reading.texts == []
    assert len(reading.problems) == 1
    return reading.problems[0]


def test_files_are_read_in_the_order_given_and_each_once() -> None:
    write("b.yaml", "b: 1\n")
    write("a.yaml", "a: 1\n")
    reading = read("b.yaml", "a.yaml", "b.yaml")
    assert [(t.name, t.text, t.named) for t in reading.texts] == [
        ("b.yaml", "b: 1\n", True),
        ("a.yaml", "a: 1\n", True),
    ]


def test_a_file_may_have_any_name() -> None:
    write("manifest.txt")
    assert read("manifest.txt").texts[0].text == TEXT


def test_a_directory_yields_its_manifests_sorted() -> None:
    for name in ("c.json", "a.yml", "b.yaml", "notes.txt", "b.yaml.bak", "sub/d.yaml"):
        write(f"k8s/{name}")
    reading = read("k8s")
    assert [t.name for t in reading.texts] == ["k8s/a.yml", "k8s/b.yaml", "k8s/c.json"]
    assert not any(t.named for t in reading.texts)


def test_recursion_goes_into_folders_but_not_hidden_ones() -> None:
    for name in ("z.yaml", "a/b/c.yaml", ".git/x.yaml", "a/.cache/y.yaml", "a/.hidden.yaml"):
        write(f"k8s/{name}")
    assert [t.name for t in read("k8s", recursive=True).texts] == [
        "k8s/a/.hidden.yaml",
        "k8s/a/b/c.yaml",
        "k8s/z.yaml",
    ]


def test_recursion_does_not_follow_links_in_circles() -> None:
    write("k8s/a.yaml")
    Path("k8s/loop").symlink_to("..", target_is_directory=True)
    assert len(read("k8s", recursive=True).texts) == 1


def test_standard_input() -> None:
    reading = read("-", stdin=b"a: 1\n")
    assert [(t.name, t.text) for t in reading.texts] == [("stdin", "a: 1\n")]


@pytest.mark.parametrize(
    "source, hint",
    [
        ("web.yml", "did you mean web.yaml?"),
        ("k8s/servce.yaml", "did you mean k8s/service.yaml?"),
        ("entirely-else", ""),
        ("nowhere/web.yaml", "nowhere is not a directory that can be read"),
        ("web.yaml/x", "web.yaml is not a directory that can be read"),
        ("netns:demo", "manifests are read from files, directories, git:REV:PATH and '-' (standard input)"),
        ("cluster:prod", "manifests are read from files, directories, git:REV:PATH and '-' (standard input)"),
    ],
)
def test_a_missing_file_is_named_with_a_guess(source: str, hint: str) -> None:
    write("web.yaml")
    write("k8s/service.yaml")
    problem = refused(source)
    assert (problem.code, problem.message) == (Code.SOURCE_NOT_FOUND, "no such file or directory")
    assert (str(problem.location), problem.hint) == (source, hint)


def test_a_name_too_long_for_a_file_is_a_problem_like_others() -> None:
    assert refused("x" * 5000).code is Code.SOURCE_NOT_FOUND


def test_a_dangling_link_is_refused() -> None:
    Path("gone.yaml").symlink_to("nowhere.yaml")
    assert refused("gone.yaml").code is Code.SOURCE_NOT_FOUND


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused() -> None:
    write("secret.yaml")
    Path("secret.yaml").chmod(0)
    problem = refused("secret.yaml")
    assert (problem.code, problem.message) == (Code.SOURCE_UNREADABLE, "Permission denied")


def test_a_file_that_cannot_be_opened_is_refused() -> None:
    write("d/ok.yaml")
    Path("d/loop.yaml").symlink_to("loop.yaml")
    reading = read("d")
    assert [p.code for p in reading.problems] == [Code.SOURCE_UNREADABLE]
    assert str(reading.problems[0].location) == "d/loop.yaml"
    assert [t.name for t in reading.texts] == ["d/ok.yaml"]


def test_a_pipe_is_read_to_its_end() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text(TEXT))
    writer.start()
    assert read("pipe").texts[0].text == TEXT
    writer.join()


def test_an_endless_device_is_too_large() -> None:
    assert refused("/dev/zero", max_bytes=1 << 20).code is Code.SOURCE_TOO_LARGE


def test_a_pipe_in_a_directory_is_no_manifest() -> None:
    """Nobody writes to it, so that opening it would wait for ever."""
    write("d/a.yaml")
    os.mkfifo("d/pipe.yaml")
    readings: list[Reading] = []
    reader = threading.Thread(target=lambda: readings.append(read("d")), daemon=True)
    reader.start()
    reader.join(timeout=5)
    assert [text.name for reading in readings for text in reading.texts] == ["d/a.yaml"]


@pytest.mark.parametrize("data", ["", " \n\t\n", "# only\n  # comments\n", "\n" * 1000, b"\xef\xbb\xbf"])
def test_a_named_file_without_content_is_refused(data: bytes | str) -> None:
    write("empty.yaml", data)
    problem = refused("empty.yaml")
    assert (problem.code, problem.message) == (Code.SOURCE_EMPTY, "the input is empty")
    assert problem.hint


def test_an_empty_file_in_a_directory_is_passed_over() -> None:
    write("k8s/empty.yaml", "# later\n")
    write("k8s/web.yaml")
    reading = read("k8s")
    assert [t.name for t in reading.texts] == ["k8s/web.yaml"]
    assert reading.problems == []


@pytest.mark.parametrize(
    "data, message, line",
    [
        (bytes(range(256)), "not UTF-8 text: invalid start byte", 2),
        ("a: 1\nb: wéb\n".encode("latin-1"), "not UTF-8 text: invalid continuation byte", 2),
        (b"a: 1\nb: 2\0\n", "not text: it holds NUL bytes", 2),
        (b"\xff\xfea", "not UTF-8 text: truncated data", 1),
        (b"\x1f\x8b\x08\x00compressed", "not UTF-8 text: invalid start byte", 1),
        ("a: 1\n".encode("utf-16-le"), "not text: it holds NUL bytes", 1),
    ],
    ids=["binary", "latin-1", "nul", "half utf-16", "gzip", "utf-16 without mark"],
)
def test_what_is_not_text_is_refused(data: bytes, message: str, line: int) -> None:
    write("odd.yaml", data)
    problem = refused("odd.yaml")
    assert (problem.code, problem.message) == (Code.SOURCE_NOT_TEXT, message)
    assert str(problem.location) == f"odd.yaml:{line}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_encodings_with_a_mark_are_read(encoding: str) -> None:
    write("web.yaml", "name: wéb \U0001f600\n".encode(encoding))
    assert read("web.yaml").texts[0].text == "name: wéb \U0001f600\n"


@pytest.mark.parametrize("source", ["big.yaml", "-"])
def test_an_input_over_the_limit_is_refused(source: str) -> None:
    data = b"#" * ((1 << 20) + 1)
    write("big.yaml", data)
    problem = refused(source, stdin=data)
    assert (problem.code, problem.message) == (Code.SOURCE_TOO_LARGE, "the input is larger than 1 MiB")
    assert "--max-input-mib" in problem.hint


def test_an_input_of_exactly_the_limit_is_read() -> None:
    write("big.yaml", b"a: " + b"b" * ((1 << 20) - 3))
    assert len(read("big.yaml").texts[0].text) == 1 << 20


@pytest.mark.parametrize(
    "text, line",
    [
        ("*nat\n:KUBE-SVC-X - [0:0]\nCOMMIT\n", 1),
        ("# Generated by iptables-save\n\n*filter\nCOMMIT\n", 3),
        ("table ip kube-proxy {\n}\n", 1),
        ("add table ip kube-proxy\n", 1),
        ("flush ruleset \n", 1),
    ],
)
def test_a_rule_file_is_no_manifest(text: str, line: int) -> None:
    write("rules", text)
    problem = refused("rules")
    assert (problem.code, problem.message) == (Code.NOT_A_MANIFEST, "this is a rule file, not a manifest")
    assert str(problem.location) == f"rules:{line}"


@pytest.mark.parametrize(
    "text", ['{"format":"kproxy-nat/plan","version":1}', '{\n "format": "kproxy-nat/plan"\n}']
)
def test_a_plan_is_no_manifest(text: str) -> None:
    """It is one only on its own, and from a file."""
    write("plan.json", text)
    problem = refused("plan.json")
    assert problem.code is Code.NOT_A_MANIFEST
    assert problem.message == "this was written by kproxy-nat (plan) and is not a manifest"
    assert "kproxy-nat apply FILE" in problem.hint


@pytest.mark.parametrize("text", ["*alias\n", "table: 1\n", "*nat: 1\n"])
def test_a_manifest_that_resembles_a_rule_file_is_read(text: str) -> None:
    write("web.yaml", text)
    reading = read("web.yaml")
    assert len(reading.texts) == (0 if text == "*alias\n" else 1)


@pytest.mark.parametrize(
    "recursive, files, hint",
    [
        (False, ["notes.txt"], "looked for .yaml, .yml, .json"),
        (False, ["sub/web.yaml"], "they are in folders below it: add -R"),
        (True, [".hidden/web.yaml"], "looked for .yaml, .yml, .json"),
    ],
)
def test_a_directory_without_manifests_is_refused(recursive: bool, files: list[str], hint: str) -> None:
    for file in files:
        write(f"k8s/{file}")
    problem = refused("k8s", recursive=recursive)
    assert (problem.code, problem.message) == (
        Code.DIRECTORY_WITHOUT_MANIFESTS,
        "the directory holds no manifests",
    )
    assert problem.hint == hint


def test_all_bad_sources_are_told_at_once_and_good_ones_are_read() -> None:
    write("ok.yaml")
    write("empty.yaml", "")
    reading = read("gone.yaml", "ok.yaml", "empty.yaml")
    assert [p.code for p in reading.problems] == [Code.SOURCE_NOT_FOUND, Code.SOURCE_EMPTY]
    assert [t.name for t in reading.texts] == ["ok.yaml"]
