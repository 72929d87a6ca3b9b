"""What shells offer for arguments: files, and the namespaces of this machine."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_path(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Let the shell offer files and directories."""
    return [CompletionItem(incomplete, type="file")]


def complete_namespace(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Offer the namespaces that have names; files for what begins like a path."""
    if "/" in incomplete:
        return complete_path(ctx, param, incomplete)
    from kproxy_nat.apply.namespaces import named_namespaces  # noqa: PLC0415 - not for every command line

    return [CompletionItem(name) for name in named_namespaces() if name.startswith(incomplete)]
