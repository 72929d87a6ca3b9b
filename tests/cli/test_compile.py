"""The command line's contract: streams, exit statuses, options, outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_compile_errors import CONFIG, ENDPOINTS, NODE, SERVICE

SIX = SERVICE.replace("web", "six").replace("10.96.0.10", "fd00::10")
BOTH = f"{SERVICE}---\n{SIX}"
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], nodeName: node2}]
ports: [{port: 8080}]
"""
ROOT = Path(__file__).parents[2]


def files(folder: str = ".") -> list[str]:
    return sorted(os.listdir(folder))


def test_rules_go_to_stdout_and_nothing_to_stderr(run: Run) -> None:
    result = run("compile", "-", stdin=f"{SERVICE}---\n{SLICE}")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("*")
    assert result.out.endswith("COMMIT\n")
    assert "--to-destination 10.1.0.1:8080" in result.out


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "Missing argument 'SOURCE...'"),
        (["-", "--family", "all"], "two families need a directory: -o DIR/"),
        (["-", "--family", "all", "-o", "one-file"], "two families need a directory"),
        (["-", "--family", "ipv5"], "'ipv5' is not one of"),
        (["-", "--form", "xml"], "'xml' is not one of"),
        (["-", "--mode", "ipvs"], "'ipvs' is not"),
        (["-", "--node", "-j ACCEPT"], "is not a valid Node name"),
        (["-", "--cluster-cidr", "10.0.0.0"], "'10.0.0.0' is not a CIDR"),
        (["-", "--cluster-cidr", "10.0.0.0/8,11.0.0.0/8"], "at most one network of each family"),
        (["-", "--node-ip", "10.0.0.256"], "256 is more than 255"),
        (["-", "--masquerade-bit", "32"], "32 is not in the range"),
        (["-", "--bridge-interface", "br 0"], "cannot name an interface"),
        (["-", "--interface-name-prefix", "a" * 15], "cannot name an interface"),
        (["-", "--node-port-addresses", "primary,10.0.0.0/8"], "cannot be mixed"),
        (["-", "--max-input-mib", "0"], "0 is not in the range"),
        (["-", "--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_is_2_with_nothing_on_stdout(args: list[str], message: str, run: Run) -> None:
    result = run("compile", *args, stdin=SERVICE)
    assert (result.status, result.out) == (2, "")
    assert message in " ".join(result.err.split())


def test_an_unknown_command_is_wrong_usage_with_a_guess(run: Run) -> None:
    result = run("compil", "-")
    assert result.status == 2
    assert "did you mean 'compile'?" in result.err


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["compile", "--help"], ["--version"]])
def test_help_and_version_are_data(args: list[str], run: Run) -> None:
    result = run(*args)
    assert (result.status, result.err) == (0, "")
    assert result.out


@pytest.mark.parametrize("form, start", [("save", "*"), ("restore", "*"), ("json", "{")])
def test_forms(form: str, start: str, run: Run) -> None:
    result = run("compile", "-", "--form", form, stdin=SERVICE)
    assert result.status == 0
    assert result.out.startswith(start)


def test_json_holds_both_families(run: Run) -> None:
    out = run("compile", "-", "--form", "json", stdin=BOTH).out
    json.loads(out)
    assert "10.96.0.10" in out
    assert "fd00::10" in out


@pytest.mark.parametrize(
    "family, there, absent", [("ipv4", "shop/web", "shop/six"), ("ipv6", "shop/six", "shop/web")]
)
def test_a_family_can_be_chosen(family: str, there: str, absent: str, run: Run) -> None:
    result = run("compile", "-", "--family", family, stdin=BOTH)
    assert (result.status, result.err) == (0, "")
    assert there in result.out
    assert absent not in result.out


def test_a_note_tells_of_the_other_family(run: Run) -> None:
    result = run("compile", "-", stdin=BOTH)
    assert result.err == (
        "kproxy-nat: 1 service port has IPv6 rules, too: see --family ipv6, or write both with -o DIR/\n"
    )
    assert "shop/six" not in result.out
    assert run("-q", "compile", "-", stdin=BOTH).err == ""


def test_a_file_is_written_as_stdout_would_be(run: Run) -> None:
    expected = run("compile", "-", stdin=SERVICE).out
    result = run("compile", "-", "-o", "out.rules", stdin=SERVICE)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert Path("out.rules").read_text() == expected
    assert files() == ["out.rules"]


def test_a_directory_gets_a_file_a_family(run: Run) -> None:
    Path("out").mkdir()
    for output in ("out", "out/"):
        assert run("compile", "-", "-o", output, stdin=BOTH).status == 0
        assert files("out") == ["ip6tables.rules", "iptables.rules"]
    assert "shop/six" in Path("out/ip6tables.rules").read_text()
    assert "shop/web" in Path("out/iptables.rules").read_text()


def test_a_written_file_keeps_its_mode_and_a_new_one_obeys_the_umask(run: Run) -> None:
    Path("old").write_text("x")
    Path("old").chmod(0o640)
    mask = os.umask(0o027)
    try:
        run("compile", "-", "-o", "old", stdin=SERVICE)
        run("compile", "-", "-o", "new", stdin=SERVICE)
    finally:
        os.umask(mask)
    assert Path("old").stat().st_mode & 0o777 == 0o640
    assert Path("new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("bad", ["a: [\n", SERVICE.replace("80", "0")])
def test_bad_input_leaves_old_files_untouched(bad: str, run: Run) -> None:
    Path("out.rules").write_text("old")
    assert run("compile", "-", "-o", "out.rules", stdin=bad).status == 3
    assert Path("out.rules").read_text() == "old"
    assert files() == ["out.rules"]


def test_when_one_file_cannot_be_written_none_is_and_nothing_is_left_over(run: Run) -> None:
    Path("out").mkdir()
    Path("out/iptables.rules").write_text("old")
    Path("out/ip6tables.rules").mkdir()
    result = run("compile", "-", "-o", "out/", stdin=BOTH)
    assert (result.status, result.out) == (1, "")
    assert "error[KPN008]: out/ip6tables.rules: cannot write: Is a directory" in result.err
    assert files("out") == ["ip6tables.rules", "iptables.rules"]


def test_when_one_file_cannot_be_put_in_place_the_other_stays_old(run: Run) -> None:
    Path("out").mkdir()
    Path("out/iptables.rules").write_text("old")
    Path("out/ip6tables.rules").mkdir()
    run("compile", "-", "-o", "out/", stdin=BOTH)
    assert Path("out/iptables.rules").read_text() == "old"


@pytest.mark.parametrize("output", ["gone/out.rules", "file/out.rules", "file/"])
def test_an_output_without_directory_is_refused(output: str, run: Run) -> None:
    Path("file").write_text("x")
    result = run("compile", "-", "-o", output, stdin=SERVICE)
    assert (result.status, result.out) == (1, "")
    assert "error[KPN008]" in result.err
    assert files() == ["file"]


def test_a_missing_output_directory_is_made(run: Run) -> None:
    assert run("compile", "-", "-o", "new/deep/", stdin=SERVICE).status == 0
    assert sorted(path.name for path in Path("new/deep").iterdir()) == ["ip6tables.rules", "iptables.rules"]


def test_an_empty_output_is_refused(run: Run) -> None:
    assert run("compile", "-", "-o", "", stdin=SERVICE).status != 0
    assert files() == []


EXPLANATIONS = [
    ("  clusterIP: None\n", "shop/web: no rules: it is headless: clients reach its endpoints directly"),
    ("  type: ExternalName\n", "shop/web: no rules: an ExternalName is a DNS alias"),
    ("  clusterIP: 10.96.0.10\n", "shop/web: IPv4: traffic is rejected: it has no EndpointSlice for IPv4"),
]


@pytest.mark.parametrize("spec, reason", EXPLANATIONS)
def test_verbose_explains_services_without_rules(spec: str, reason: str, run: Run) -> None:
    text = SERVICE.replace("  clusterIP: 10.96.0.10\n", spec)
    assert reason in run("-v", "compile", "-", stdin=text).err
    assert reason not in run("compile", "-", stdin=text).err


@pytest.mark.parametrize(
    "old, new, reason",
    [
        (
            "ports: [{port: 8080}]",
            "ports: [{port: 8080, name: http}]",
            "no slice has a port named (unnamed)/TCP (slices have: http/TCP)",
        ),
        ("ports: [{port: 8080}]", "ports: []", "no slice has a port named (unnamed)/TCP (slices have: none)"),
        (
            "nodeName: node2",
            "conditions: {ready: false}",
            "none of its endpoints is ready, nor serving while terminating",
        ),
    ],
)
def test_verbose_explains_services_without_endpoints(old: str, new: str, reason: str, run: Run) -> None:
    assert reason in run("-v", "compile", "-", stdin=f"{SERVICE}---\n{SLICE.replace(old, new)}").err


def test_verbose_explains_other_proxies_and_policies(run: Run) -> None:
    other = SERVICE.replace("namespace: shop", "labels: {service.kubernetes.io/service-proxy-name: x}")
    assert "leaves it to another proxy" in run("-v", "compile", "-", stdin=other).err
    local = f"{SERVICE}  internalTrafficPolicy: Local\n---\n{SLICE}"
    err = run("-v", "compile", "-", "--node", "node1", stdin=local).err
    assert (
        "stdin:1: Service shop/web: IPv4: traffic is dropped: internalTrafficPolicy is Local and this node"
        in err
    )


def test_local_policies_without_a_node_are_warned_of(run: Run) -> None:
    err = run("compile", "-", stdin=f"{SERVICE}  internalTrafficPolicy: Local\n").err
    assert "warning[KPN201]: no node is given, so no endpoint counts as local" in err


def test_other_kinds_are_counted_on_stderr(run: Run) -> None:
    pods = "---\napiVersion: v1\nkind: Pod\n" * 2
    assert run("compile", "-", stdin=SERVICE + pods).err == (
        "kproxy-nat: passed over 2 objects of other kinds (Pod 2)\n"
    )
    assert run("compile", "-", "--strict", stdin=SERVICE + pods).status == 3


def test_options_win_over_the_configuration(run: Run) -> None:
    Path("config.yaml").write_text(CONFIG + "clusterCIDR: 10.5.0.0/16\niptables: {masqueradeAll: true}\n")
    text = f"{SERVICE}---\n{SLICE}"
    configured = run("compile", "-", "--config", "config.yaml", "--no-masquerade-all", stdin=text).out
    assert "! -s 10.5.0.0/16" in configured
    overridden = run(
        "compile",
        "-",
        "--config",
        "config.yaml",
        "--no-masquerade-all",
        "--cluster-cidr",
        "10.6.0.0/16",
        stdin=text,
    ).out
    assert overridden == configured.replace("10.5.0.0/16", "10.6.0.0/16")


def test_the_configuration_named_wins_over_one_among_the_sources(run: Run) -> None:
    Path("config.yaml").write_text(CONFIG + "clusterCIDR: 10.5.0.0/16\n")
    text = f"{SERVICE}---\n{SLICE}---\n{CONFIG}clusterCIDR: 10.7.0.0/16\n"
    out = run("compile", "-", "--config", "config.yaml", stdin=text).out
    assert "10.5.0.0/16" in out
    assert "10.7.0.0/16" not in out


def test_a_configuration_file_has_to_hold_one(run: Run) -> None:
    Path("web.yaml").write_text(SERVICE)
    result = run("compile", "-", "--config", "web.yaml", stdin=SERVICE)
    assert result.status == 3
    assert "error[KPN007]: web.yaml: the file holds no KubeProxyConfiguration" in result.err


def test_the_mode_of_the_configuration_can_be_overruled(run: Run) -> None:
    text = f"{SERVICE}---\n{CONFIG}mode: ipvs\n"
    assert run("compile", "-", stdin=text).status == 3
    assert run("compile", "-", "--mode", "iptables", stdin=text).status == 0
    nftables = text.replace("ipvs", "nftables")
    assert run("compile", "-", stdin=nftables).out.startswith("table ip kube-proxy {")
    assert run("compile", "-", "--mode", "iptables", stdin=nftables).out.startswith("*filter")


def test_the_only_node_is_the_default_and_others_are_listed(run: Run) -> None:
    one, two = NODE % "node1", NODE % "node2"
    assert run("compile", "-", stdin=one).status == 0
    assert "help: give --node one of: node1, node2" in run("compile", "-", stdin=f"{two}---\n{one}").err
    assert run("compile", "-", "--node", "node2", stdin=f"{two}---\n{one}").status == 0


def test_warnings_do_not_fail(run: Run) -> None:
    result = run("compile", "-", stdin=ENDPOINTS)
    assert result.status == 0
    assert "warning[KPN303]" in result.err
    assert run("-q", "compile", "-", stdin=ENDPOINTS).err == ""


def test_warnings_can_be_coloured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run("compile", "-", stdin=ENDPOINTS).err
    assert "\x1b[33m" in run("--color", "always", "compile", "-", stdin=ENDPOINTS).err
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "\x1b[" not in run("compile", "-", stdin=ENDPOINTS).err


def test_warnings_and_notes_can_be_json(run: Run) -> None:
    result = run("-v", "--log-format", "json", "compile", "-", stdin=f"{ENDPOINTS}---\n{BOTH}")
    records = [json.loads(line) for line in result.err.splitlines()]
    assert {record["severity"] for record in records} >= {"info"}


@pytest.mark.parametrize("words", [["compile"], ["compile", "--mode", "x", "-"], ["aply"], ["apply", "-"]])
def test_wrong_usage_as_json(run: Run, words: list[str]) -> None:
    result = run("--log-format", "json", *words)
    (line,) = result.err.splitlines()
    assert (result.status, result.out, json.loads(line)["severity"]) == (2, "", "error")
    usage = run(*words).err
    assert usage.startswith("Usage: ")
    assert json.loads(line)["message"] in usage.replace("\n", " ")


def test_errors_can_be_json(run: Run) -> None:
    result = run("--log-format", "json", "compile", "-", stdin="a: [\n")
    assert json.loads(result.err)["code"] == "KPN010"


def test_errors_can_be_coloured(run: Run) -> None:
    assert "\x1b[31m" in run("--color", "always", "compile", "-", stdin="a: [\n").err


def test_quiet_hides_the_warnings_beside_errors(run: Run) -> None:
    result = run("-q", "compile", "-", stdin=f"{ENDPOINTS}---\na: [\n")
    assert "warning" not in result.err


def test_debug_shows_tracebacks_of_bugs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kproxy_nat.cli.compile.load_node", lambda *_, **__: 1 / 0)
    assert "Traceback" not in run("compile", "-").err
    assert "Traceback" in run("--debug", "compile", "-").err


def test_a_bug_is_1_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kproxy_nat.cli.compile.load_node", lambda *_, **__: 1 / 0)
    result = run("compile", "-")
    assert (result.status, result.out) == (1, "")
    assert "internal error: ZeroDivisionError" in result.err


def test_the_order_of_sources_and_objects_does_not_matter(run: Run) -> None:
    assert (
        run("compile", "-", stdin=f"{SLICE}---\n{SERVICE}").out
        == run("compile", "-", stdin=f"{SERVICE}---\n{SLICE}").out
    )


# --- as a process of its own


def process(*args: str, stdin: str = "", shell: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kproxy_nat", *args]
    if shell:
        command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *command]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


def test_the_module_runs() -> None:
    done = process("compile", "-", stdin=SERVICE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("COMMIT\n")
    assert process("compile", "-", stdin="a: [").returncode == 3


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "kproxy_nat", "compile", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as child:
        assert child.stdout
        child.stdout.close()
        child.stdout = None
        _, err = child.communicate(SERVICE, timeout=60)
    assert (child.returncode, err) == (141, "")


def test_a_full_disk_is_told() -> None:
    done = process("compile", "-", stdin=SERVICE, shell="> /dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("opening", [": ", "- : "])
def test_no_depth_kills_the_process(opening: str) -> None:
    assert process("compile", "-", stdin=opening * 40_000).returncode == 3


@pytest.mark.parametrize("opening", ["[", "[: ", "{a: ", "[{a: ", "a: [", '"x": ', "a: "])
def test_other_depths_are_refused(opening: str) -> None:
    assert process("compile", "-", stdin=opening * 40_000).returncode == 3
