"""How often a drill is repeated: little among the other tests, in full with ``make drills`` (DRILLS=full)."""

from __future__ import annotations

import os

FULL = os.environ.get("DRILLS") == "full"
"""Whether the drills run in full. (Not a TWIGMA_ variable: those are settings of the platform.)"""


def count(small: int, full: int) -> int:
    """Return `small` among the other tests, `full` where the drills run in full."""
    return full if FULL else small
