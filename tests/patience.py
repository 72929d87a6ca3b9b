"""How long tests wait: longer on a slow machine, such as one whose processor is a program.

Only the time that is waited is scaled, never what is asserted.
"""

from __future__ import annotations

import os

FACTOR = max(1.0, float(os.environ.get("KPROXY_NAT_TEST_PATIENCE", "1")))


def patient(seconds: float) -> float:
    """Return the seconds to wait here for what takes at most so many on an ordinary machine."""
    return seconds * FACTOR
