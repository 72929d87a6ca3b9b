"""What was assumed where manifests leave something open, so that nobody mistakes it for a cluster's truth."""

from __future__ import annotations

from dataclasses import dataclass, field

from kproxy_nat.errors import Origin, Problem


@dataclass(frozen=True, slots=True)
class Assumption:
    """A value that a cluster would have chosen itself: ``Service datarc/datarc: clusterIP 10.96.45.67``."""

    subject: str
    text: str
    origin: Origin


@dataclass(slots=True)
class Derivation:
    """Assumptions made and problems met on the way from manifests to a complete cluster."""

    assumptions: list[Assumption] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
