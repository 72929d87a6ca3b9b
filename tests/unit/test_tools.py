"""Finding the netfilter tools, among programs that are made up: their versions are not to be had here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kproxy_nat.apply import tools
from kproxy_nat.apply.tools import (
    Holding,
    Variant,
    find_iptables,
    find_program,
    find_tool,
    has_kube_proxy_table,
    holding,
    installed_variant,
    installed_variants,
    legacy_tables,
    other_variant_problem,
    parse_version,
    require_tool,
    version_text,
)
from kproxy_nat.errors import ApplyError, Code, Severity
from kproxy_nat.net.addresses import IpFamily

Install = Callable[..., Path]

FRAME = "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
EMPTY = f"{FRAME}COMMIT\n"
FOREIGN = f"{FRAME}-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
OURS = f"{FRAME}:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a program in the only folder of PATH: it answers --version, and otherwise runs a script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tools, "SBIN", ())

    def call(name: str, version: str = "", script: str = "") -> Path:
        path = folder / name
        answer = f"echo '{version}'" if version else "echo 'unrecognized option --version' >&2; exit 1"
        path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {answer}; exit; fi\n{script}\n')
        path.chmod(0o755)
        return path

    return call


def install_variant(install: Install, variant: str, dump: str = EMPTY, version: str = "1.8.9") -> None:
    """Install one variant under names of its own; its rules are ``dump``, for IPv4 only."""
    word = {"nft": "nf_tables", "legacy": "legacy"}[variant]
    for prefix in ("iptables", "ip6tables"):
        text = dump if prefix == "iptables" else EMPTY
        install(f"{prefix}-{variant}-restore", f"{prefix}-restore v{version} ({word})")
        install(f"{prefix}-{variant}-save", f"{prefix}-save v{version} ({word})", f"echo '{text}'")


def install_plain(install: Install, version: str, script: str = "") -> None:
    for prefix in ("iptables", "ip6tables"):
        for action in ("restore", "save"):
            install(f"{prefix}-{action}", f"{prefix}-{action} {version}", script)


@pytest.fixture
def legacy_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "legacy_tables", lambda family: ("nat",))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("iptables v1.8.9 (nf_tables)", (1, 8, 9)),
        ("iptables-restore v1.4.21", (1, 4, 21)),
        ("nftables v1.0.6 (Lester Gooch #5)", (1, 0, 6)),
        ("nftables v1.0.6.1 (Lester Gooch #5)", (1, 0, 6, 1)),
        ("6.18.44-cloud-amd64", (6, 18, 44)),
        ("unknown option", ()),
        ("", ()),
    ],
)
def test_a_version_is_read_from_what_a_tool_prints(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_versions_are_written_as_people_do() -> None:
    assert version_text((1, 8, 10)) == "1.8.10"
    assert version_text(()) == "of unknown version"


@pytest.mark.parametrize("variant", Variant)
def test_a_variant_is_found_by_its_name(install: Install, variant: Variant) -> None:
    install_variant(install, str(variant))
    found = find_iptables(variant)
    assert found.variant is variant
    assert found.version == (1, 8, 9)
    assert found.description == f"iptables-{variant} 1.8.9"
    assert found.restore[IpFamily.IPV4].name == f"iptables-{variant}-restore"
    assert found.restore[IpFamily.IPV6].name == f"ip6tables-{variant}-restore"
    assert found.save[IpFamily.IPV4].name == f"iptables-{variant}-save"
    assert found.save[IpFamily.IPV6].name == f"ip6tables-{variant}-save"


@pytest.mark.parametrize(
    ("version", "variant"),
    [("v1.8.9 (nf_tables)", Variant.NFT), ("v1.8.9 (legacy)", Variant.LEGACY), ("v1.6.1", Variant.LEGACY)],
)
def test_the_plain_tool_is_the_variant_that_it_says(install: Install, version: str, variant: Variant) -> None:
    install_plain(install, version)
    assert find_iptables().variant is variant
    assert find_iptables(variant).restore[IpFamily.IPV4].name == "iptables-restore"
    assert installed_variant(variant.other) is None


def test_an_old_restore_without_a_version_is_asked_through_the_command_beside_it(install: Install) -> None:
    install_plain(install, "v1.6.1")
    for prefix in ("iptables", "ip6tables"):
        install(f"{prefix}-restore")
        install(f"{prefix}-save")
        install(prefix, f"{prefix} v1.6.0")
    assert find_iptables().variant is Variant.LEGACY
    assert find_iptables().version == (1, 6, 0)


@pytest.mark.parametrize(
    ("version", "expected"), [("1.6.1", False), ("1.6.2", True), ("1.8.9", True), ("1.10.0", True)]
)
def test_random_fully_is_known_since_1_6_2(install: Install, version: str, expected: bool) -> None:
    install_variant(install, "legacy", version=version)
    assert find_iptables().random_fully is expected


def test_what_is_missing_is_named_with_its_packages(install: Install) -> None:
    with pytest.raises(ApplyError) as raised:
        find_iptables()
    (problem,) = raised.value.problems
    assert problem.code is Code.TOOL_MISSING
    assert problem.message == "iptables is not there"
    assert "package iptables of Debian and Ubuntu" in problem.hint
    assert "iptables-nft or iptables-legacy of Fedora" in problem.hint


def test_a_variant_that_was_asked_for_is_not_replaced_by_the_other(install: Install) -> None:
    install_variant(install, "nft")
    with pytest.raises(ApplyError) as raised:
        find_iptables(Variant.LEGACY)
    (problem,) = raised.value.problems
    assert problem.message == "the legacy variant of iptables is not there"
    assert "iptables-legacy-restore was not found" in problem.hint


@pytest.mark.parametrize("lacking", ["ip6tables-nft-restore", "iptables-nft-save"])
def test_a_variant_needs_all_of_its_programs(install: Install, lacking: str, tmp_path: Path) -> None:
    install_variant(install, "nft")
    (tmp_path / "bin" / lacking).unlink()
    assert installed_variant(Variant.NFT) is None


def test_relative_entries_of_path_are_passed_over(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = install("nft", "nftables v1.0.6")
    assert find_program("nft") == path
    monkeypatch.chdir(tmp_path / "bin")
    for entries in (".", "", os.pathsep, "../bin"):
        monkeypatch.setenv("PATH", entries)
        assert find_program("nft") is None


def test_administrators_folders_are_searched_after_path(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_path = install("nft", "nftables v1.0.6")
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    monkeypatch.setattr(tools, "SBIN", (str(sbin),))
    for name in ("nft", "conntrack"):
        (sbin / name).write_text("#!/bin/sh\n")
        (sbin / name).chmod(0o755)
    assert find_program("nft") == in_path
    assert find_program("conntrack") == sbin / "conntrack"


def test_a_tool_comes_with_its_version(install: Install) -> None:
    path = install("conntrack", "conntrack v1.4.7 (conntrack-tools)")
    tool = require_tool("conntrack")
    assert (tool.name, tool.path, tool.version) == ("conntrack", path, (1, 4, 7))


def test_nfacct_is_asked_in_its_own_way(install: Install) -> None:
    install("nfacct", script='[ "$1" = version ] && echo "nfacct v1.0.2: utility"')
    assert require_tool("nfacct").version == (1, 0, 2)


@pytest.mark.parametrize("script", ["exit 1", "kill -SEGV $$"])
def test_a_tool_that_does_not_run_is_not_there(install: Install, script: str) -> None:
    install("nfacct", script=script)
    assert find_tool("nfacct") is None


@pytest.mark.parametrize("name", tools.PACKAGES)
def test_a_missing_tool_names_its_package(install: Install, name: str) -> None:
    with pytest.raises(ApplyError) as raised:
        require_tool(name)
    (problem,) = raised.value.problems
    assert problem.code is Code.TOOL_MISSING
    assert problem.message == f"{name} is not there"
    assert problem.hint == f"install {tools.PACKAGES[name]}"


@pytest.mark.parametrize("plain", ["v1.8.9 (nf_tables)", "v1.8.9 (legacy)"])
@pytest.mark.parametrize(
    ("nft", "legacy", "expected"),
    [
        (EMPTY, EMPTY, None),
        (OURS, EMPTY, Variant.NFT),
        (EMPTY, OURS, Variant.LEGACY),
        (OURS, FOREIGN, Variant.NFT),
        (FOREIGN, OURS, Variant.LEGACY),
        (FOREIGN, EMPTY, Variant.NFT),
        (EMPTY, FOREIGN, Variant.LEGACY),
        (FOREIGN, FOREIGN, None),
        (OURS, OURS, None),
    ],
)
@pytest.mark.usefixtures("legacy_is_loaded")
def test_the_variant_in_use_is_chosen_and_else_the_plain_one(
    install: Install, plain: str, nft: str, legacy: str, expected: Variant | None
) -> None:
    install_plain(install, plain, f"echo '{nft if 'nf_tables' in plain else legacy}'")
    install_variant(install, "nft", nft)
    install_variant(install, "legacy", legacy)
    otherwise = Variant.NFT if "nf_tables" in plain else Variant.LEGACY
    assert find_iptables().variant is (expected or otherwise)
    assert installed_variants()[0].variant is otherwise


@pytest.mark.parametrize(
    ("dump", "expected"),
    [
        (EMPTY, Holding.NOTHING),
        ("", Holding.NOTHING),
        (FOREIGN, Holding.FOREIGN),
        (EMPTY.replace("PREROUTING ACCEPT", "PREROUTING DROP"), Holding.FOREIGN),
        (f"{FRAME}:DOCKER - [0:0]\nCOMMIT\n", Holding.FOREIGN),
        (f"{FRAME}:KUBE-SERVICES-OLD - [0:0]\nCOMMIT\n", Holding.FOREIGN),
        (f"{FRAME}:KUBE-SERVICES - [0:0]\nCOMMIT\n", Holding.OURS),
        (OURS, Holding.OURS),
    ],
)
def test_what_a_variant_holds_is_told_from_its_dump(install: Install, dump: str, expected: Holding) -> None:
    install_variant(install, "nft", dump)
    assert holding(find_iptables()) is expected


def test_rules_of_the_second_family_count(install: Install) -> None:
    install_variant(install, "nft")
    install("ip6tables-nft-save", "ip6tables-save v1.8.9 (nf_tables)", f"echo '{OURS}'")
    assert holding(find_iptables()) is Holding.OURS


def test_reading_ends_at_the_first_rule(install: Install) -> None:
    install_variant(install, "nft")
    endless = f"echo '{FRAME}'; while :; do echo '-A PREROUTING -j ACCEPT'; done"
    install("iptables-nft-save", "iptables-save v1.8.9 (nf_tables)", endless)
    assert holding(find_iptables()) is Holding.FOREIGN


def test_a_variant_that_cannot_be_asked_holds_nothing(install: Install) -> None:
    install_variant(install, "nft")
    for prefix in ("iptables", "ip6tables"):
        refuse = "echo 'Permission denied (you must be root)' >&2; exit 4"
        install(f"{prefix}-nft-save", f"{prefix}-save v1.8.9 (nf_tables)", refuse)
    assert holding(find_iptables()) is Holding.NOTHING


def test_legacy_tables_that_are_not_there_are_not_made_by_looking(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "legacy_tables", lambda family: ())
    install_variant(install, "legacy")
    for prefix in ("iptables", "ip6tables"):
        version = f"{prefix}-save v1.8.9 (legacy)"
        install(f"{prefix}-legacy-save", version, f"echo made > {tmp_path}/made; echo '{OURS}'")
    assert holding(find_iptables()) is Holding.NOTHING
    assert not (tmp_path / "made").exists()


def test_without_ip_tables_in_the_kernel_there_are_no_legacy_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_TABLE_NAMES", dict.fromkeys(IpFamily, "no-such-file"))
    assert legacy_tables(IpFamily.IPV4) == ()


@pytest.mark.usefixtures("legacy_is_loaded")
def test_rules_of_the_other_variant_are_a_warning(install: Install) -> None:
    install_variant(install, "nft", OURS)
    install_variant(install, "legacy", FOREIGN)
    problem = other_variant_problem(Variant.NFT)
    assert problem is not None
    assert problem.code is Code.OTHER_VARIANT_LOADED
    assert problem.severity is Severity.WARNING
    assert problem.message == "iptables-legacy holds rules, too; both are in force"


@pytest.mark.usefixtures("legacy_is_loaded")
def test_there_is_no_warning_without_rules_of_the_other_variant(install: Install) -> None:
    install_variant(install, "nft", OURS)
    assert other_variant_problem(Variant.NFT) is None
    install_variant(install, "legacy", EMPTY)
    assert other_variant_problem(Variant.NFT) is None


def test_the_table_of_kube_proxy_is_known_by_family_and_name(install: Install) -> None:
    assert not has_kube_proxy_table(IpFamily.IPV6)
    listing = "table ip kube-proxy-old\ntable inet kube-proxy\ntable ip6 kube-proxy\n"
    install("nft", "nftables v1.0.6", f'[ "$*" = "list tables" ] && echo "{listing}"')
    assert has_kube_proxy_table(IpFamily.IPV6)
    assert not has_kube_proxy_table(IpFamily.IPV4)
