"""The validation scores of a trial, as its log has them."""

from __future__ import annotations

import math

from metadist.runs.log import Point, series
from metadist.runs.run_dir import RunDir
from metadist.space import Space


def validations(space: Space, run: RunDir) -> list[Point]:
    """Every validation, by step.

    Without a score (NaN) where an episode of functions failed: the log has the mean over the rest
    then, which would favour learners that diverge on what is hard for them. The run itself does
    not take such a checkpoint for its best either.
    """
    found = series(run)
    failed: set[int] = set()
    if space.metric == "val/mse":
        failed = {p.step for p in found.get("val/failed", []) if p.value > 0}
    return [
        Point(p.metric, p.step, p.time, math.nan if p.step in failed else p.value)
        for p in found.get(space.metric, [])
    ]


def best_so_far(space: Space, run: RunDir) -> list[tuple[int, float]]:
    """Step and best score so far of every validation; NaN until there is one."""
    best, found = math.nan, []
    for point in validations(space, run):
        better = point.value > best if space.mode == "max" else point.value < best
        if better or math.isnan(best):
            best = point.value
        found.append((point.step, best))
    return found


def steps_done(run: RunDir) -> int:
    """Outer steps that the log knows of."""
    losses = series(run).get("train/loss", [])
    return losses[-1].step if losses else 0
