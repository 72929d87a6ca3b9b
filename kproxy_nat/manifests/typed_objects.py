"""Objects as they were typed, with the fields that no rule depends on: what structs pass over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kproxy_nat.errors import Origin, Problem
from kproxy_nat.manifests.documents import split_text
from kproxy_nat.manifests.loader import without_nulls
from kproxy_nat.manifests.origins import TextOrigin
from kproxy_nat.manifests.sources import SourceText


class TypedObjects:
    """All objects of some texts, found by their origins. The texts are split again for that."""

    def __init__(self, texts: Iterable[SourceText]) -> None:
        self._documents = {
            _key(document.origin): document
            for text in texts
            for document in split_text(text)
            if not isinstance(document, Problem)
        }

    def find(self, kind: str, origin: Origin) -> dict[str, Any]:
        """Return the object of ``kind`` that was read at ``origin``, without nulls.

        It is empty for a derived object: that has the origin of what it was derived from, of another kind.
        """
        document = self._documents.get(_key(origin)) if isinstance(origin, TextOrigin) else None
        found = without_nulls(document.payload.plain()) if document else None
        if document is None or not isinstance(found, dict):
            return {}
        return found if (found.get("kind") or document.listed_kind) == kind else {}


def _key(origin: TextOrigin) -> tuple[object, ...]:
    return origin.source, origin.start, origin.prefix
