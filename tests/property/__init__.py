"""Laws that hold for all inputs.

The number of examples suits every-day runs; ``EXAMPLES=20 pytest tests/property`` tries twenty times as many.
"""

from __future__ import annotations

import os


def examples(count: int) -> int:
    """Return how many examples to try where ``count`` do for every day."""
    return count * int(os.environ.get("EXAMPLES", "1"))
