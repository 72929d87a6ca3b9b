"""python-iptables, beside the tools: what it reads is what they print, what it loads is what they would."""

from __future__ import annotations

import fcntl
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from kproxy_nat.apply import python_iptables_engine, python_iptables_rules
from kproxy_nat.apply.changes import ChainChange, FamilyChange, TableChange
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.planning import LiveRules, plan_change
from kproxy_nat.apply.python_iptables_engine import PythonIptablesEngine
from kproxy_nat.apply.python_iptables_extensions import MATCH, find_extension
from kproxy_nat.apply.python_iptables_rules import LAYOUTS, RuleReader, RuleWriter
from kproxy_nat.apply.python_iptables_tables import _chain_names, _open_table, _rules
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.tools import Variant, find_iptables
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.formats.iptables_dump import Dump, rule_counters, split_dump
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS
from tests.apply.bench import Bench, load
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.corpus import HERE as CORPUS
from tests.corpus import read, without_comments
from tests.golden.gallery import TOPICS, rule_text
from tests.kernel.netns import WAIT, fresh_namespace, requires_kernel
from tests.kernel.test_corpus_in_kernel import SETUP, canonical_dump, with_protocol_names
from tests.patience import patient

pytestmark = [pytest.mark.kernel, requires_kernel]

TOOLS = {IpFamily.IPV4: "iptables-legacy", IpFamily.IPV6: "ip6tables-legacy"}
FOREIGN = """*nat
:PREROUTING ACCEPT [3:180]
:DOCKER - [0:0]
[7:420] -A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "a \\"b\\" c" -j DOCKER
[1:60] -A PREROUTING ! -s 10.0.0.0/8 -i eth+ -p tcp -m tcp --dport 80:90 -j REDIRECT --to-ports 8080
[5:300] -A DOCKER -j RETURN
COMMIT
*filter
:FORWARD DROP [2:120]
[9:540] -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[4:240] -A FORWARD -j DROP
COMMIT
"""

NFPROTO_IPV4 = 2
PATIENCE = int(patient(120))
"""Seconds: the lock of the tools is one for all namespaces, and other tests use it, too."""

_NUMBERS = itertools.count()

by_family = pytest.mark.parametrize("family", IpFamily)


class Place:
    """A namespace, and the legacy tools in it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def command(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace.label, *words],
            input=stdin,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, text: str, family: IpFamily) -> None:
        self.command(f"{TOOLS[family]}-restore", WAIT, "--counters", stdin=text)

    def listed(self, family: IpFamily, *options: str) -> str:
        return without_comments(self.command(f"{TOOLS[family]}-save", *options))

    def read(self, family: IpFamily, *, counters: bool = True) -> str:
        return self.namespace.run(PythonIptablesEngine(PATIENCE).save, family, counters=counters)

    def change(self, change: FamilyChange) -> None:
        self.namespace.run(load, PythonIptablesEngine(PATIENCE), change)


@contextmanager
def fresh_place() -> Iterator[Place]:
    with fresh_namespace(f"python-{next(_NUMBERS)}") as namespace:
        place = Place(namespace)
        place.command("sh", "-c", SETUP)
        yield place


@pytest.fixture
def place() -> Iterator[Place]:
    with fresh_place() as made:
        yield made


@pytest.fixture
def other_place() -> Iterator[Place]:
    with fresh_place() as made:
        yield made


def whole(text: str, family: IpFamily) -> FamilyChange:
    """Return the change from nothing to a dump, foreign rules and counters too; policies stay."""
    tables = []
    for name, table in split_dump(text, family).tables.items():
        chains = [
            ChainChange(chain, () if builtin else None, tuple(block.split("\n")[:-1]), builtin=builtin)
            for chain, block in sorted(table.chains.items())
            for builtin in [chain in table.policies]
        ]
        tables.append(TableChange(name, tuple(chains), rule_counters(text, name, table.chains)))
    return FamilyChange(family, tuple(tables))


def without_policies(text: str) -> str:
    return re.sub(r"(?m)^(:\w+) (?:ACCEPT|DROP) \[\d+:\d+\]", r"\1", text)


def one_rule(arguments: str, chain: str = "MINE") -> FamilyChange:
    line = f"-A {chain} {arguments}"
    return FamilyChange(IpFamily.IPV4, (TableChange("nat", (ChainChange(chain, None, (line,)),)),))


def assert_read_and_loaded_alike(text: str, family: IpFamily, place: Place, other_place: Place) -> None:
    """What the tool has loaded is read as it prints it; what the engine loads, the tool prints alike."""
    place.load(text, family)
    expected = place.listed(family, "--counters")
    assert expected.count("\n-A ") + expected.count("\n[") >= text.count("\n-A ")
    assert place.read(family) == with_protocol_names(expected)
    assert place.read(family, counters=False) == with_protocol_names(place.listed(family))
    other_place.change(whole(text, family))
    loaded = without_policies(other_place.listed(family, "--counters"))
    assert loaded == without_policies(expected)


@by_family
@pytest.mark.parametrize("topic", TOPICS)
def test_gallery(topic: str, family: IpFamily, place: Place, other_place: Place) -> None:
    assert_read_and_loaded_alike(rule_text(topic, family), family, place, other_place)


@by_family
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_recorded_scenarios(
    scenario: Scenario, family: IpFamily, place: Place, other_place: Place, tmp_path: Path
) -> None:
    text = scenario.compiled("save", family, tmp_path)
    assert_read_and_loaded_alike(text, family, place, other_place)


@by_family
@pytest.mark.parametrize("table", BUILTIN_CHAINS)
def test_every_extension_of_the_corpus(
    table: str, family: IpFamily, place: Place, other_place: Place
) -> None:
    text = canonical_dump(family, table, "legacy")
    assert_read_and_loaded_alike(text, family, place, other_place)


@by_family
def test_headers_are_the_bytes_of_the_tools(family: IpFamily, place: Place) -> None:
    """A mask of an interface that is wrong is printed like the right one."""
    text = canonical_dump(family, "filter", "legacy")
    place.load(text, family)
    compared = place.namespace.run(headers, family)
    assert len(compared) > 100
    assert [(line, ours) for line, ours, _ in compared] == [(line, tools) for line, _, tools in compared]


def headers(family: IpFamily) -> list[tuple[str, bytes, bytes]]:
    """Return the rules of table filter: the line, the header that we make of it, and the kernel's."""
    layout = LAYOUTS[family]
    found = []
    with _open_table(family, "filter") as table, RuleReader(layout) as reader:
        chains = _chain_names(table)
        rules = [each for chain in chains for each in _rules(table, chain, reader)]
        live = [(bytes(getattr(entry, layout.header)), line) for entry, line in rules]
    writer = RuleWriter(layout, chains)
    for header, line in live:
        entry = layout.entry.from_buffer_copy(writer.entry(line.partition(" ")[2].partition(" ")[2]))
        found.append((line, bytes(getattr(entry, layout.header)), header))
    return found


DUMPS = sorted(path for path in (CORPUS / "dumps").iterdir() if not path.name.startswith("calico"))


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_dumps_of_other_programs(path: Path, place: Place, other_place: Place) -> None:
    family = IpFamily.IPV6 if "6." in path.name else IpFamily.IPV4
    assert_read_and_loaded_alike(read(path), family, place, other_place)


@pytest.mark.parametrize(
    "text", ["", "!", "--comment", "! -j X", 'it\'s \\ "so"', "größe\u2028\x85", "a\vb", "x" * 255]
)
def test_awkward_values(text: str, place: Place, other_place: Place) -> None:
    place.command("iptables-legacy", "-A", "INPUT", "-m", "comment", "--comment", text, "-j", "ACCEPT")
    expected = place.listed(IpFamily.IPV4, "--counters")
    assert place.read(IpFamily.IPV4) == expected
    other_place.change(whole(expected, IpFamily.IPV4))
    assert other_place.listed(IpFamily.IPV4, "--counters") == expected


def test_tables_are_not_made_by_reading(place: Place) -> None:
    assert place.read(IpFamily.IPV4) == ""
    assert place.command("cat", "/proc/net/ip_tables_names") == ""


def test_only_the_changed_table_is_made(place: Place) -> None:
    place.change(one_rule("-j RETURN"))
    assert place.command("cat", "/proc/net/ip_tables_names") == "nat\n"


def revisions(family: IpFamily) -> list[Dump]:
    """Return states to go through: what one manifest says, what another says, nothing."""
    texts = [rule_text(topic, family) for topic in ("dual-stack", "session-affinity", "dual-stack")]
    return [*(split_dump(text, family) for text in texts), Dump(family)]


@by_family
def test_revisions_leave_what_the_tools_leave(family: IpFamily, place: Place, other_place: Place) -> None:
    """Over nothing but foreign rules, over another revision, and down to nothing; with all counters."""
    foreign = FOREIGN.replace("10.0.0.0/8", "fd00::/8") if family is IpFamily.IPV6 else FOREIGN
    tools = RestoreEngine(find_iptables(Variant.LEGACY), PATIENCE)
    for each in (place, other_place):
        each.load(foreign, family)
    for wanted in revisions(family):
        text = place.read(family)
        change = plan_change(LiveRules(text, split_dump(text, family)), wanted)
        assert change.tables
        place.change(change)
        other_place.namespace.run(load, tools, change)
        assert place.listed(family, "--counters") == other_place.listed(family, "--counters")
    assert foreign.splitlines()[3] in place.listed(family, "--counters")


def test_counters_are_kept(place: Place) -> None:
    before = rule_text("dual-stack", IpFamily.IPV4).replace("-A KUBE-SERVICES", "[12:3456] -A KUBE-SERVICES")
    place.load(before, IpFamily.IPV4)
    text = place.read(IpFamily.IPV4)
    wanted = split_dump(rule_text("session-affinity", IpFamily.IPV4), IpFamily.IPV4)
    place.change(plan_change(LiveRules(text, split_dump(text, IpFamily.IPV4)), wanted))
    after = place.listed(IpFamily.IPV4, "--counters")
    kept = [line for line in after.splitlines() if line.startswith("[12:3456]")]
    stays = [line for line in wanted.tables["nat"].chains["KUBE-SERVICES"].splitlines() if line in before]
    assert kept
    assert {line.partition("] ")[2] for line in kept} >= set(stays)


def test_test_changes_nothing(place: Place) -> None:
    place.load(FOREIGN, IpFamily.IPV4)
    before = place.listed(IpFamily.IPV4, "--counters")
    text = place.read(IpFamily.IPV4)
    wanted = split_dump(rule_text("dual-stack", IpFamily.IPV4), IpFamily.IPV4)
    change = plan_change(LiveRules(text, split_dump(text, IpFamily.IPV4)), wanted)
    place.namespace.run(PythonIptablesEngine(PATIENCE).test, change)
    assert place.listed(IpFamily.IPV4, "--counters") == before


def test_namespaces_are_kept_apart(place: Place, other_place: Place) -> None:
    """In one process, by turns: the library would keep the first namespace's tables for both."""
    host = PythonIptablesEngine(PATIENCE).save(IpFamily.IPV4, counters=False)
    for number, each in enumerate((place, other_place, place, other_place)):
        each.change(one_rule("-j RETURN", f"CHAIN-{number}"))
        each.read(IpFamily.IPV4)
    for each, mine, others in ((place, "02", "13"), (other_place, "13", "02")):
        assert [n for n in mine + others if f"CHAIN-{n} " in each.listed(IpFamily.IPV4)] == [*mine]
        assert each.read(IpFamily.IPV4) == each.listed(IpFamily.IPV4, "--counters")
    assert PythonIptablesEngine(PATIENCE).save(IpFamily.IPV4, counters=False) == host


REFUSED = {
    "-p tcp -m tcp --dport nonsense -j RETURN": "does not take --dport nonsense",
    "-p tcp -m tcp --no-such-option -j RETURN": "does not take --no-such-option",
    "-m no-such-match -j RETURN": "there is no match no-such-match",
    "-j NO-SUCH-CHAIN": "there is no chain or target NO-SUCH-CHAIN",
    "-j DNAT": "target DNAT is incomplete",
    "-s nonsense -j RETURN": "nonsense is no network",
    "-p no-such-protocol": "there is no protocol no-such-protocol",
    '-m comment --comment "not closed': "a quote is not closed",
    "-m comment --comment": "nothing follows --comment",
    "RETURN": "RETURN is out of place",
    "-i interface-too-long -j RETURN": "is no name of an interface",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refused_rules_are_named(arguments: str, place: Place) -> None:
    change = one_rule(arguments)
    engine = PythonIptablesEngine(PATIENCE)
    for work in (engine.test, partial(load, engine)):
        with pytest.raises(ApplyError, match=re.escape(REFUSED[arguments])) as caught:
            place.namespace.run(work, change)
        (problem,) = caught.value.problems
        assert problem.code is Code.RULES_REFUSED
        assert f"-A MINE {arguments}" in problem.hint
    assert "MINE" not in place.listed(IpFamily.IPV4)


KERNEL_REFUSES: dict[str, Callable[[], FamilyChange]] = {
    "a chain with rules is deleted while a rule leads to it": lambda: FamilyChange(
        IpFamily.IPV4, (TableChange("nat", (ChainChange("DOCKER", ("-A DOCKER -j RETURN",), None),)),)
    ),
    "a target of another table": lambda: FamilyChange(
        IpFamily.IPV4,
        (TableChange("filter", (ChainChange("MINE", None, ("-A MINE -j MASQUERADE",)),)),),
    ),
    "a rule to be deleted is not there": lambda: FamilyChange(
        IpFamily.IPV4,
        (TableChange("nat", (ChainChange("PREROUTING", ("-A PREROUTING -j DROP",), (), builtin=True),)),),
    ),
}


@pytest.mark.parametrize("case", KERNEL_REFUSES)
def test_a_refused_table_stays_as_it_was(case: str, place: Place) -> None:
    place.load(FOREIGN, IpFamily.IPV4)
    before = place.listed(IpFamily.IPV4, "--counters")
    with pytest.raises(ApplyError) as caught:
        place.change(KERNEL_REFUSES[case]())
    assert caught.value.problems[0].code is Code.RULES_REFUSED
    assert "b'" not in caught.value.problems[0].message
    assert place.listed(IpFamily.IPV4, "--counters") == before


def test_rules_that_no_extension_knows_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.load(FOREIGN, IpFamily.IPV4)
    monkeypatch.setattr(
        python_iptables_rules,
        "find_extension",
        lambda k, n, f: None if n == "conntrack" else find_extension(k, n, f),
    )
    with pytest.raises(
        ApplyError, match=r"table filter: rule 1 of chain FORWARD .*no extension for match conntr"
    ):
        place.read(IpFamily.IPV4)


def test_rules_of_another_revision_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.load(FOREIGN, IpFamily.IPV4)
    place.read(IpFamily.IPV4)
    module = find_extension(MATCH, "conntrack", NFPROTO_IPV4)
    monkeypatch.setattr(module, "revision", 2)
    with pytest.raises(ApplyError, match=r"match conntrack is of revision 3, the installed .* revision 2"):
        place.read(IpFamily.IPV4)


def test_the_lock_of_the_tools_is_respected(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    engine = PythonIptablesEngine(0)
    with path.open("w") as held, ExitStack() as stack:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ApplyError, match=f"another program holds {path}") as caught:
            place.namespace.run(load, engine, one_rule("-j RETURN"))
        assert caught.value.problems[0].code is Code.XTABLES_LOCKED
        place.namespace.run(engine.test, one_rule("-j RETURN"))
        place.read(IpFamily.IPV4)
        stack.callback(held.close)
    place.change(one_rule("-j RETURN"))
    assert ":MINE " in place.listed(IpFamily.IPV4)


def test_nothing_is_printed(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.load(FOREIGN, IpFamily.IPV4)
    place.read(IpFamily.IPV4)
    print("still here")
    assert capfd.readouterr().out == "still here\n"


def test_errors_do_not_harm_the_interpreter(place: Place) -> None:
    """In a process of its own: with the library's own handler of errors it ends in a RecursionError."""
    script = """
import re
from tests.apply.test_python_iptables import one_rule
from kproxy_nat.apply.python_iptables_engine import PythonIptablesEngine
from kproxy_nat.errors import ApplyError
engine = PythonIptablesEngine(60)
def deep(n):
    return n and 1 + deep(n - 1)
for number in range(1500):
    try:
        engine.test(one_rule("-p udp -m udp --dport nonsense -j RETURN"))
    except ApplyError:
        assert deep(100) == 100
    else:
        raise AssertionError
print(len(engine.save(__import__("kproxy_nat").net.addresses.IpFamily.IPV4, counters=True)) > 0)
"""
    assert place.command(sys.executable, "-X", "faulthandler", "-c", script) == "True\n"


def test_without_the_library() -> None:
    script = """
import sys
sys.modules["iptc"] = None
from kproxy_nat.apply.python_iptables_engine import PythonIptablesEngine
from kproxy_nat.errors import ApplyError
try:
    PythonIptablesEngine(1)
except ApplyError as error:
    print(error.problems[0].code, error.problems[0].hint)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("KPN504 pip install 'kproxy-nat[python-iptables]'")


@pytest.mark.parametrize("variant", ["legacy"])
def test_command_line(bench: Bench, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestoreEngine, "prepare", None)
    monkeypatch.setattr(RestoreEngine, "save", None)
    engine = ("--engine", python_iptables_engine.NAME)
    empty = bench.done("delete", *engine)
    assert "0" in empty.out or "nothing" in empty.out
    bench.done("apply", first, *engine)
    after_first = bench.dump()
    assert "KUBE-SERVICES" in after_first[IpFamily.IPV6]
    bench.done("apply", second, *engine)
    assert bench.dump() != after_first
    bench.done("rollback", *engine)
    assert bench.dump() == after_first
    bench.done("delete", *engine)
    assert "KUBE" not in "".join(bench.dump().values())


@pytest.mark.parametrize("variant", ["nft"])
def test_only_for_legacy_tables(bench: Bench, first: Path) -> None:
    result = bench.run("apply", first, "--engine", python_iptables_engine.NAME)
    assert result.status == 2
    assert "--engine python-iptables is for --iptables legacy only" in result.err
