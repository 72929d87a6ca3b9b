"""``kproxy-nat doctor``: whether this machine can carry out what the rules ask for."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

import click
import msgspec

from kproxy_nat.apply.kernel_features import NEEDS_ROOT, PYTHON_IPTABLES, Finding, State, probe_kernel
from kproxy_nat.apply.known_faults import KERNEL, KnownFault, known_faults
from kproxy_nat.apply.namespaces import Namespace, open_host, open_namespace
from kproxy_nat.apply.tools import (
    Holding,
    IptablesTools,
    Variant,
    find_iptables,
    find_tool,
    has_kube_proxy_table,
    holding,
    install_hint,
    installed_variants,
    other_variant_problem,
    parse_version,
    version_text,
)
from kproxy_nat.cli.completion import complete_namespace
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.output import stdout_has_color, write_stdout
from kproxy_nat.json_text import json_text
from kproxy_nat.net.addresses import IpFamily

FORMAT = 1
"""The version of the JSON; a change that breaks readers raises it. See ``docs/doctor.md``."""

OPTIONAL_TOOLS = ("nft", "nfacct", "conntrack")

OK, WARNING, MISSING, NOT_CHECKED = "ok", "warning", "missing", "not checked"
_COLOURS = {OK: "green", WARNING: "yellow", NOT_CHECKED: "yellow", MISSING: "red"}
_SEVERITIES = list(_COLOURS)
_MARK_WIDTH = max(map(len, _COLOURS))
_NAME_WIDTH = 24
_TEXT_WIDTH = 110


class Item(msgspec.Struct, frozen=True):
    """A tool or a library. ``version`` and ``path`` are empty if it is not there, or does not tell."""

    name: str
    status: str
    required: bool
    version: str = ""
    path: str = ""
    message: str = ""
    remedy: str = ""


class FeatureItem(msgspec.Struct, frozen=True):
    """A feature of the kernel as seen through one tool; ``family`` is empty where it makes no difference."""

    name: str
    purpose: str
    tool: str
    family: str
    status: str
    required: bool
    message: str
    remedy: str


class NamespaceItem(msgspec.Struct, frozen=True):
    """What a namespace holds: in each variant ``nothing``, ``foreign`` rules, or ``services`` among them."""

    name: str
    variants: dict[str, str]
    kube_proxy_table: bool
    warning: str
    remedy: str


class FaultItem(msgspec.Struct, frozen=True):
    """See :class:`kproxy_nat.apply.known_faults.KnownFault`."""

    id: str
    tool: str
    affected: str
    effect: str
    remedy: str
    reference: str


class Diagnosis(msgspec.Struct, frozen=True):
    """All that was found. ``ok``: everything that apply needs in iptables mode is there."""

    version: int
    ok: bool
    kernel: str
    iptables: str
    tools: tuple[Item, ...]
    libraries: tuple[Item, ...]
    features: tuple[FeatureItem, ...]
    namespace: NamespaceItem | None
    faults: tuple[FaultItem, ...]


@click.command("doctor", short_help="Check tools, kernel and versions for what apply needs.")
@click.option(
    "--netns",
    metavar="NAME",
    shell_complete=complete_namespace,
    help="Also look which rules this network namespace holds.",
)
@click.option("--host", is_flag=True, help="Also look which rules the host itself holds.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="The form."
)
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, netns: str | None, host: bool, output: str) -> None:
    """Check whether this machine has what apply needs.

    Features of the kernel are tried for real, in network namespaces that end with the trial; no rules of
    this machine are touched. Exit status: 0 everything needed is there, 1 something is missing or, without
    privilege, could not be checked. What is optional is a warning.

    \b
    Examples:
      kproxy-nat doctor
      kproxy-nat doctor --netns demo -o json
    """  # noqa: D301
    if netns is not None and host:
        raise click.UsageError("give either --netns or --host")
    with _opened(netns, host) as namespace:
        diagnosis = diagnose(namespace)
    if output == "json":
        write_stdout(json_text(diagnosis, indent=2))
    else:
        write_stdout("\n".join(render_text(diagnosis, color=stdout_has_color(ctx))) + "\n")
    ctx.exit(0 if diagnosis.ok else 1)


@contextmanager
def _opened(netns: str | None, host: bool) -> Iterator[Namespace | None]:
    if netns is None and not host:
        yield None
        return
    with open_host() if netns is None else open_namespace(netns) as namespace:
        yield namespace


def diagnose(namespace: Namespace | None) -> Diagnosis:
    """Look at this machine and, if one is given, at what a namespace holds.

    Raises:
        ApplyError: the namespace cannot be entered.
    """
    installed = installed_variants()
    chosen = _chosen(installed, namespace)
    findings = probe_kernel()
    tools = (*_iptables_items(installed), *map(_tool_item, OPTIONAL_TOOLS))
    libraries = tuple(_library_items(findings))
    features = tuple(_feature_item(finding, chosen) for finding in findings)
    kernel = os.uname().release
    versions = {f"iptables-{each.variant}": each.version for each in installed}
    versions |= {item.name: parse_version(item.version) for item in tools if item.name in OPTIONAL_TOOLS}
    needed: Iterable[Item | FeatureItem] = (*tools, *libraries, *features)
    return Diagnosis(
        version=FORMAT,
        ok=all(item.status in (OK, WARNING) for item in needed if item.required),
        kernel=kernel,
        iptables=str(chosen.variant) if chosen else "",
        tools=tools,
        libraries=libraries,
        features=features,
        namespace=_namespace_item(namespace, installed, chosen) if namespace else None,
        faults=tuple(map(_fault_item, known_faults({**versions, KERNEL: parse_version(kernel)}))),
    )


def _chosen(installed: tuple[IptablesTools, ...], namespace: Namespace | None) -> IptablesTools | None:
    """Return the tools that apply would use; without a namespace, in one that holds no rules."""
    if not installed:
        return None
    return namespace.run(find_iptables) if namespace else installed[0]


def _iptables_items(installed: tuple[IptablesTools, ...]) -> Iterator[Item]:
    if not installed:
        yield Item("iptables", MISSING, required=True, remedy=install_hint("iptables"))
    for tools in sorted(installed, key=lambda tools: list(Variant).index(tools.variant)):
        path = str(tools.restore[IpFamily.IPV4])
        yield Item(f"iptables-{tools.variant}", OK, True, version_text(tools.version), path)


def _tool_item(name: str) -> Item:
    tool = find_tool(name)
    if tool is None:
        return Item(name, WARNING, required=False, remedy=install_hint(name))
    return Item(name, OK, False, version_text(tool.version), str(tool.path))


def _library_items(findings: Iterable[Finding]) -> Iterator[Item]:
    """Yield the libraries; python-iptables as the probe found it, since it may be there and not work."""
    pyroute2 = _library_version("pyroute2")
    remedy = "" if pyroute2 else "install pyroute2, for example with pip install pyroute2"
    yield Item("pyroute2", OK if pyroute2 else MISSING, True, pyroute2, remedy=remedy)
    found = next(finding for finding in findings if finding.feature is PYTHON_IPTABLES)
    status = {State.AVAILABLE: OK, State.MISSING: WARNING, State.NOT_CHECKED: NOT_CHECKED}[found.state]
    version = _library_version(PYTHON_IPTABLES.name)
    if not version:
        remedy = "pip install 'kproxy-nat[python-iptables]', which needs a C compiler"
        yield Item(PYTHON_IPTABLES.name, WARNING, False, remedy=remedy)
    else:
        yield Item(PYTHON_IPTABLES.name, status, False, version, message=found.message)


def _library_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _feature_item(finding: Finding, chosen: IptablesTools | None) -> FeatureItem:
    """Return a feature; required is what apply needs of the variant that it would use.

    Without IPv6 there are no IPv6 rules to apply, so its features are optional.
    """
    feature = finding.feature
    used = chosen is not None and finding.tool == f"iptables-{chosen.variant}"
    required = feature.required and used and finding.family is IpFamily.IPV4
    missing = MISSING if required else WARNING
    status = {State.AVAILABLE: OK, State.MISSING: missing, State.NOT_CHECKED: NOT_CHECKED}[finding.state]
    return FeatureItem(
        name=feature.name,
        purpose=feature.purpose,
        tool=finding.tool,
        family=str(finding.family or ""),
        status=status,
        required=required,
        message=finding.message,
        remedy=_feature_remedy(finding),
    )


def _feature_remedy(finding: Finding) -> str:
    if finding.state is State.AVAILABLE:
        return ""
    if finding.state is State.NOT_CHECKED:
        return "run kproxy-nat doctor as root" if finding.message == NEEDS_ROOT else ""
    return f"use a kernel that has {finding.feature.modules}"


def _namespace_item(
    namespace: Namespace, installed: tuple[IptablesTools, ...], chosen: IptablesTools | None
) -> NamespaceItem:
    variants = {str(tools.variant): _HOLDS[namespace.run(holding, tools)] for tools in installed}
    kube_proxy_table = any(namespace.run(has_kube_proxy_table, family) for family in IpFamily)
    other = namespace.run(other_variant_problem, chosen.variant) if chosen else None
    return NamespaceItem(
        name=namespace.label,
        variants=variants,
        kube_proxy_table=kube_proxy_table,
        warning=other.message if other else "",
        remedy=other.hint if other else "",
    )


_HOLDS = {Holding.NOTHING: "nothing", Holding.FOREIGN: "foreign", Holding.OURS: "services"}


def _fault_item(fault: KnownFault) -> FaultItem:
    return FaultItem(fault.id, fault.tool, str(fault.affected), fault.effect, fault.remedy, fault.reference)


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table, with lines of explanation below it."""

    status: str
    name: str
    detail: str = ""
    notes: tuple[str, ...] = ()


def render_text(diagnosis: Diagnosis, *, color: bool) -> Iterator[str]:
    """Yield the lines of a table for people."""
    sections = [
        ("tools", [_item_row(item, diagnosis) for item in diagnosis.tools]),
        ("Python libraries", [_item_row(item, diagnosis) for item in diagnosis.libraries]),
        (f"kernel {diagnosis.kernel}", list(_feature_rows(diagnosis))),
    ]
    if diagnosis.namespace is not None:
        rows = list(_namespace_rows(diagnosis.namespace))
        sections.append((f"rules in {diagnosis.namespace.name}", rows))
    if diagnosis.faults:
        sections.append(("versions with known faults", [_fault_row(fault) for fault in diagnosis.faults]))
    for title, rows in sections:
        yield click.style(title, bold=True) if color else title
        for row in rows:
            yield from _row_lines(row, color)
        yield ""
    yield from _summary(diagnosis)


def _row_lines(row: _Row, color: bool) -> Iterator[str]:
    mark = row.status.ljust(_MARK_WIDTH)
    painted = click.style(mark, fg=_COLOURS[row.status]) if color else mark
    yield f"  {painted}  {row.name.ljust(_NAME_WIDTH)}  {row.detail}".rstrip()
    indent = " " * (_MARK_WIDTH + 6)
    for note in row.notes:
        yield from textwrap.wrap(
            note,
            _TEXT_WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _item_row(item: Item, diagnosis: Diagnosis) -> _Row:
    used = " (apply uses it)" if item.name == f"iptables-{diagnosis.iptables}" else ""
    detail = f"{item.version}  {item.path}{used}" if item.version else "not there"
    return _Row(item.status, item.name, detail.rstrip(), _notes(item.message, item.remedy))


def _feature_rows(diagnosis: Diagnosis) -> Iterator[_Row]:
    """Yield a row for each feature; what python-iptables can do stands with the library."""
    names = dict.fromkeys(item.name for item in diagnosis.features if item.name != PYTHON_IPTABLES.name)
    for name in names:
        items = [item for item in diagnosis.features if item.name == name]
        worst = max((item.status for item in items), key=_SEVERITIES.index)
        if worst == NOT_CHECKED:
            yield _Row(worst, name, f"{items[0].purpose}: {items[0].message}")
            continue
        bad = [item for item in items if item.status != OK]
        said = tuple(f"{item.tool} {item.family}".rstrip() + f": {item.message}" for item in bad)
        yield _Row(worst, name, items[0].purpose, (*said, *_notes("", bad[0].remedy if bad else "")))


def _namespace_rows(item: NamespaceItem) -> Iterator[_Row]:
    said = {"nothing": "nothing", "foreign": "rules, none of Services", "services": "rules of Services"}
    for variant, holds in item.variants.items():
        yield _Row(OK, f"iptables-{variant}", said[holds])
    if item.kube_proxy_table:
        remedy = "stop that kube-proxy first, and let kube-proxy --cleanup remove its table"
        yield _Row(WARNING, "table kube-proxy", "a kube-proxy in nftables mode", _notes("", remedy))
    if item.warning:
        yield _Row(WARNING, "both variants", item.warning, _notes("", item.remedy))


def _fault_row(fault: FaultItem) -> _Row:
    notes = (*_notes(fault.effect, fault.remedy), f"see: {fault.reference}")
    return _Row(WARNING, f"{fault.id} ({fault.tool} {fault.affected})", "", notes)


def _notes(message: str, remedy: str) -> tuple[str, ...]:
    return (*([message] if message else []), *([f"help: {remedy}"] if remedy else []))


def _summary(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield what it comes to."""
    items: list[Item | FeatureItem] = [*diagnosis.tools, *diagnosis.libraries, *diagnosis.features]
    missing = list(dict.fromkeys(item.name for item in items if item.status == MISSING))
    if missing:
        yield f"apply lacks: {', '.join(missing)}"
    elif diagnosis.ok:
        yield "everything that apply needs is there"
    unchecked = {item.remedy or item.message for item in diagnosis.features if item.status == NOT_CHECKED}
    yield from (f"not everything was checked: {reason}" for reason in sorted(unchecked))
