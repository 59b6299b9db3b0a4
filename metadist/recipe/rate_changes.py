"""Learning rates that change in mid-run: ``[[120, 0.3], [180, 0.1]]``.

So many outer steps done, then the rate from there on. It is what a population-based search finds:
a schedule that can be written into a recipe and trained again. Hashes and records hold it as the
string ``120: 0.3, 180: 0.1``, which recipes may say too.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

#: (outer steps done, learning rate from there on), in order.
Changes = tuple[tuple[int, float], ...]


def read_changes(given: Any) -> Changes:
    """The changes that a list of pairs describes, or a string.

    Raises:
        ValueError: not of that form, steps that do not rise, or a rate that is not positive.
    """
    if isinstance(given, str):
        given = [piece.split(":") for piece in given.split(",") if piece.strip()]
    elif not isinstance(given, list | tuple):
        given = [given]
    changes: list[tuple[int, float]] = []
    for pair in given:
        try:
            step, rate = pair
            odd = isinstance(step, bool) or isinstance(rate, bool) or int(step) != float(step)
            change = (0, math.nan) if odd else (int(step), float(rate))
        except (TypeError, ValueError, OverflowError):
            change = (0, math.nan)
        if not (math.isfinite(change[1]) and change[1] > 0):
            raise ValueError(f"pairs of step and rate are needed, as in [[120, 0.3]], got {pair!r}")
        if change[0] <= (changes[-1][0] if changes else 0):
            raise ValueError(f"steps from 1 on that rise are needed, got {change[0]} in {given!r}")
        changes.append(change)
    return tuple(changes)


def write_changes(changes: Changes) -> str:
    """The string; :func:`read_changes` reads it back exactly."""
    return ", ".join(f"{step}: {json.dumps(rate)}" for step, rate in changes)


#: A recipe's key; hashes of recipes are made from the string.
RateChanges = Annotated[
    Changes,
    BeforeValidator(read_changes, json_schema_input_type=Changes | str),
    PlainSerializer(write_changes, return_type=str, when_used="json"),
]


def rate_after(first: float, changes: Changes, done: int) -> float:
    """The rate of the outer step that follows when ``done`` are done."""
    return next((rate for step, rate in reversed(changes) if step <= done), first)
