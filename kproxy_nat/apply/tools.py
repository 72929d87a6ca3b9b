"""The netfilter tools: where they are, which versions they have, which variant of iptables to use.

iptables is there in two variants that know nothing of each other's rules, while the kernel obeys both:
``legacy`` speaks to ip_tables, ``nft`` to nf_tables. Since version 1.8 a program says which it is, and
distributions install both under names of their own beside the plain ``iptables``, which is either.
"""

from __future__ import annotations

import enum
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.errors import ApplyError, Code, Problem, Severity
from kproxy_nat.net.addresses import IpFamily

Version = tuple[int, ...]
"""A version as numbers; empty if the tool does not tell."""

SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Searched after PATH: a user's PATH often lacks them, and ``sudo`` may keep it."""

OUR_CHAINS = ("KUBE-SERVICES", "KPN-SERVICES")
RANDOM_FULLY_SINCE: Version = (1, 6, 2)
TIMEOUT = 30
"""Seconds after which a tool that was only asked for its version hangs."""

PACKAGES = {
    "iptables": "package iptables of Debian and Ubuntu; iptables-nft or iptables-legacy of Fedora",
    "nft": "package nftables of Debian, Ubuntu and Fedora",
    "nfacct": "package nfacct of Debian and Ubuntu",
    "conntrack": "package conntrack of Debian and Ubuntu, conntrack-tools of Fedora",
}
"""What to install for each tool, as hints say it."""

_PREFIX = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}
_TABLE_NAMES = {IpFamily.IPV4: "ip_tables_names", IpFamily.IPV6: "ip6_tables_names"}
_NFT_FAMILY = {IpFamily.IPV4: "ip", IpFamily.IPV6: "ip6"}
_VERSION_ARGUMENT = {"nfacct": "version"}


class Variant(enum.StrEnum):
    """Which half of the kernel an iptables tool speaks to."""

    NFT = "nft"
    LEGACY = "legacy"

    @property
    def other(self) -> Variant:
        """The other one."""
        return Variant.LEGACY if self is Variant.NFT else Variant.NFT


class Holding(enum.IntEnum):
    """What a variant holds in a namespace: nothing, somebody's rules, or Service rules among them."""

    NOTHING = 0
    FOREIGN = 1
    OURS = 2


@dataclass(frozen=True, slots=True)
class Tool:
    """A program with its version."""

    name: str
    path: Path
    version: Version


@dataclass(frozen=True, slots=True)
class IptablesTools:
    """One variant of iptables; both families are always there."""

    variant: Variant
    version: Version
    restore: Mapping[IpFamily, Path]
    save: Mapping[IpFamily, Path]

    @property
    def random_fully(self) -> bool:
        """Whether ``MASQUERADE --random-fully`` is known to it, as kube-proxy decides that."""
        return self.version >= RANDOM_FULLY_SINCE

    @property
    def description(self) -> str:
        """Variant and version, as records and messages name them."""
        return f"iptables-{self.variant} {version_text(self.version)}"


def version_text(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version)) or "of unknown version"


def parse_version(text: str) -> Version:
    """Return the first version in what a tool prints, as in ``iptables v1.8.9 (nf_tables)``, or nothing."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found.group().split("."))) if found else ()


def find_program(name: str) -> Path | None:
    """Return the path of a program, looked for in PATH and where administrators' programs are.

    Relative entries of PATH, the empty one too, are passed over: root must not run what lies about in the
    working directory.
    """
    directories = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *SBIN]
    found = shutil.which(name, path=os.pathsep.join(d for d in directories if os.path.isabs(d)))
    return Path(found) if found else None


def find_tool(name: str) -> Tool | None:
    """Return ``nft``, ``nfacct`` or ``conntrack`` with its version, if it is there and runs."""
    path = find_program(name)
    output = path and _output(path, _VERSION_ARGUMENT.get(name, "--version"))
    return Tool(name, path, parse_version(output)) if path and output else None


def require_tool(name: str) -> Tool:
    """Return ``nft``, ``nfacct`` or ``conntrack`` with its version.

    Raises:
        ApplyError: it is not there.
    """
    found = find_tool(name)
    if found is None:
        raise ApplyError(Problem(Code.TOOL_MISSING, f"{name} is not there", hint=install_hint(name)))
    return found


def install_hint(name: str) -> str:
    """Return what to do about a tool that is missing."""
    return f"install {PACKAGES[name]}"


def find_iptables(variant: Variant | None = None) -> IptablesTools:
    """Return the tools of that variant; without one, of the variant that this namespace uses.

    That is the one that holds Service rules, else the one that holds any rules, else what ``iptables`` is,
    else the one that is installed. The namespace is that of the calling thread; looking changes nothing
    in it.

    Raises:
        ApplyError: it is not installed.
    """
    if variant is not None:
        found = installed_variant(variant)
        if found is None:
            raise _missing(f"the {variant} variant of iptables is not there", f"iptables-{variant}-restore")
        return found
    installed = installed_variants()
    if not installed:
        raise _missing("iptables is not there", "iptables-restore")
    if len(installed) == 1 or holding(installed[1]) is Holding.NOTHING:
        return installed[0]
    return max(installed, key=holding)


def installed_variants() -> tuple[IptablesTools, ...]:
    """Return the variants that are installed; first the one that plain ``iptables`` is."""
    installed = [tools for tools in map(installed_variant, Variant) if tools is not None]
    plain = _plain_variant() if len(installed) > 1 else None
    return tuple(sorted(installed, key=lambda tools: tools.variant is not plain))


def installed_variant(variant: Variant) -> IptablesTools | None:
    """Return the tools of that variant, if it is there for both families."""
    restore = {family: _find_variant(variant, prefix, "restore") for family, prefix in _PREFIX.items()}
    save = {family: _find_variant(variant, prefix, "save") for family, prefix in _PREFIX.items()}
    restores = {family: path for family, path in restore.items() if path}
    saves = {family: path for family, path in save.items() if path}
    if len(restores) < len(_PREFIX) or len(saves) < len(_PREFIX):
        return None
    version = parse_version(_version_output(restores[IpFamily.IPV4]))
    return IptablesTools(variant, version, restores, saves)


def holding(tools: IptablesTools) -> Holding:
    """Return what a variant holds in the namespace of the calling thread.

    A variant that cannot be asked, since the kernel lacks it or the caller the privilege, holds nothing.
    """
    return max(_family_holding(tools, family) for family in IpFamily)


def other_variant_problem(chosen: Variant) -> Problem | None:
    """Return a warning if the other variant holds rules in the namespace of the calling thread, too."""
    if other_holding(chosen) is Holding.NOTHING:
        return None
    return Problem(
        Code.OTHER_VARIANT_LOADED,
        f"iptables-{chosen.other} holds rules, too; both are in force",
        Severity.WARNING,
        hint=f"look at them with iptables-{chosen.other}-save; remove one, or choose with --iptables",
    )


def other_holding(chosen: Variant) -> Holding:
    """Return what the other variant holds in the namespace of the calling thread."""
    other = installed_variant(chosen.other)
    return holding(other) if other else Holding.NOTHING


def has_kube_proxy_table(family: IpFamily) -> bool:
    """Tell whether nftables' table ``kube-proxy`` is in the namespace of the calling thread.

    Without ``nft``, and without privilege, it is not.
    """
    nft = find_program("nft")
    tables = _output(nft, "list", "tables") if nft else ""
    return f"table {_NFT_FAMILY[family]} kube-proxy" in tables.splitlines()


def _family_holding(tools: IptablesTools, family: IpFamily) -> Holding:
    """Look at one family; where ip_tables is concerned, only at tables that are there.

    ``iptables-legacy-save -t nat`` makes the table if it is not, and then the kernel tracks connections.
    """
    legacy = tools.variant is Variant.LEGACY
    names = legacy_tables(family) if legacy else ("nat",)
    save = tools.save[family]
    heads = tuple(f":{chain} " for chain in OUR_CHAINS)
    if "nat" in names and any(line.startswith(heads) for line in _heads(save, "-t", "nat")):
        return Holding.OURS
    return Holding.FOREIGN if names and any(map(_is_effective, _lines(save))) else Holding.NOTHING


def legacy_tables(family: IpFamily) -> tuple[str, ...]:
    """Return the tables of ip_tables in the namespace of the calling thread; none if that cannot be read."""
    try:
        return tuple(Path("/proc/thread-self/net", _TABLE_NAMES[family]).read_text(encoding="ascii").split())
    except OSError:
        return ()


def _is_effective(line: str) -> bool:
    """Tell a rule, a chain of somebody's or a policy other than ACCEPT from the tables' own frame."""
    return line.startswith("-A") or (line.startswith(":") and " ACCEPT " not in line)


def _heads(save: Path, *arguments: str) -> Iterator[str]:
    """Yield the lines before the first rule: the chains of one table."""
    for line in _lines(save, *arguments):
        if line.startswith("-A"):
            return
        yield line


def _lines(program: Path, *arguments: str) -> Iterator[str]:
    """Yield lines as a program prints them, and end it when the reader has seen enough."""
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError:
        return
    with process:
        try:
            yield from process.stdout or ()
        finally:
            process.kill()


def _plain_variant() -> Variant | None:
    """Return which variant the plain name leads to."""
    path = find_program("iptables-restore")
    return _variant_of(_version_output(path)) if path else None


def _find_variant(variant: Variant, prefix: str, action: str) -> Path | None:
    """Return the program with the variant in its name, or the plain one if it says that it is the variant."""
    named = find_program(f"{prefix}-{variant}-{action}")
    if named:
        return named
    plain = find_program(f"{prefix}-{action}")
    return plain if plain and _variant_of(_version_output(plain)) is variant else None


def _variant_of(version_output: str) -> Variant | None:
    """Return the variant that a tool says it is; before 1.8 there was one, and no word about it."""
    if "(nf_tables)" in version_output:
        return Variant.NFT
    return Variant.LEGACY if parse_version(version_output) else None


def _version_output(path: Path) -> str:
    """Return what a tool says about its version.

    ``iptables-restore`` and ``-save`` before 1.8 have no such option, the command beside them has.
    """
    base = re.sub(r"-(restore|save)$", "", path.name)
    return _output(path, "--version") or _output(path.with_name(base), "--version")


def _output(program: Path, *arguments: str) -> str:
    """Return what a program prints; nothing if it cannot be run, fails or hangs."""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _missing(message: str, program: str) -> ApplyError:
    hint = f"{program} was not found; {install_hint('iptables')}"
    return ApplyError(Problem(Code.TOOL_MISSING, message, hint=hint))
