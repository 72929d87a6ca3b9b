"""The namespace that a command works on: its options, opening it, locking it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.engines import Tools, engines_for, find_tools
from kproxy_nat.apply.generations import Generation, Generations, namespace_folder, take_notes
from kproxy_nat.apply.locking import Lock, locked
from kproxy_nat.apply.namespaces import HOST, Namespace, open_host, open_namespace, remove_namespace
from kproxy_nat.apply.planners import planner_of
from kproxy_nat.apply.python_iptables_engine import NAME as PYTHON_IPTABLES
from kproxy_nat.apply.recovery import recover, recovered
from kproxy_nat.apply.site import Site
from kproxy_nat.apply.tools import Variant, other_variant_problem
from kproxy_nat.cli.completion import complete_namespace, complete_path
from kproxy_nat.cli.report import Reporter
from kproxy_nat.errors import ApplyError
from kproxy_nat.proxy.options import ProxyMode

F = TypeVar("F", bound=Callable[..., Any])

RESTORE = "restore"
STATE_DIR = "/var/lib/kproxy-nat"

UNFINISHED = "another command is under way, or was cut off"
"""What those say that only read; those that write bring it to an end."""

NAMESPACE_PREFIX = "netns:"
HOST_SOURCE = "host:"
"""How a namespace is named where it is a source of rules."""


@dataclass(frozen=True, slots=True)
class Target:
    """An open namespace, the tools for it, and where its records are.

    Attributes:
        in_process: whether legacy tables are read and written without the tools.
    """

    namespace: Namespace
    tools: Tools
    state_dir: Path
    wait: int
    in_process: bool = False

    @property
    def options(self) -> str:
        """What another command needs to work on the same namespace and records, quoted for a shell."""
        elsewhere = () if self.state_dir == Path(STATE_DIR) else ("--state-dir", str(self.state_dir))
        return shlex.join((*self.namespace.option, *elsewhere))

    def site(self, *inherited: int) -> Site:
        """Return the place to read, or with locks in ``inherited``, to change.

        Raises:
            ApplyError: the library for work in process is not there.
        """
        engines = engines_for(self.tools, self.wait, inherited, in_process=self.in_process)
        return Site(self.namespace, engines, self.state_dir / self.namespace.folder)


def target_options(command: F) -> F:
    """Add the options that say which namespace, and how."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _directory(_ctx: click.Context, _param: click.Parameter, value: str) -> Path:
    if not value:
        raise click.BadParameter("it is empty; the working directory is '.'")
    return Path(value)


_VARIANT = click.option(
    "--iptables",
    "variant",
    type=click.Choice([variant.value for variant in Variant]),
    help="Which iptables. Default: that of the last apply, else the one that holds rules there.",
)
_STATE_DIR = click.option(
    "--state-dir",
    metavar="DIRECTORY",
    callback=_directory,
    shell_complete=complete_path,
    default=STATE_DIR,
    show_default=True,
    envvar="KPROXY_NAT_STATE_DIR",
    help="Where records of what was applied are kept; also KPROXY_NAT_STATE_DIR.",
)


def live_source_options(command: F) -> F:
    """Add the options that say how the rules of a namespace are read that is one source of several."""
    return _VARIANT(_STATE_DIR(command))


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--netns",
        metavar="NAME|PATH|pid:N",
        shell_complete=complete_namespace,
        help="The namespace: of ip netns, a file, or of a process.",
    ),
    click.option("--host", is_flag=True, help="The namespace that this command runs in: the host's own."),
    _VARIANT,
    click.option(
        "--engine",
        type=click.Choice([RESTORE, PYTHON_IPTABLES]),
        default=RESTORE,
        show_default=True,
        help="What reads and writes rules: the tools, or a library, for --iptables legacy.",
    ),
    click.option(
        "--wait",
        type=click.IntRange(0, 3600),
        default=10,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the locks of other programs: iptables' own, and other kproxy-nat.",
    ),
    _STATE_DIR,
]


@contextmanager
def opened_target(params: dict[str, Any], reporter: Reporter, *, create: bool = False) -> Iterator[Target]:
    """Open the namespace that the options name; one that was created for it goes when the block fails.

    Raises:
        click.UsageError: they name none, or two, or exclude each other.
        ApplyError: it cannot be opened, or the tools are not there.
    """
    hint = _not_there_hint(params["netns"] or "", can_create="create" in params)
    with _open(params["netns"], hint, host=params["host"], create=create) as namespace, _kept(namespace):
        in_process = params["engine"] == PYTHON_IPTABLES
        tools = _tools(namespace, _variant(params, in_process=in_process), params["state_dir"])
        problem = namespace.run(other_variant_problem, tools.variant) if tools.variant else None
        reporter.report([problem] if problem else [])
        yield Target(namespace, tools, params["state_dir"], params["wait"], in_process)


def _not_there_hint(name: str, *, can_create: bool) -> str:
    """Return what to say if there is no such namespace: it may be written as in a source."""
    if name in (HOST, HOST_SOURCE):
        return "the host's own is named with --host"
    if name.startswith(NAMESPACE_PREFIX):
        return f"did you mean --netns {name.removeprefix(NAMESPACE_PREFIX)}?"
    return "--create makes it" if can_create else ""


@contextmanager
def _kept(namespace: Namespace) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if namespace.created:
            remove_namespace(namespace)
        raise


@contextmanager
def locked_site(target: Target, reporter: Reporter) -> Iterator[tuple[Site, Lock]]:
    """Hold the namespace's lock; first bring to an end what an earlier command left unfinished.

    Raises:
        ApplyError: another command holds it, or the state directory cannot be used.
        NotRestoredError: what was left unfinished cannot be taken back.
    """
    label = target.namespace.label
    folder = namespace_folder(target.state_dir, target.namespace.folder)
    with locked(folder, label, target.wait, reporter.note) as lock:
        site = target.site(lock.busy)
        reporter.report([recovered(note) for note in take_notes(folder)])
        unfinished = site.generations.unfinished()
        if unfinished is not None:
            tools = find_tools(target.namespace, unfinished.record.variant)
            begun = replace(target, tools=tools).site(lock.busy)
            done = recover(begun, unfinished, lambda problem: reporter.report([problem]), reporter.explain)
            reporter.report([recovered(done)])
        yield site, lock


def _variant(params: dict[str, Any], *, in_process: bool) -> Variant | None:
    """Return the variant that the options ask for, if any."""
    if not in_process:
        return Variant(params["variant"]) if params["variant"] else None
    if params["variant"] == Variant.NFT:
        raise click.UsageError(f"--engine {PYTHON_IPTABLES} is for --iptables {Variant.LEGACY} only")
    return Variant.LEGACY


def _tools(namespace: Namespace, chosen: Variant | None, state_dir: Path) -> Tools:
    """Return the tools of the variant that was chosen, else of that of the last command.

    Where the latter is not there any more, and holds no rules of ours as far as is known, others will do.
    """
    variant = chosen or recorded_variant(namespace, state_dir)
    try:
        return find_tools(namespace, variant)
    except ApplyError:
        if chosen or _left_rules(Generations(state_dir / namespace.folder, namespace.identity)):
            raise
        return find_tools(namespace, None)


def _left_rules(generations: Generations) -> bool:
    return any(left_iptables_rules(b, g) for b, g in generations.by_backend().items())


def left_iptables_rules(backend: Backend, generation: Generation) -> bool:
    """Tell whether a command has left rules of ours in iptables, which only the same variant can read."""
    return backend.mode is ProxyMode.IPTABLES and bool(
        planner_of(backend).owned_rules(generation.after(backend))
    )


def recorded_variant(namespace: Namespace, state_dir: Path) -> Variant | None:
    """Return the variant of the last command on the namespace, whose rules the next one is about."""
    generations = Generations(state_dir / namespace.folder, namespace.identity)
    last = generations.unfinished() or generations.latest()
    return last.record.variant if last else None


def _open(netns: str | None, hint: str, *, host: bool, create: bool) -> Namespace:
    if host and netns is not None:
        raise click.UsageError("--netns and --host exclude each other")
    if host:
        return open_host()
    if netns is None:
        raise click.UsageError("name a namespace with --netns NAME, or the host's own with --host")
    return open_namespace(netns, create=create, hint=hint)
