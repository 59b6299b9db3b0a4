"""Learning rates that change in mid-run, written as a string: ``120: 0.3, 180: 0.1``.

So many outer steps done, then the rate from there on. It is what a population-based search finds:
a schedule that can be written into a recipe and trained again.
"""

from __future__ import annotations

import json
import math

#: (outer steps done, learning rate from there on), in order.
Changes = tuple[tuple[int, float], ...]


def parse_changes(text: str) -> Changes:
    """The changes that a string describes.

    Raises:
        ValueError: not of that form, steps that do not rise, or a rate that is not positive.
    """
    changes: list[tuple[int, float]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        step, colon, rate = part.partition(":")
        try:
            change = (int(step), float(rate))
        except ValueError:
            change = (0, math.nan)
        if not colon or not (math.isfinite(change[1]) and change[1] > 0):
            raise ValueError(f"'step: rate, step: rate' is needed, as in '120: 0.3', got {part!r}")
        if change[0] <= (changes[-1][0] if changes else 0):
            raise ValueError(f"steps from 1 on that rise are needed, got {change[0]} in {text!r}")
        changes.append(change)
    return tuple(changes)


def write_changes(changes: Changes) -> str:
    """The string; :func:`parse_changes` reads it back exactly."""
    return ", ".join(f"{step}: {json.dumps(rate)}" for step, rate in changes)


def rate_after(first: float, changes: Changes, done: int) -> float:
    """The rate of the outer step that follows when ``done`` are done."""
    return next((rate for step, rate in reversed(changes) if step <= done), first)
