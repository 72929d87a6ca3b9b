"""What ``services``, ``endpoints`` and ``nodes`` share: objects of a completed cluster, listed or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import click

from kproxy_nat.cli.completion import complete_path
from kproxy_nat.cli.controlplane_options import controlplane_from, controlplane_options
from kproxy_nat.cli.main import reporter_of
from kproxy_nat.cli.manifests import LoadedCluster, load_cluster
from kproxy_nat.cli.node import gc_paused, input_options
from kproxy_nat.cli.options import verbosity_options
from kproxy_nat.cli.output import write_stdout
from kproxy_nat.controlplane.stored import Object
from kproxy_nat.manifests.typed_objects import TypedObjects
from kproxy_nat.manifests.writing import json_list, yaml_documents
from kproxy_nat.model.base import Sourced

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Table(Protocol):
    """Objects as an aligned table; an empty text for none."""

    def __call__(self, objects: Sequence[Mapping[str, Any]], /, *, wide: bool) -> str:
        """Return the table."""
        ...


def listing_options(command: F) -> F:
    """Add the sources and options of a command that lists objects."""
    output = click.option(
        "-o",
        "--output",
        type=click.Choice(["wide", "yaml", "json"]),
        help="wide: more columns. yaml, json: whole objects, to be kept as manifests.",
    )
    sources = click.argument(
        "sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_path
    )
    return sources(output(input_options(controlplane_options(verbosity_options(command)))))


def list_objects(
    ctx: click.Context,
    params: dict[str, Any],
    table: Table,
    objects: Callable[[LoadedCluster, TypedObjects], Sequence[Object]],
) -> None:
    """Load the sources, complete them, and print the objects that are chosen of them.

    Raises:
        InvalidInputError: something is wrong with the input.
    """
    reporter = reporter_of(ctx)
    with gc_paused():
        loaded = load_cluster(
            params["sources"],
            reporter,
            config=None,
            recursive=params["recursive"],
            strict=params["strict"],
            exclude_errors=params["on_error"] == "exclude",
            max_bytes=params["max_input_mib"] << 20,
            mode="iptables",  # whatever a configuration says: these objects are the same in all modes
            controlplane=controlplane_from(params),
        )
        chosen = objects(loaded, TypedObjects(loaded.texts))
        text = _text(chosen, params["output"], loaded, table)
    if not text:
        reporter.note("no resources found")
    write_stdout(text)


def stored(
    kind: str,
    sources: Iterable[Sourced[T]],
    typed: TypedObjects,
    store: Callable[[T, dict[str, Any]], Object],
) -> list[Object]:
    """Return objects of one kind as an API server would show them, by namespace and name."""
    whole = [store(source.value, typed.find(kind, source.origin)) for source in sources]
    return sorted(whole, key=lambda one: (one["metadata"].get("namespace", ""), one["metadata"]["name"]))


def _text(objects: Sequence[Object], output: str | None, loaded: LoadedCluster, table: Table) -> str:
    if output == "yaml":
        return yaml_documents(objects)
    if output == "json":
        assumed = [
            {"subject": a.subject, "text": a.text, "source": a.origin.source, "line": a.origin.line}
            for a in loaded.assumptions
        ]
        return json_list(objects, {"assumptions": assumed} if assumed else {})
    return table(objects, wide=output == "wide")
