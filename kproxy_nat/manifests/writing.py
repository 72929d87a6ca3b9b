"""Objects to text: YAML documents that can be kept as manifests, and a JSON list as kubectl prints it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from kproxy_nat.json_text import json_text

_PLAIN = re.compile(r"[A-Za-z/_.][-A-Za-z0-9_./ =,]*|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]+)?", re.ASCII)
_NO_TEXT = frozenset("y n yes no on off true false null .inf .nan".split())
"""What some reader of YAML takes for something else than a text, in lower case."""

_WIDTH = 1 << 20
"""No line is broken: addresses and selectors are looked for with grep."""


class _Dumper(yaml.CSafeDumper):
    """Writes texts in quotes where any reader, of YAML 1.1 or 1.2, could take them for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write shared parts out."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def yaml_documents(objects: Sequence[Any]) -> str:
    """Return a stream of documents, each begun by its own ``---``, so that streams may be joined."""
    return yaml.dump_all(
        objects, Dumper=_Dumper, explicit_start=True, sort_keys=False, allow_unicode=True, width=_WIDTH
    )


def json_list(objects: Sequence[Any], further: dict[str, Any]) -> str:
    """Return a ``List`` of the objects, with ``further`` keys at its end."""
    whole = {"apiVersion": "v1", "kind": "List", "items": objects, **further}
    return json_text(whole, indent=2)
