"""The record of what was applied: whole or not there, of this namespace, the last five."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy_nat.apply import generations
from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.generations import (
    FORMAT,
    KEPT,
    VERSION,
    Generation,
    Generations,
    Record,
    SysctlChange,
    add_note,
    namespace_folder,
    take_notes,
)
from kproxy_nat.apply.namespaces import Identity
from kproxy_nat.apply.tools import Variant
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.formats.iptables_dump import Dump, join_dump, split_dump

V4, V6 = Backend.IPTABLES, Backend.IP6TABLES
HERE = Identity("boot-1", 7)
ODD = b"-A INPUT -m comment --comment b\xfcro\n".decode("utf-8", "surrogateescape")


def rules(text: str = "", backend: Backend = V4) -> Dump:
    return split_dump(f"*filter\n:INPUT ACCEPT [0:0]\n{text}COMMIT\n", backend.family)


def record(action: str = "apply", identity: Identity = HERE) -> Record:
    time = "2026-01-01T00:00:00+00:00"
    engine = "iptables-nft 1.8.9"
    return Record(FORMAT, VERSION, "1.0", action, "demo", identity, time, Variant.NFT, engine)


def begun(kept: Generations, text: str = "-A INPUT -p tcp\n", identity: Identity = HERE) -> Generation:
    return kept.begin(record(identity=identity), {V4: rules()}, {V4: rules(text)})


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Generations]:
    yield Generations(namespace_folder(tmp_path, "netns-demo"), HERE)
    leftovers = [p.name for p in tmp_path.rglob("*") if p.suffix in (".writing", ".discarded", ".new")]
    assert leftovers == []


def entries(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "netns-demo").iterdir())


def test_at_first_there_is_nothing(kept: Generations) -> None:
    assert kept.latest() is None
    assert kept.unfinished() is None


def test_from_unfinished_to_latest(kept: Generations, tmp_path: Path) -> None:
    after = {V4: rules(ODD), V6: rules("-A INPUT -p udp\n", V6)}
    generation = kept.begin(record(), {V4: rules(), V6: rules(backend=V6)}, after)
    assert entries(tmp_path) == ["0001.unfinished"]
    assert kept.latest() is None
    found = kept.unfinished()
    assert found is not None
    assert found.path == generation.path
    finished = kept.finish(generation)
    assert entries(tmp_path) == ["0001"]
    assert kept.unfinished() is None
    latest = kept.latest()
    assert latest is not None
    assert latest.path == finished.path
    assert latest.number == 1
    assert latest.backends() == [V4, V6]
    assert latest.before(V4) == rules()
    assert join_dump(latest.after(V4)) == join_dump(after[V4])
    assert latest.after(V6) == after[V6]


def test_what_is_recorded_is_read_back_and_readable(kept: Generations) -> None:
    made = record()
    made.sysctls.append(SysctlChange("net.ipv4.ip_forward", "0", "1"))
    made.nfacct.append("pkts")
    made.options["node"] = "node1"
    generation = kept.begin(made, {V4: rules()}, {V4: rules()})
    assert generation.record == made
    text = (generation.path / "record.json").read_text(encoding="utf-8")
    assert json.loads(text)["sysctls"] == [{"name": "net.ipv4.ip_forward", "before": "0", "after": "1"}]
    assert text.count("\n") > 10
    assert list(made.digests) == [V4]


def test_equal_rules_have_equal_digests(kept: Generations) -> None:
    digests = [kept.finish(begun(kept, text)).record.digests[V4] for text in ("-A INPUT\n", "", "-A INPUT\n")]
    assert digests[0] == digests[2] != digests[1]


def test_numbers_count_up_and_five_stay(kept: Generations, tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        kept.finish(begun(kept, f"-A INPUT -m mark --mark {number}\n"))
    assert entries(tmp_path) == [f"{number:04}" for number in range(4, KEPT + 4)]
    latest = kept.latest()
    assert latest is not None
    assert latest.after(V4) == rules(f"-A INPUT -m mark --mark {KEPT + 2}\n")


def test_after_discarding_the_one_before_is_the_latest(kept: Generations) -> None:
    first = kept.finish(begun(kept, "-A INPUT -p tcp\n"))
    second = kept.finish(begun(kept, "-A INPUT -p udp\n"))
    kept.discard(second)
    latest = kept.latest()
    assert latest is not None
    assert latest.path == first.path
    assert latest.after(V4) == rules("-A INPUT -p tcp\n")
    kept.discard(latest)
    assert kept.latest() is None
    kept.discard(latest)


def test_rules_stay_readable_when_older_generations_are_gone(kept: Generations) -> None:
    """Equal rules may share a file."""
    same = [kept.finish(begun(kept)) for _ in range(KEPT + 2)]
    assert same[-1].after(V4) == rules("-A INPUT -p tcp\n")
    assert same[-1].before(V4) == rules()


def test_a_namespace_of_the_same_name_is_another(kept: Generations, tmp_path: Path) -> None:
    kept.finish(begun(kept))
    begun(kept)
    other = Generations(tmp_path / "netns-demo", Identity("boot-1", 8))
    assert other.latest() is None
    assert other.unfinished() is None
    assert entries(tmp_path) == ["0001", "0002.unfinished"]
    generation = other.begin(record(identity=Identity("boot-1", 8)), {V4: rules()}, {V4: rules()})
    assert entries(tmp_path) == [generation.path.name]
    assert kept.latest() is None


def test_after_a_reboot_nothing_is_known(kept: Generations, tmp_path: Path) -> None:
    kept.finish(begun(kept))
    assert Generations(tmp_path / "netns-demo", Identity("boot-2", 7)).latest() is None


def test_confirming(kept: Generations) -> None:
    generation = begun(kept)
    assert not generation.is_confirmed
    generation.confirm()
    assert Generation(generation.path).is_confirmed
    assert kept.finish(generation).is_confirmed


def test_a_crash_while_writing_leaves_nothing_that_counts(
    kept: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.finish(begun(kept, "-A INPUT -p tcp\n"))

    class CrashError(BaseException):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    monkeypatch.setattr(generations, "_write_record", crash)
    with pytest.raises(CrashError):
        begun(kept)
    monkeypatch.undo()
    assert kept.unfinished() is None
    latest = kept.latest()
    assert latest is not None
    assert latest.number == 1
    assert begun(kept).record.action == "apply"


def test_what_was_half_removed_is_not_in_the_way(kept: Generations) -> None:
    """A process that was killed while it removed a generation leaves a part, under another name."""
    generation = begun(kept)
    left = generation.path.with_suffix(".discarded")
    left.mkdir()
    (left / "record.json").write_text("{}", encoding="utf-8")
    kept.discard(generation)
    assert not generation.path.exists()
    assert not left.exists()


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_disk_that_is_full(kept: Generations, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ApplyError) as caught:
        begun(kept)
    monkeypatch.undo()
    (problem,) = caught.value.problems
    assert problem.code is Code.STATE_UNUSABLE
    assert problem.message == "cannot write the state directory: No space left on device"
    assert kept.unfinished() is None


def test_everything_is_flushed_before_it_counts(kept: Generations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file, and the folder of each name, before the rename that makes it the unfinished one."""
    events: list[str] = []
    flush, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    generation = begun(kept)
    at = events.index("to 0001.unfinished")
    assert {"before.iptables.rules", "after.iptables.rules", "record.json.new"} <= set(events[:at])
    assert "0001.writing" in events[:at]
    assert events[at + 1 :] == ["netns-demo"]
    events.clear()
    kept.finish(generation)
    assert events == ["to 0001", "netns-demo"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "kproxy-nat/record"}', "null", b"\xff".decode("latin-1")]
)
def test_a_damaged_record(kept: Generations, text: str) -> None:
    generation = kept.finish(begun(kept))
    (generation.path / "record.json").write_text(text, encoding="latin-1")
    with pytest.raises(ApplyError) as caught:
        kept.latest()
    (problem,) = caught.value.problems
    assert problem.code is Code.STATE_UNUSABLE
    assert str(generation.path / "record.json") in problem.message
    assert f"remove {generation.path}," in problem.hint


def test_a_record_of_another_version(kept: Generations) -> None:
    generation = kept.finish(begun(kept))
    path = generation.path / "record.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"version": 1', '"version": 2'), encoding="utf-8"
    )
    with pytest.raises(ApplyError, match="is not a record of version 1"):
        kept.latest()


def test_rules_that_are_gone(kept: Generations) -> None:
    generation = kept.finish(begun(kept))
    (generation.path / "before.iptables.rules").unlink()
    with pytest.raises(ApplyError, match=r"before\.iptables\.rules: No such file"):
        generation.before(V4)


def test_a_record_that_is_gone(kept: Generations) -> None:
    generation = kept.finish(begun(kept))
    (generation.path / "record.json").unlink()
    with pytest.raises(ApplyError, match=r"record\.json: No such file or directory$"):
        kept.latest()


@pytest.mark.parametrize("finished", [True, False])
def test_what_another_command_removes_while_it_is_read(
    kept: Generations, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """Readers take no lock: what they found by name may have another name by then."""
    first = kept.finish(begun(kept, "-A INPUT -p tcp\n"))
    doomed = begun(kept, "-A INPUT -p udp\n")
    doomed = kept.finish(doomed) if finished else doomed
    glob = Path.glob

    def found_and_removed(folder: Path, pattern: str) -> list[Path]:
        found = list(glob(folder, pattern))
        kept.discard(doomed)
        return found

    monkeypatch.setattr(Path, "glob", found_and_removed)
    assert kept.unfinished() is None
    latest = kept.latest()
    assert latest is not None
    assert latest.path == first.path


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.ENOENT])
def test_rules_that_cannot_be_linked_are_written(
    kept: Generations, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Not every file system has links, and an earlier file may be gone."""

    def link(source: Path, target: Path) -> None:
        raise OSError(error, os.strerror(error), source, None, target)

    monkeypatch.setattr(os, "link", link)
    kept.finish(begun(kept))
    assert kept.finish(begun(kept)).after(V4) == rules("-A INPUT -p tcp\n")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ApplyError) as caught:
        namespace_folder(tmp_path / "file", "demo")
    assert caught.value.problems[0].code is Code.STATE_UNUSABLE


def test_notes_are_shown_once(tmp_path: Path) -> None:
    assert list(take_notes(tmp_path)) == []
    add_note(tmp_path, "first")
    add_note(tmp_path, "second")
    assert list(take_notes(tmp_path)) == ["first", "second"]
    assert list(take_notes(tmp_path)) == []
