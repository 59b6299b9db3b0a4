"""The schedules of rates that a population has found."""

from __future__ import annotations

import math
from typing import Any

from metadist.recipe.rate_changes import rate_after, read_changes
from metadist.report.figures import below, log_scale
from metadist.report.svg import GOOD, MAIN, MUTED, drawing
from metadist.search.report.data import SearchData, TrialData

_Line = tuple[list[int], list[float]]


def schedules(data: SearchData, winner: int | None) -> list[str]:
    """A figure for each searched rate over outer steps; none unless some rate has changed.

    Args:
        winner: number of the trial that was chosen; None: the best by its score stands out.
    """
    lines = {key: {t.number: _line(t, key) for t in data.trials} for key in data.space.search}
    if not any(len(rates) > 2 for by_trial in lines.values() for _, rates in by_trial.values()):
        return []
    ranked = data.ranked()
    chosen = winner or (ranked[0].number if ranked else None)
    return [_figure(key, by_trial, chosen, winner) for key, by_trial in lines.items()]


def _line(trial: TrialData, key: str) -> _Line:
    """Steps and the rate from each on; the last step is the end."""
    first = trial.point.get(key)
    text = trial.point.get(f"{key.partition('.')[0]}.lr_changes", "")
    if isinstance(first, bool) or not isinstance(first, int | float) or not first > 0:
        return [], []
    try:
        changes = read_changes(text)
    except ValueError:
        return [], []
    steps = [0, *(step for step, _ in changes)]
    rates = [rate_after(float(first), changes, step) for step in steps]
    return [*steps, max(trial.steps, steps[-1])], [*rates, rates[-1]]


def _figure(key: str, lines: dict[int, _Line], chosen: int | None, winner: int | None) -> str:
    title = f"{key} over outer steps"
    name = "rate" + "".join(letter for letter in key if letter.isalpha())
    with drawing(name, title) as figure:
        axes = figure.axes(title)
        shown = {n: line for n, line in lines.items() if line[0]}
        others = [x for n, x in shown.items() if n != chosen and all(map(math.isfinite, x[1]))]
        for index, line in enumerate(others):
            how: dict[str, Any] = {"color": MUTED, "linewidth": 1.0, "alpha": 0.5}
            axes.step(*line, where="post", label=None if index else "others", **how)
        if chosen in shown:
            label = f"trial {chosen}, {'found' if winner else 'best by score'}"
            how = {"color": GOOD if winner else MAIN, "linewidth": 2.4}
            axes.step(*shown[chosen], where="post", label=label, **how)
        log_scale(axes)
        axes.set_xlabel("outer steps done")
        axes.set_ylabel(key)
        below(axes)
    return figure.svg
