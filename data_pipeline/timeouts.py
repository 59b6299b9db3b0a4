"""How long to wait for what may come back: seconds that a user may set in the environment."""

from __future__ import annotations

import math
import os


def seconds_of(variable: str, default: float, error: type[Exception]) -> float:
    """Seconds that an environment variable gives.

    Args:
        default: where it is not set.
        error: what to raise.

    Raises:
        error: it is no number, or below zero.
    """
    given = os.environ.get(variable, "")
    try:
        seconds = float(given) if given else default
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise error(f"{variable}: seconds are needed, as in {default:g}, got {given!r}")
    return seconds
