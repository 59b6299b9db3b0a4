"""The figures of a report: learning curves, adaptation, distribution, fitted functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)
from numpy.typing import NDArray

from metadist.engine.runlog import Point
from metadist.report.load import Arrays, Protocol, RunData
from metadist.report.svg import BAD, FG, GOOD, MAIN, MUTED, SECOND, drawing
from metadist.report.words import plural, queries

Floats = NDArray[np.float64]

#: Points of a curve; longer ones are averaged in as many equal parts.
_MAX_POINTS = 400
_MARKERS = ("o", "s", "^", "D")


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


def _window(count: int) -> int:
    return max(3, min(101, count // 20))


def _curve(axes: Axes, points: Sequence[Point], label: str) -> None:
    """A noisy curve, faint, with its moving average."""
    x, y = _xy(points)
    if not len(x):
        return
    window = _window(len(x))
    axes.plot(*_binned(x, y), color=MAIN, alpha=0.25, linewidth=0.9)
    axes.plot(*_binned(x, smooth(y, window)), color=MAIN, label=label)


def _validation(axes: Axes, points: Sequence[Point], best: int | None) -> None:
    x, y = _xy(points)
    if not len(x):
        return
    marker = "o" if len(x) <= 60 else ""
    axes.plot(x, y, color=SECOND, marker=marker, markersize=4, linestyle="--", label="validation")
    chosen = x == best
    if chosen.any():
        axes.plot(
            x[chosen],
            y[chosen],
            linestyle="",
            marker="*",
            markersize=13,
            color=GOOD,
            markeredgecolor=FG,
            markeredgewidth=0.6,
            label="checkpoint chosen",
        )


def _legend(axes: Axes) -> None:
    """Below the axes, where it hides nothing."""
    figure = axes.figure
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5, handlelength=1.7, columnspacing=1.4
    )


def _steps_axis(axes: Axes) -> None:
    axes.set_xlabel("outer step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _log_scale(axes: Axes, direction: Literal["x", "y"] = "y") -> None:
    axis = axes.xaxis if direction == "x" else axes.yaxis
    (axes.set_xscale if direction == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if direction == "x" else axes.get_ylim()
    low = max(low, 1e-12)
    # Powers of ten alone are too few below two decades.
    digits = (1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1, 3) if high < 1000 * low else (1,)
    ticks = [m * 10.0**e for e in range(-12, 13) for m in digits]
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def learning_curves(data: RunData, best: int | None) -> list[str]:
    """Training loss and, for classification, accuracy, with validation beside them."""
    series, figures = data.series, []
    loss, val_loss = series.get("train/loss", []), series.get("val/loss", [])
    train, val = series.get("train/accuracy", []), series.get("val/accuracy", [])
    if loss:
        size = (6.2, 3.3) if train or val else (12.6, 3.4)  # alone it has the page's width
        with drawing("loss", "Loss over outer steps, training and validation", size=size) as figure:
            axes = figure.axes()
            axes.set_title("Query loss after adaptation")
            _curve(axes, loss, "training, moving average")
            _validation(axes, val_loss, best)
            _, y = _xy([*loss, *val_loss])
            if data.regression and len(y) and y.min() > 0:
                _log_scale(axes)
            _steps_axis(axes)
            _legend(axes)
        figures.append(figure.svg)
    if train or val:
        with drawing("accuracy", "Accuracy over outer steps, training and validation") as figure:
            axes = figure.axes()
            axes.set_title("Query accuracy after adaptation")
            _curve(axes, train, "training, moving average")
            _validation(axes, val, best)
            _percent(axes)
            _steps_axis(axes)
            _legend(axes)
        figures.append(figure.svg)
    return figures


def adaptation(protocols: Sequence[Protocol], ways: int) -> str:
    """Score after each adaptation step, with its 95 % interval, for each protocol."""
    first = protocols[0]
    regression = first.kind == "regression"
    title = "Mean squared error" if regression else "Accuracy"
    with drawing("steps", f"{title} after each adaptation step") as figure:
        axes = figure.axes()
        axes.set_title(f"{title} after each adaptation step")
        finite: list[float] = []
        for protocol, marker, color in zip(
            protocols, _MARKERS, (MAIN, SECOND, GOOD, BAD), strict=False
        ):
            x = np.array([s.step for s in protocol.steps], dtype=np.float64)
            mean = np.array([s.mean for s in protocol.steps])
            ci = np.array([s.ci95 for s in protocol.steps])
            axes.plot(x, mean, color=color, marker=marker, markersize=4.5, label=queries(protocol))
            axes.fill_between(x, mean - ci, mean + ci, color=color, alpha=0.18, linewidth=0)
            finite.extend(v for v in mean - ci if math.isfinite(v))
        axes.axvline(first.trained_steps, color=MUTED, linestyle=":", linewidth=1.2)
        axes.annotate(
            "trained steps",
            (first.trained_steps, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, 16),
            textcoords="offset points",
            color=MUTED,
            fontsize=8.5,
        )
        if regression and finite and min(finite) > 0:
            _log_scale(axes)
        elif not regression:
            _percent(axes)
            if ways:
                axes.axhline(1 / ways, color=MUTED, linestyle="--", linewidth=1.0, label="chance")
        axes.set_xlabel("adaptation steps")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        _legend(axes)
    return figure.svg


def _bins(values: Floats, protocol: Protocol, ways: int) -> Floats:
    if protocol.kind == "regression":
        positive = values[values > 0]
        if not len(positive):
            return np.linspace(0.0, 1.0, 31)
        return np.geomspace(positive.min() * 0.99, positive.max() * 1.01, 31)
    answers = max(ways, 1) * protocol.queries
    if answers <= 30:  # a bar per possible number of right answers
        return (np.arange(answers + 2) - 0.5) / answers
    return np.linspace(0.0, 1.0, 26)


def distribution(protocol: Protocol, ways: int) -> str:
    """How the episodes' scores spread, before and after adaptation; empty without scores."""
    if protocol.scores is None:
        return ""
    step = protocol.trained.step
    before = protocol.scores[:, 0]
    after = protocol.scores[:, min(step, protocol.scores.shape[1] - 1)]
    both = np.concatenate([before, after])
    both = both[np.isfinite(both)]
    if not len(both):
        return ""
    with drawing("spread", "Distribution of the score over test episodes") as figure:
        axes = figure.axes()
        bins = _bins(both, protocol, ways)
        axes.set_title(f"Test episodes by their score ({queries(protocol)})")
        axes.hist(
            before[np.isfinite(before)],
            bins.tolist(),
            histtype="step",
            color=MUTED,
            linewidth=1.4,
            label="before adaptation",
        )
        axes.hist(
            after[np.isfinite(after)], bins.tolist(), color=MAIN, alpha=0.55, label=_after(step)
        )
        for value, style, text in (
            (protocol.trained.mean, "-", "mean"),
            (protocol.trained.worst_decile, ":", "worst tenth"),
        ):
            if math.isfinite(value):
                axes.axvline(value, color=FG, linestyle=style, linewidth=1.4, label=text)
        if protocol.kind == "regression":
            _log_scale(axes, "x")
            axes.set_xlabel("mean squared error of an episode")
        else:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
            axes.set_xlabel("accuracy of an episode")
        axes.set_ylabel("episodes")
        _legend(axes)
    return figure.svg


def fits(examples: Arrays, trained_steps: int, limit: int) -> list[tuple[int, str]]:
    """For functions of one input: truth, support and fit, before and after, per episode."""
    result = []
    outputs = examples["outputs"].astype(np.float64)
    last = outputs.shape[1] - 1
    trained = min(trained_steps, last)
    for row in range(min(limit, len(outputs))):
        episode = int(examples["ids"][row])
        x = examples["query_x"][row].reshape(outputs.shape[2], -1)[:, 0]
        truth = examples["query_y"][row].reshape(outputs.shape[2], -1)[:, 0]
        support_x = examples["support_x"][row].reshape(len(examples["support_x"][row]), -1)[:, 0]
        support_y = examples["support_y"][row].reshape(len(support_x), -1)[:, 0]
        with drawing(
            f"fit{row}", f"Test episode {episode}: fit before and after adaptation", size=(6.2, 3.0)
        ) as figure:
            axes = figure.axes()
            axes.set_title(f"Test episode {episode}")
            axes.plot(x, truth, color=FG, linewidth=1.2, linestyle="--", label="truth")
            lines = [(0, MUTED, ":", "before"), (trained, MAIN, "-", _after(trained))]
            if last > trained:
                lines.append((last, SECOND, "-.", _after(last)))
            for step, color, style, label in lines:
                axes.plot(x, outputs[row, step, :, 0], color=color, linestyle=style, label=label)
            axes.plot(
                support_x, support_y, linestyle="", marker="o", markersize=6, color=GOOD,
                markeredgecolor=FG, markeredgewidth=0.6, label="support",
            )  # fmt: skip
            axes.margins(y=0.12)
            _legend(axes)
        result.append((row, figure.svg))
    return result


def _after(steps: int) -> str:
    return f"after {plural(steps, 'step')}"
