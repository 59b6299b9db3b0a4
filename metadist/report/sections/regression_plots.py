"""Test episodes of functions: the true function, its support points and what is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from metadist.report.figures import below
from metadist.report.phrases import plural
from metadist.report.svg import FG, GOOD, MAIN, MUTED, SECOND, drawing
from metadist.runs.readers.run_data import Arrays

Floats = NDArray[np.float64]
#: How the prediction after a number of steps is drawn.
Looks = dict[int, dict[str, Any]]

#: How far beyond the truth's range predictions are still shown, in ranges.
_ROOM = 0.6
_SIZE = (6.2, 3.2)


def fits(examples: Arrays, trained_steps: int, limit: int) -> list[tuple[int, str]]:
    """The first ``limit`` episodes as (row, figure): predictions after 0, 1, the trained and all
    steps.

    Functions of one input are drawn over it; of several, predictions against true values. Of
    several outputs the first is drawn.
    """
    last = examples["outputs"].shape[1] - 1
    trained = min(trained_steps, last)
    looks: Looks = {
        0: {"color": MUTED, "linestyle": ":"},
        min(1, last): {"color": MAIN, "linestyle": (0, (5, 2)), "linewidth": 1.2},
        last: {"color": SECOND, "linestyle": "-."},
        trained: {"color": MAIN, "linestyle": "-"},
    }
    result = []
    for row in range(min(limit, len(examples["outputs"]))):
        title = f"Test episode {int(examples['ids'][row])}"
        told = "fit before and after adaptation" if last else "fit"
        with drawing(f"fit{row}", f"{title}: {told}", size=_SIZE) as fig:
            axes = fig.axes(title)
            if inputs(examples) > 1:
                _against_truth(axes, examples, row, {s: looks[s] for s in (0, last, trained)})
            else:
                _over_input(axes, examples, row, looks)
            below(axes)
        result.append((row, fig.svg))
    return result


def inputs(examples: Arrays) -> int:
    """How many numbers a function is of."""
    return int(np.prod(examples["support_x"].shape[2:]))


def _column(values: NDArray[Any]) -> Floats:
    """The first dimension of [n, ...] as float64 [n]."""
    return values.reshape(len(values), -1)[:, 0].astype(np.float64)


def _name(step: int, looks: Looks) -> str:
    if len(looks) == 1:
        return "prediction"
    return "before" if step == 0 else f"after {plural(step, 'step')}"


def _limits(truth: Floats) -> tuple[float, float]:
    """The range of the true values with room about it."""
    finite = truth[np.isfinite(truth)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = _ROOM * (high - low) or 1.0
    return low - room, high + room


def _told(name: str, values: Floats, limits: tuple[float, float]) -> str:
    """A line's name, with what cannot be seen of it."""
    if not np.isfinite(values).all():
        return f"{name} (not finite)"
    if ((values < limits[0]) | (values > limits[1])).mean() > 0.5:
        return f"{name} (off the scale)"
    return name


def _over_input(axes: Axes, examples: Arrays, row: int, looks: Looks) -> None:
    x, truth = _column(examples["query_x"][row]), _column(examples["query_y"][row])
    support = _column(examples["support_x"][row]), _column(examples["support_y"][row])
    limits = _limits(np.concatenate([truth, support[1]]))
    axes.plot(
        x, truth, linestyle="", marker=".", markersize=3.5 if len(x) > 40 else 6.5, color=FG,
        label="truth",
    )  # fmt: skip
    for step, look in sorted(looks.items()):
        values = _column(examples["outputs"][row, step])
        finite = np.isfinite(values)
        label = _told(_name(step, looks), values, limits)
        # What is far beyond the axes would only make numbers that no viewer can draw.
        seen = np.clip(values[finite], limits[0] - 1e3, limits[1] + 1e3)
        axes.plot(x[finite], seen, label=label, **look)
    axes.plot(
        *support, linestyle="", marker="o", markersize=6, color=GOOD, markeredgecolor=FG,
        markeredgewidth=0.6, label="support", zorder=5,
    )  # fmt: skip
    _finish(axes, [truth, support[1], *_within(examples, row, looks, limits)], "x", "y")


def _within(
    examples: Arrays, row: int, steps: Iterable[int], limits: tuple[float, float]
) -> list[Floats]:
    """What of the predictions lies within the limits."""
    values = [_column(examples["outputs"][row, step]) for step in steps]
    return [v[np.isfinite(v) & (v >= limits[0]) & (v <= limits[1])] for v in values]


def _finish(axes: Axes, drawn: Sequence[Floats], x: str, y: str) -> None:
    """Limits with room about what is drawn, and labels."""
    numbers = np.concatenate(drawn)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    pad = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _against_truth(axes: Axes, examples: Arrays, row: int, looks: Looks) -> None:
    truth = _column(examples["query_y"][row])
    limits = _limits(truth)
    ends = [float(np.nanmin(truth)), float(np.nanmax(truth))]
    axes.plot(ends, ends, color=FG, linewidth=1.1, linestyle="--", label="perfect")
    for step, look in sorted(looks.items()):
        values = _column(examples["outputs"][row, step])
        finite = np.isfinite(values)
        axes.plot(
            truth[finite], np.clip(values[finite], limits[0] - 1e3, limits[1] + 1e3),
            linestyle="", marker="x" if step == 0 else "o", markersize=4, color=look["color"],
            markerfacecolor="none" if step == max(looks) else look["color"],
            alpha=0.85, label=_told(_name(step, looks), values, limits),
        )  # fmt: skip
    drawn = [truth, *_within(examples, row, looks, limits)]
    _finish(axes, drawn, "true y", "predicted y")
