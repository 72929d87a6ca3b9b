"""The ``kproxy-nat`` command: global options, and commands that are imported when they are called."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from typing import Any, NoReturn

import click

from kproxy_nat import __version__
from kproxy_nat.cli.report import Reporter
from kproxy_nat.errors import KproxyNatError

COMMANDS = {
    "compile": ("kproxy_nat.cli.compile", "Compile manifests to the rules that kube-proxy would write."),
    "services": ("kproxy_nat.cli.services", "Show Services with the addresses a cluster would give them."),
    "endpoints": ("kproxy_nat.cli.endpoints", "Show the EndpointSlices that a cluster would derive."),
    "nodes": ("kproxy_nat.cli.nodes", "Show the Nodes, given or assumed."),
    "diff": ("kproxy_nat.cli.diff", "Show what changed between two revisions, rule sets or namespaces."),
    "import": ("kproxy_nat.cli.import_rules", "Read Services and endpoints back out of rules."),
    "stats": ("kproxy_nat.cli.stats", "Compare the layouts: size, and rules on the way of a first packet."),
    "plan": ("kproxy_nat.cli.plan", "Show what apply would change in a namespace."),
    "apply": ("kproxy_nat.cli.apply", "Make the rules of a namespace what the manifests say."),
    "confirm": ("kproxy_nat.cli.confirm", "Keep the rules of an apply --confirm that is waiting."),
    "status": ("kproxy_nat.cli.status", "Compare a namespace with what was applied to it."),
    "delete": ("kproxy_nat.cli.delete", "Remove what is ours from a namespace, nothing else."),
    "rollback": ("kproxy_nat.cli.rollback", "Go back to the state before the last apply."),
    "doctor": ("kproxy_nat.cli.doctor", "Check tools, kernel and versions for what apply needs."),
}
"""Each command with its module and the line that the list of commands shows."""

PROGRAM = "kproxy-nat"
COMPLETION = "_KPROXY_NAT_COMPLETE"
"""What a shell sets that wants a command line completed; the scripts that click writes have this name."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name one that is spelt alike."""
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and close and not ctx.resilient_parsing:
            ctx.fail(f"no such command {args[0]!r}; did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Explain: Services without rules, kinds passed over.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour messages; NO_COLOR is honoured.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of messages on stderr.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of internal errors.")
@click.version_option(__version__, prog_name="kproxy-nat", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, quiet: bool, verbose: bool, color: str, log_format: str, debug: bool) -> None:
    """Compile Kubernetes Services and EndpointSlices to the NAT rules of a node.

    Data goes to stdout, messages go to stderr. Exit status: 0 done, 1 failed or different, 2 wrong usage,
    3 invalid input, 5 not applied and all as before, 6 not applied and not restored.

    \b
    Shell completion: eval "$(_KPROXY_NAT_COMPLETE=bash_source kproxy-nat)"
    """  # noqa: D301
    reporter = reporter_of(ctx)
    reporter.quiet, reporter.verbose, reporter.debug = quiet, verbose, debug
    reporter.color, reporter.log_format = _use_color(color), log_format


def _use_color(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    reporter = Reporter()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # Bytes of others are printed as they are.
    try:
        if COMPLETION in os.environ:
            _answer_shell(reporter)
        with cli.make_context(PROGRAM, sys.argv[1:] if args is None else args, obj=reporter) as context:
            cli.invoke(context)
        status = 0
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.ClickException as error:
        _show(error, reporter)
        status = error.exit_code
    except KproxyNatError as error:
        reporter.report_error(error)
        status = error.exit_status
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except BrokenPipeError:
        status = _close_broken_pipe()
    except Exception as error:  # noqa: BLE001 - the last resort: a bug must not end in a bare traceback
        status = reporter.report_bug(error)
    sys.exit(status)


def _show(error: click.ClickException, reporter: Reporter) -> None:
    """Print what is wrong with the command line; where the command is unknown, no option was applied."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and context.find_root().params.get("log_format") == "json":
        reporter.report_usage(error.format_message())
    else:
        error.show()


def _answer_shell(reporter: Reporter) -> NoReturn:
    """Answer a shell that asks how a command line may go on."""
    from click.shell_completion import shell_complete  # noqa: PLC0415 - rarely needed

    sys.exit(shell_complete(cli, {"obj": reporter}, PROGRAM, COMPLETION, os.environ[COMPLETION]))


def _close_broken_pipe() -> int:
    """Leave quietly when the reader of stdout has gone, as ``head`` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


def reporter_of(ctx: click.Context) -> Reporter:
    """Return the reporter of a command's context."""
    found: Any = ctx.find_object(Reporter)
    return found if isinstance(found, Reporter) else Reporter()
