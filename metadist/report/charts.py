"""Charts with a row for each name: bars, ranges and heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from metadist.report.figures import annotate, log_scale
from metadist.report.svg import BAD, FG, MAIN, MUTED, drawing
from metadist.report.text_table import short
from metadist.statistics.format import number

#: Rows of a chart; what is beyond stands in the file that the chart is made from.
MOST_ROWS = 48
#: Columns of a heat map.
MOST_COLUMNS = 20
_WIDTH = 6.2
_ROW = 0.235
#: What stands in place of a number that is not finite.
NONE = "none"


def _height(rows: int, extra: float = 0.95) -> float:
    return max(1.6, extra + _ROW * rows)


def _written(value: float, form: str) -> str:
    if not math.isfinite(value):
        return NONE
    text = form.format(value)
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _label(axes: Axes, x: str, names: Sequence[str]) -> None:
    """What x is, and a row for each name, the first on top."""
    axes.set_xlabel(x)
    axes.set_yticks(range(len(names)), short(names, 32))
    axes.tick_params(axis="y", labelcolor=FG, labelsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)


def _beside(axes: Axes, row: int, text: str) -> None:
    """A number at the right end of a row, outside the axes."""
    annotate(axes, text, (1.0, row), ("axes fraction", "data"), (6, 0), va="center", color=FG)


def bars(
    name: str,
    title: str,
    x: str,
    values: Mapping[str, float],
    *,
    limits: tuple[float, float],
    form: str = "{:.2f}",
    first: str = "",
) -> str:
    """A bar from 0 for each name, with its number beside it.

    Args:
        name: of the figure, unique in its page.
        x: what the axis shows, with the unit.
        limits: of the axis; it grows where a value is beyond.
        first: the name of a bar that stands out.
    """
    names = list(values)[:MOST_ROWS]
    with drawing(name, title, size=(_WIDTH, _height(len(names)))) as figure:
        axes = figure.axes(title)
        finite = [v for v in values.values() if math.isfinite(v)]
        low, high = min([limits[0], *finite]), max([limits[1], *finite])
        for row, key in enumerate(names):
            value = values[key]
            if math.isfinite(value):
                strong = not first or key == first
                axes.barh(row, value, height=0.62, color=MAIN, alpha=0.9 if strong else 0.5)
            _beside(axes, row, _written(value, form))
        pad = 0.03 * (high - low)
        axes.set_xlim(low - pad if low < 0 else low, high + pad if high > limits[1] else high)
        axes.locator_params(axis="x", nbins=6)
        if low < 0:
            axes.axvline(0.0, color=FG, linewidth=0.9)
        _label(axes, x, names)
    return figure.svg


def ranges(
    name: str,
    title: str,
    x: str,
    rows: Mapping[str, tuple[float, float, float]],
    *,
    log: bool = False,
    mark: tuple[float, str] | None = None,
    ratio: bool = False,
) -> str:
    """A line from the smallest to the largest number of each name, with a dot between.

    Args:
        rows: smallest, middle (NaN: no dot) and largest number by name.
        log: a logarithmic axis; what is far below the rest then runs off its left end.
        mark: a value to compare with, and what it is; not shown where it is beyond the axis.
        ratio: write largest / smallest beside each row.
    """
    names = list(rows)[:MOST_ROWS]
    with drawing(name, title, size=(_WIDTH, _height(len(names)))) as figure:
        axes = figure.axes(title)
        if mark:
            axes.set_title(title, pad=18.0)
        numbers = [v for row in rows.values() for v in row if math.isfinite(v)]
        if mark:
            numbers.append(mark[0])
        # Nothing of a spread is told by more than so many powers of ten.
        most = min(max([1e-300, *numbers]), 1e300)
        floor = max(min([v for v in numbers if v > 0], default=most), most * 1e-12)
        for row, key in enumerate(names):
            low, middle, high = rows[key]
            if not (math.isfinite(low) and math.isfinite(high)):
                _beside(axes, row, NONE)
                continue
            start = max(low, floor * 1e-3) if log else low
            if not log or high > 0:
                axes.plot(
                    [start, high], [row, row], color=MAIN, linewidth=5.0, alpha=0.45,
                    solid_capstyle="round",
                )  # fmt: skip
            if math.isfinite(middle) and (not log or middle > 0):
                axes.plot([middle], [row], color=MAIN, marker="o", markersize=5.5)
            if ratio:
                _beside(axes, row, f"×{high / low:.3g}" if low > 0 else "singular")
        if not log:
            low, high = min(numbers, default=0.0), max(numbers, default=1.0)
            pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
            axes.set_xlim(low - pad, high + pad)
            axes.locator_params(axis="x", nbins=6)
            if low < 0 < high:
                axes.axvline(0.0, color=FG, linewidth=0.9)
        _label(axes, x, names)
        if log:
            room = max((most / floor) ** 0.06, 1.08)
            axes.set_xlim(floor / room, most * room)
            log_scale(axes, "x")
            axes.set_xlim(floor / room, most * room)
        low, high = axes.get_xlim()
        if mark and low <= mark[0] <= high:
            axes.axvline(mark[0], color=MUTED, linestyle="--", linewidth=1.1)
            place = (mark[0], 1.0), ("data", "axes fraction"), (0, 2)
            annotate(axes, mark[1], *place, ha="center", color=MUTED)
    return figure.svg


def heat_map(name: str, title: str, x: str, rows: Mapping[str, Sequence[float]]) -> str:
    """A cell for each number of each name, the darker the larger; negative ones in red.

    Args:
        x: what the columns are; they count from 1.
    """
    names = list(rows)[:MOST_ROWS]
    columns = min(MOST_COLUMNS, max(len(rows[n]) for n in names))
    magnitudes = [abs(v) for n in names for v in rows[n][:columns] if math.isfinite(v)]
    largest = max(magnitudes, default=0.0) or 1.0
    with drawing(name, title, size=(_WIDTH, _height(len(names), 1.0))) as figure:
        axes = figure.axes(title)
        for row, key in enumerate(names):
            for column, value in enumerate(rows[key][:columns]):
                there = math.isfinite(value)
                color = (BAD if value < 0 else MAIN) if there else "none"
                alpha = 0.06 + 0.64 * abs(value) / largest if there else 1.0
                corner = (column - 0.48, row - 0.46)
                axes.add_patch(
                    Rectangle(corner, 0.96, 0.92, facecolor=color, alpha=alpha, linewidth=0)
                )
                text = number(value, like=largest).replace("-", "−") if there else NONE
                size = 8.5 if columns <= 10 else 6.5
                axes.annotate(
                    text, (column, row), ha="center", va="center", color=FG, fontsize=size
                )
        axes.set_xlim(-0.55, columns - 0.45)
        axes.set_xticks(range(columns), [str(c) for c in np.arange(1, columns + 1)])
        _label(axes, x, names)
        axes.grid(visible=False)
    return figure.svg
