"""``kproxy-nat confirm``: what waits to be confirmed stays."""

from __future__ import annotations

from typing import Any

import click

from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.target import opened_target, target_options
from kproxy_nat.errors import ApplyError, Code, KproxyNatError, Problem


@click.command("confirm", short_help="Keep the rules of an apply --confirm that is waiting.")
@target_options
@verbosity_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Keep the rules of an 'apply --confirm' that is waiting, whichever terminal it runs in.

    \b
    Example:
      kproxy-nat confirm --netns demo
    """  # noqa: D301
    reporter = reporter_of(ctx)
    with opened_target(params, reporter) as target:
        waiting = target.site().generations.unfinished()
        label = target.namespace.label
        if waiting is None or not waiting.record.needs_confirmation:
            raise _nothing_waits(label)
        try:
            waiting.confirm()
        except ApplyError:
            if waiting.path.exists():
                raise
            raise _nothing_waits(label) from None  # It was too late.
        reporter.note(f"{label}: confirmed the {waiting.record.action} of {waiting.record.time}")


def _nothing_waits(label: str) -> KproxyNatError:
    return KproxyNatError(Problem(Code.NOTHING_APPLIED, f"nothing in {label} waits to be confirmed"))
