"""How a search went on: scores by trial and by tasks, validation curves, schedules of rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from metadist.recipe.rate_changes import rate_after, read_changes
from metadist.report.curves import Line, curves, draw_lines
from metadist.report.figures import below, count_axis, log_scale, percent
from metadist.report.svg import BAD, FG, GOOD, MAIN, MUTED, SECOND, drawing
from metadist.runs.log import Point
from metadist.search.report.data import SearchData, TrialData
from metadist.search.search_dir import Status, best_so_far
from metadist.statistics.format import logarithmic

#: Trials whose curves stand out.
TOP = 5
#: How trials are told apart without colour, by how they ended: in words, and as marks.
LOOKS: dict[Status, tuple[str, dict[str, Any]]] = {
    "finished": ("finished", {"marker": "o", "color": MAIN}),
    "stopped": ("stopped early", {"marker": "v", "color": SECOND, "markerfacecolor": "none"}),
    "running": ("not ended", {"marker": "s", "color": MUTED, "markerfacecolor": "none"}),
    "failed": ("failed", {"marker": "x", "color": BAD}),
}
#: Trials beyond which a figure is crowded.
_MANY = 150
#: Steps, and a number at each.
_Steps = tuple[list[int], list[float]]
_SETTINGS = {"best": "found", "default": "default"}


def history(data: SearchData) -> str:
    """The score of every trial in order, and the best so far; empty without trials."""
    if not data.trials:
        return ""
    label = f"Best validation {data.metric.title} of each trial"
    with drawing("history", f"{label}, in order, and the best so far") as figure:
        axes = figure.axes(label)
        size = 6 if len(data.trials) <= _MANY else 3
        foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        for status, (label, how) in LOOKS.items():
            mine = [trial for trial in data.trials if trial.status == status]
            if scored := [(t.number, t.score) for t in mine if t.score is not None]:
                x, y = zip(*scored, strict=True)
                axes.plot(x, y, linestyle="", markersize=size, label=label, **how)
            if lost := [trial.number for trial in mine if trial.score is None]:
                # That a trial failed is seen, and nothing of its score.
                label = "" if scored else f"{status}, no score"
                axes.plot(
                    lost, [0.02] * len(lost), linestyle="", markersize=size, label=label,
                    **foot, **how,
                )  # fmt: skip
        known = [(t.number, t.score) for t in data.trials if t.score is not None]
        scores = [score for _, score in known]
        best = best_so_far(scores, data.space.mode)
        how = {"color": FG, "linewidth": 1.4, "zorder": 1.5}
        axes.step([at for at, _ in known], best, where="post", label="best so far", **how)
        _score_axis(axes, data, scores)
        axes.set_xlabel("trial")
        axes.set_xlim(0.4, max(t.number for t in data.trials) + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        below(axes)
    return figure.svg


def spent(data: SearchData) -> tuple[list[int], list[float]]:
    """Tasks spent at every validation of every trial as they came, and the best score by then."""
    events: list[tuple[float, int, int, int, float]] = []
    for trial in data.trials:
        per_step = trial.tasks / trial.steps if trial.steps else 0.0
        before = 0
        for v in trial.curve:
            more = round((v.step - before) * per_step)
            events.append((v.time, trial.number, v.step, more, v.value))
            before = v.step
        left = max(trial.tasks - round(before * per_step), 0)
        if left or not trial.curve:
            # What came after the last validation, or is known of no moment.
            last = trial.curve[-1].time if trial.curve else math.inf
            score = math.nan if trial.curve or trial.score is None else trial.score
            events.append((last, trial.number, trial.steps + 1, left, score))
    ordered = sorted(events, key=lambda event: event[:3])
    scores = [score if math.isfinite(score) else math.nan for *_, score in ordered]
    tasks = list(itertools.accumulate(more for *_, more, _ in ordered))
    return tasks, best_so_far(scores, data.space.mode)


def budget(data: SearchData) -> str:
    """Best score against tasks spent; empty without a score."""
    tasks, best = spent(data)
    if not any(map(math.isfinite, best)):
        return ""
    label = f"Best validation {data.metric.title} against tasks spent"
    with drawing("budget", label) as figure:
        axes = figure.axes(label)
        axes.step(tasks, best, where="post", color=GOOD, label="best so far")
        _score_axis(axes, data, best)
        full = sum(t.full_tasks for t in data.trials)
        if full > tasks[-1]:
            axes.axvline(full, color=MUTED, linestyle="--", linewidth=1.2, label="all in full")
        axes.axvline(tasks[-1], color=FG, linestyle=":", linewidth=1.2, label="spent")
        axes.set_xlim(left=0)
        count_axis(axes, "tasks trained on, all trials")
        below(axes)
    return figure.svg


def trial_curves(data: SearchData) -> str:
    """Validation curves, the best trials' in colours; empty without any."""
    scores = [v.value for t in data.trials for v in t.curve]
    if not any(map(math.isfinite, scores)):
        return ""
    top = [t for t in data.ranked() if t.curve][:TOP]
    others = [t for t in data.trials if t.curve and t not in top]
    label = f"Validation {data.metric.title} of the trials over outer steps"
    with drawing("trials", label, size=(6.2, 3.7)) as figure:
        axes = figure.axes(f"Validation {data.metric.title} of the trials")
        draw_lines(axes, [Line(f"trial {t.number}", *_points(t.curve)) for t in top])
        faint: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "alpha": 0.5, "zorder": 1.5}
        for index, trial in enumerate(others):
            axes.plot(*_points(trial.curve), label="" if index else "others", **faint)
        if ends := [_end(t.curve) for t in data.trials if t.curve and t.status == "stopped"]:
            label, how = LOOKS["stopped"]
            how = {**how, "color": FG, "markersize": 8, "markeredgewidth": 1.4, "zorder": 4}
            axes.plot(*zip(*ends, strict=True), linestyle="", label=label, **how)
        _score_axis(axes, data, scores)
        count_axis(axes, "outer steps")
        below(axes)
    return figure.svg


def confirmed_curves(data: SearchData) -> str:
    """Validation curves of what was found and of the default, trained anew; empty without any."""
    scores = [v.value for run in data.confirmed for v in run.curve]
    return curves(
        [Line(_SETTINGS[run.setting], *_points(run.curve)) for run in data.confirmed],
        title="The setting found and the default, trained anew",
        y=data.metric.title,
        name="anew",
        percent=data.metric.percent,
        log_y=logarithmic(data.metric, [s for s in scores if math.isfinite(s)]),
        size=(6.2, 3.7),
    )


def _points(curve: Sequence[Point]) -> _Steps:
    return [v.step for v in curve], [v.value if math.isfinite(v.value) else math.nan for v in curve]


def _end(curve: Sequence[Point]) -> tuple[float, float]:
    """The last point that can be drawn."""
    finite = [v for v in curve if math.isfinite(v.value)]
    return (finite[-1].step, finite[-1].value) if finite else (math.nan, math.nan)


def _score_axis(axes: Axes, data: SearchData, scores: Sequence[float]) -> None:
    axes.set_ylabel(data.metric.title)
    if data.metric.percent:
        percent(axes.yaxis)
    elif (finite := [s for s in scores if math.isfinite(s)]) and logarithmic(data.metric, finite):
        log_scale(axes)


def schedules(data: SearchData, winner: int | None) -> list[str]:
    """A figure for each searched rate over outer steps; none unless some rate has changed.

    Args:
        winner: number of the trial that was chosen; None: the best by its score stands out.
    """
    lines = {key: {t.number: _rates(t, key) for t in data.trials} for key in data.space.search}
    if not any(len(rates) > 2 for by_trial in lines.values() for _, rates in by_trial.values()):
        return []
    ranked = data.ranked()
    chosen = winner or (ranked[0].number if ranked else None)
    return [_schedule(key, by_trial, chosen, winner) for key, by_trial in lines.items()]


def _rates(trial: TrialData, key: str) -> _Steps:
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


def _schedule(key: str, lines: dict[int, _Steps], chosen: int | None, winner: int | None) -> str:
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
