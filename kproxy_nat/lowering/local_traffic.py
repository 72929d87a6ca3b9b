"""How traffic of the cluster's own pods is told from other."""

from __future__ import annotations

from kproxy_nat.proxy.options import LocalCidr, LocalInterface
from kproxy_nat.proxy.view import NodeView
from kproxy_nat.ruleset.matches import InInterface, Source


def local_traffic(view: NodeView, *, negated: bool) -> Source | InInterface | None:
    """Return the match for traffic of the cluster's pods, or for other; ``None`` without a detector."""
    detector = view.options.detectors.get(view.family)
    if detector is None:
        return None
    if isinstance(detector, LocalCidr):
        return Source(detector.cidr, negated)
    if isinstance(detector, LocalInterface):
        return InInterface(detector.name, negated)
    return InInterface(f"{detector.prefix}+", negated)
