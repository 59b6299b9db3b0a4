"""Where the good values are: Optuna's contours of two keys, and its parallel coordinates of all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna.visualization.matplotlib as plots
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna import Study

from metadist.report.figures import below, log_scale, percent
from metadist.report.svg import FG, GOOD, GRID, MAIN, MUTED, Drawing, drawing
from metadist.search.report.data import SearchData
from metadist.search.report.study import as_study, quiet
from metadist.space import Choice, When

#: Looked at first, where they are searched.
_PREFERRED = ("inner.lr", "outer.lr")
#: The share of the best scores that colours tell apart: of errors, one may be a million others.
_TOLD_APART = 0.75
_FOUND: dict[str, Any] = {
    "marker": "*", "markersize": 14, "color": GOOD, "markeredgecolor": FG, "markeredgewidth": 0.7,
}  # fmt: skip
_DEFAULT: dict[str, Any] = {
    "marker": "D", "markersize": 7, "color": "none", "markeredgecolor": FG, "markeredgewidth": 1.4,
}  # fmt: skip


def scored_study(data: SearchData) -> Study:
    """The trials with a score, the best first, as if nobody had stopped them; the worst quarter
    has the score of the best in it."""
    trials = data.ranked()
    scores = [trial.score for trial in trials if trial.score is not None]
    limit = scores[math.ceil(_TOLD_APART * len(scores)) - 1]
    limited = np.maximum(scores, limit) if data.space.mode == "max" else np.minimum(scores, limit)
    drawn = [
        replace(trial, status="finished", score=float(score))
        for trial, score in zip(trials, limited, strict=True)
    ]
    return as_study(replace(data, trials=drawn))


def plane_keys(data: SearchData, study: Study) -> list[str]:
    """The two keys of the plane: both rates, else the first that are numbers; none if there are
    not two of which different values were tried."""
    numeric = []
    for key, domain in data.space.search.items():
        plain = domain.then if isinstance(domain, When) else domain
        tried = {t.params[key] for t in study.trials if key in t.params}
        if not isinstance(plain, Choice) and len(tried) > 1:
            numeric.append(key)
    keys = [*_PREFERRED] if set(_PREFERRED) <= set(numeric) else numeric[:2]
    return keys if len(keys) == 2 else []


def plane(
    data: SearchData, study: Study, keys: list[str], found: Mapping[str, Any]
) -> tuple[str, bool]:
    """The score over two keys, and whether the default setting lies outside.

    Args:
        found: values of the setting that was found; empty if there is none.
    """
    label = f"Validation {data.metric.title} by two keys"

    def plot() -> Any:
        return plots.plot_contour(study, keys, target_name=data.metric.title)

    with _drawing_of_optunas("plane", label, (6.2, 4.9), plot) as (picture, axes):
        if data.metric.percent:
            percent(picture.figure.axes[-1].yaxis)
        shown = [
            _mark(axes, [values.get(key) for key in keys], label=text, **how)
            for values, text, how in ((data.default, "default", _DEFAULT), (found, "found", _FOUND))
        ]
        if any(shown):
            below(axes)
    return picture.svg, bool(data.default) and not shown[0]


def _mark(axes: Axes, at: list[Any], **how: Any) -> bool:
    """Mark a setting, if it lies within the axes."""
    for value, (low, high) in zip(at, (axes.get_xlim(), axes.get_ylim()), strict=True):
        if isinstance(value, bool | str | None) or not low <= value <= high:
            return False
    axes.plot(*at, linestyle="", zorder=6, **how)
    return True


def parallel(data: SearchData, study: Study) -> str:
    """Every trial with a score a line through its values, the better the stronger."""
    label = f"Validation {data.metric.title} of every trial, and its values"
    size = (12.6 if len(data.space.search) > 2 else 9.0, 4.6)

    def plot() -> Any:
        return plots.plot_parallel_coordinate(study, target_name=data.metric.title)

    with _drawing_of_optunas("parallel", label, size, plot) as (picture, axes):
        (lines,) = axes.collections
        lines.colorbar.remove()  # the first column says as much
        scores = np.asarray(lines.get_array())
        worst, best = sorted((scores.min(), scores.max()), reverse=data.space.mode == "min")
        strength = np.divide(scores - worst, best - worst, where=best != worst)
        lines.set(array=None, color=MAIN, alpha=0.15 + 0.75 * strength)
        if data.metric.percent:
            percent(axes.yaxis)
        for column in picture.figure.axes:
            column.spines[["left", "right"]].set_visible(True)
    return picture.svg


@contextlib.contextmanager
def _drawing_of_optunas(
    name: str, label: str, size: tuple[float, float], plot: Callable[[], Any]
) -> Iterator[tuple[Drawing, Any]]:
    """A figure of Optuna's with the look of the page."""
    with drawing(name, label) as picture, quiet(), _without_display():
        mpl.rcParams.update({"figure.figsize": size, "figure.constrained_layout.use": True})
        axes = plot()
        picture.figure = axes.figure
        pyplot.close(picture.figure)
        axes.set_title(label, fontsize=10.5)
        yield picture, axes
        _with_our_look(picture.figure)


def _with_our_look(figure: Figure) -> None:
    figure.set_facecolor("none")
    for text in figure.findobj(Text):
        text.set_color(FG)
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.grid(visible=False)
        axes.tick_params(color=GRID, labelcolor=MUTED, labelsize=9.0, which="both")
        for spine in axes.spines.values():
            spine.set_color(GRID)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set(color=MUTED, fontsize=10.0)
            if axis.get_scale() == "log":
                log_scale(axes, "x" if axis is axes.xaxis else "y")


@contextlib.contextmanager
def _without_display() -> Iterator[None]:
    """Optuna makes its figures with pyplot, which wants the window system of whoever uses it."""
    before = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        yield
    finally:
        pyplot.switch_backend(before)
