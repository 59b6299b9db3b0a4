"""The figures of every report: learning curves, adaptation, distribution of the score."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)
from numpy.typing import NDArray

from metadist.objectives import Metric
from metadist.report.phrases import after_steps, label
from metadist.report.svg import BAD, FG, GOOD, MAIN, MUTED, SECOND, drawing
from metadist.runs.log import Point
from metadist.runs.readers.evaluations import StoredEvaluation
from metadist.runs.readers.run_data import RunData
from metadist.statistics.format import are_errors, logarithmic, sentence

Floats = NDArray[np.float64]

#: Points of a curve; longer ones are averaged in as many equal parts.
_MAX_POINTS = 400
_MARKERS = ("o", "s", "^", "D")
#: Named in the log as metrics are, and shown first.
LOSS = Metric("loss", "loss", higher_is_better=False)
#: Curves of other metrics at most.
_MOST_REPORTED = 5
#: Where errors explode, the picture ends at so many times the error before adaptation.
_CUT = 10.0


def _xy(points: Sequence[Point]) -> tuple[Floats, Floats]:
    x = np.array([p.step for p in points], dtype=np.float64)
    y = np.array([p.value for p in points], dtype=np.float64)
    return x[np.isfinite(y)], y[np.isfinite(y)]


def _binned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if len(x) <= _MAX_POINTS:
        return x, y
    xs, ys = np.array_split(x, _MAX_POINTS), np.array_split(y, _MAX_POINTS)
    return np.array([part.mean() for part in xs]), np.array([part.mean() for part in ys])


def smooth(y: Floats, window: int) -> Floats:
    """Mean over up to ``window`` values around each, fewer at the ends."""
    if window <= 1 or len(y) < 3:
        return y
    sums = np.concatenate([[0.0], np.cumsum(y)])
    index = np.arange(len(y))
    half = window // 2
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(y))
    result: Floats = (sums[high] - sums[low]) / (high - low)
    return result


def _curve(axes: Axes, points: Sequence[Point]) -> None:
    """A noisy curve, faint, with its moving average."""
    x, y = _xy(points)
    if not len(x):
        return
    window = max(3, min(101, len(x) // 20))
    axes.plot(*_binned(x, y), color=MAIN, alpha=0.25, linewidth=0.9)
    axes.plot(*_binned(x, smooth(y, window)), color=MAIN, label="training, moving average")


def _validation(axes: Axes, points: Sequence[Point], best: int | None) -> None:
    x, y = _xy(points)
    if not len(x):
        return
    marker = "o" if len(x) <= 60 else ""
    axes.plot(x, y, color=SECOND, marker=marker, markersize=4, linestyle="--", label="validation")
    chosen = x == best
    if chosen.any():
        axes.plot(
            x[chosen], y[chosen], linestyle="", marker="*", markersize=13, color=GOOD,
            markeredgecolor=FG, markeredgewidth=0.6, label="checkpoint chosen",
        )  # fmt: skip


def below(axes: Axes) -> None:
    """A legend below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    # Letters with a handle of seven each; a figure of usual width holds eighty.
    widths = [len(text) + 7 for text in labels]
    columns = 5 if sum(widths) <= 80 else max(1, min(5, 80 // max(widths)))
    how = {"ncols": columns, "handlelength": 1.7, "columnspacing": 1.4}
    axes.figure.legend(handles, labels, loc="outside lower center", **how)


def annotate(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    coords: str | tuple[str, str],
    offset: tuple[float, float],
    **style: Any,
) -> None:
    """A small text at a point of the axes, so many points to the right and up."""
    style |= {"xytext": offset, "textcoords": "offset points", "fontsize": 8.5}
    axes.annotate(text, at, xycoords=coords, **style)


def percent(axis: Axis) -> None:
    """Shares, shown in percent."""
    axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def count_axis(axes: Axes, label: str, ticks: int = 6) -> None:
    """Whole numbers along x."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def log_scale(axes: Axes, direction: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis with ticks that people read, for what is drawn already."""
    axis = axes.xaxis if direction == "x" else axes.yaxis
    (axes.set_xscale if direction == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if direction == "x" else axes.get_ylim()
    low = max(low, 1e-12)
    # Powers of ten alone are too few below two decades, and too many where errors explode.
    digits = (1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1, 3) if high < 1000 * low else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1, max(1, (last - first) // 8))
    ticks = [m * 10.0**e for e in powers for m in digits]
    if sum(low <= tick <= high for tick in ticks) < 3:
        ticks = list(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def learning_curves(data: RunData, best: int | None) -> list[str]:
    """Training loss and what else training reports, with validation beside them."""
    shown = [LOSS, *_reported(data)]
    # Alone, a figure has the page's width.
    size = (6.2, 3.3) if len(shown) > 1 else (12.6, 3.4)
    figures = []
    for metric in shown:
        train, val = (data.series.get(f"{part}/{metric.name}", []) for part in ("train", "val"))
        if metric is LOSS and not train:
            continue
        alt = f"{sentence(metric.title)} over outer steps, training and validation"
        name = re.sub(r"[^a-z0-9]+", "-", metric.name.lower()).strip("-") or "metric"
        with drawing(name, alt, size=size) as figure:
            axes = figure.axes(f"Query {metric.title} after adaptation")
            _curve(axes, train)
            _validation(axes, val, best)
            _, y = _xy([*train, *val])
            if metric.percent:
                percent(axes.yaxis)
            elif data.metric and len(y) and logarithmic(data.metric, y):
                log_scale(axes)
            axes.set_ylabel(metric.title)
            count_axis(axes, "outer step")
            below(axes)
        figures.append(figure.svg)
    return figures


def _reported(data: RunData) -> list[Metric]:
    """What the log has beside the loss, the metric that decides first where it is not the loss."""
    names = [n.removeprefix("train/") for n in data.series if n.startswith("train/")]
    if (metric := data.metric) is not None and metric.name not in names:
        score, loss = (data.series.get(f"val/{name}", []) for name in (metric.name, LOSS.name))
        if loss and [p.value for p in score] != [p.value for p in loss]:
            names.insert(0, metric.name)
    found = [
        metric if metric and metric.name == n else data.described(n) for n in names if n != "loss"
    ]
    return sorted(found, key=lambda m: m != metric)[:_MOST_REPORTED]


def adaptation(protocols: Sequence[StoredEvaluation], ways: int, floor: float | None = None) -> str:
    """Score after each adaptation step, with its 95 % interval, for each protocol.

    Args:
        ways: for the line of chance; 0 for functions.
        floor: error that no predictor can be below which does not see the support.
    """
    first = protocols[0]
    metric, errors = first.metric, are_errors(first.metric)
    title = sentence(metric.title)
    with drawing("steps", f"{title} after each adaptation step") as figure:
        axes = figure.axes(f"{title} after each adaptation step")
        top = _cut(protocols) if errors else math.inf
        finite: list[float] = []
        for number, protocol in enumerate(protocols):
            # With more protocols than colours, another kind of line.
            marker, color = _MARKERS[number % 4], (MAIN, SECOND, GOOD, BAD)[number % 4]
            style = ("-", "--", ":", "-.")[number // 4 % 4]
            x = np.array([s.step for s in protocol.steps], dtype=np.float64)
            mean = np.array([s.mean for s in protocol.steps])
            ci = np.array([s.ci95 for s in protocol.steps])
            axes.plot(
                x, mean, color=color, marker=marker, linestyle=style, markersize=4.5,
                label=label(protocol),
            )  # fmt: skip
            low, high, there = mean - ci, mean + ci, mean <= top
            axes.fill_between(x, low, high, where=there, color=color, alpha=0.18, linewidth=0)
            finite.extend(v for v in mean - ci if math.isfinite(v))
        if first.trained_steps < max(len(p.steps) for p in protocols):
            axes.axvline(first.trained_steps, color=MUTED, linestyle=":", linewidth=1.2)
            at = (first.trained_steps, 0.0)
            annotate(axes, "trained steps", at, ("data", "axes fraction"), (5, 3), color=MUTED)
        if top < math.inf:
            _cut_off(axes, protocols, top)
        _diverged(axes, protocols, top)
        if top < math.inf or (finite and logarithmic(metric, finite)):
            log_scale(axes)
        elif metric.percent:
            percent(axes.yaxis)
            if ways and metric.measures == "right":
                axes.axhline(1 / ways, color=MUTED, linestyle="--", linewidth=1.0, label="chance")
        if floor is not None:
            axes.axhline(floor, color=FG, linestyle="--", linewidth=1.1, label="zero-shot floor")
        axes.set_ylabel(metric.title)
        axes.set_xlabel("adaptation steps")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        below(axes)
    return figure.svg


def _cut(protocols: Sequence[StoredEvaluation]) -> float:
    """Where a picture of errors has to end to show anything if some explode; else infinite."""
    means = [s.mean for p in protocols for s in p.steps if math.isfinite(s.mean)]
    if not means or not 0 < 1000 * min(means) < max(means):
        return math.inf
    before = [p.steps[0].mean for p in protocols if math.isfinite(p.steps[0].mean)]
    return _CUT * max([min(means), *before])


def _cut_off(axes: Axes, protocols: Sequence[StoredEvaluation], top: float) -> None:
    """End the picture at ``top``, say so, and show the medians, which stay below."""
    for number, protocol in enumerate(protocols):
        x = [s.step for s in protocol.steps]
        y = [s.median if math.isfinite(s.median) else math.nan for s in protocol.steps]
        told = None if number else "median"
        color = (MAIN, SECOND, GOOD, BAD)[number % 4]
        axes.plot(x, y, color=color, linestyle=":", linewidth=1.4, label=told)
    numbers = [v for p in protocols for s in p.steps for v in (s.mean, s.median)]
    numbers = [v for v in numbers if math.isfinite(v) and v > 0]
    axes.set_ylim(0.4 * min(numbers), top)
    axes.set_title(axes.get_title("left"), pad=22.0)
    text = f"cut off: means up to {max(numbers):.0e}"
    annotate(axes, text, (0.0, 1.0), "axes fraction", (0, 6), color=BAD)


def _diverged(axes: Axes, protocols: Sequence[StoredEvaluation], top: float) -> None:
    """A cross where episodes have failed: on the curve, or on top where that cannot be seen."""
    look: dict[str, Any] = {"linestyle": "", "marker": "x", "color": BAD, "markersize": 8}
    failed = [s for p in protocols for s in p.steps if s.failed]
    means = [(s.step, s.mean) for s in failed if s.mean <= top]
    lost = sorted({s.step for s in failed if not s.mean <= top})
    if means:
        axes.plot(*zip(*means, strict=True), label="episodes diverged", zorder=5, **look)
    if lost:
        text = None if means else "episodes diverged"
        axes.plot(
            lost, [0.97] * len(lost), label=text, transform=axes.get_xaxis_transform(), **look
        )


def _log_spread(protocol: StoredEvaluation, values: Floats) -> bool:
    """Whether a spread is drawn over a logarithmic axis, as that of errors is, if any."""
    return are_errors(protocol.metric) and values.min() >= 0 and values.max() > 0


def _bins(values: Floats, protocol: StoredEvaluation, ways: int) -> Floats:
    if _log_spread(protocol, values):
        positive = values[values > 0]
        return np.geomspace(positive.min() * 0.99, positive.max() * 1.01, 31)
    if not protocol.metric.percent:
        low, high = float(values.min()), float(values.max())
        return np.linspace(low, high if high > low else low + 1.0, 31)
    answers = max(ways, 1) * protocol.queries
    # A bar per possible number of right answers.
    if protocol.metric.measures == "right" and answers <= 30:
        return (np.arange(answers + 2) - 0.5) / answers
    return np.linspace(0.0, 1.0, 26)


def distribution(protocol: StoredEvaluation, ways: int) -> str:
    """How the episodes' scores spread, before and after adaptation; empty without scores."""
    if protocol.scores is None:
        return ""
    step = protocol.figure_step
    before, after = (s[np.isfinite(s)] for s in (protocol.scores[:, 0], protocol.scores[:, step]))
    both = np.concatenate([before, after])
    if not len(both):
        return ""
    with drawing("spread", "Distribution of the score over test episodes") as figure:
        axes = figure.axes(f"Test episodes by their score ({label(protocol)})")
        bins = _bins(both, protocol, ways).tolist()
        if step:
            told = "before adaptation"
            axes.hist(before, bins, histtype="step", color=MUTED, linewidth=1.4, label=told)
        axes.hist(after, bins, color=MAIN, alpha=0.55, label=after_steps(step))
        for value, style, text in (
            (protocol.figure.mean, "-", "mean"),
            (protocol.figure.worst_decile, ":", "worst tenth"),
        ):
            if math.isfinite(value):
                axes.axvline(value, color=FG, linestyle=style, linewidth=1.4, label=text)
        if protocol.metric.percent:
            percent(axes.xaxis)
        elif _log_spread(protocol, both):
            log_scale(axes, "x")
        axes.set_xlabel(f"{protocol.metric.title} of an episode")
        axes.set_ylabel("episodes")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        below(axes)
    return figure.svg
