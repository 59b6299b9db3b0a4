"""Curves of several runs in one figure: a score against outer steps, or any number against another.

For a page by itself (:func:`curves`), or as a file (:func:`metadist.report.svg.standalone`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from metadist.report.figures import count_axis, log_scale
from metadist.report.figures import percent as in_percent
from metadist.report.svg import drawing
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir

#: Colours of lines, readable on white and on black.
COLORS = (
    "#3b82d6", "#d9730d", "#2a9d6f", "#d64545", "#8b6fd1",
    "#a67c52", "#d05ca8", "#7a8794", "#a39a1c", "#1aa5b8",
)  # fmt: skip
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v")
#: Points that still have markers.
_MARKED = 40


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        label: in the legend; lines of one label have one look and one entry (seeds of one run).
        x, y: the points; those that are not finite interrupt the line.
        ci95: half-widths of the points' intervals, drawn as a band; none if empty.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ci95: Sequence[float] = ()


def validation_line(run: RunDir, label: str, metric: str, scale: float = 1.0) -> Line | None:
    """Validation scores of a run over outer steps; None without any.

    Args:
        metric: name of what is measured.
        scale: what scores are multiplied by.
    """
    points = series(run).get(f"val/{metric}")
    if not points:
        return None
    return Line(label, [p.step for p in points], [scale * p.value for p in points])


def curves(
    lines: Sequence[Line],
    *,
    title: str,
    y: str,
    x: str = "outer steps",
    name: str = "curves",
    percent: bool = False,
    log_y: bool = False,
    size: tuple[float, float] = (8.6, 4.2),
) -> str:
    """The figure as SVG for a page; empty if no line has a finite point.

    Args:
        title: also what a screen reader says.
        x, y: what the axes show, with the unit.
        name: of the figure, unique in its page.
        percent: values are shares, shown in percent.
    """
    drawn = [line for line in lines if any(map(math.isfinite, line.y))]
    if not drawn:
        return ""
    with drawing(name, title, size=size) as figure:
        axes = figure.axes(title)
        draw_lines(axes, drawn)
        axes.set_ylabel(y)
        if log_y:
            log_scale(axes)
        elif percent:
            in_percent(axes.yaxis)
        count_axis(axes, x, 7)
        axes.figure.legend(loc="outside right upper", handlelength=2.6)
    return figure.svg


def look(place: int) -> dict[str, Any]:
    """Colour, kind of line and marker of the line at a place: all different for fifty places."""
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": _STYLES[place // len(COLORS) % len(_STYLES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Lines with their bands; a look of its own for each label, in the order of the labels."""
    places = {label: place for place, label in enumerate(dict.fromkeys(x.label for x in lines))}
    told: set[str] = set()
    for line in lines:
        how = look(places[line.label])
        x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        axes.plot(
            x,
            np.where(np.isfinite(y), y, np.nan),
            markersize=4 if len(x) <= _MARKED else 0,
            label=None if line.label in told else line.label,
            **how,
        )
        told.add(line.label)
        if len(line.ci95):
            ci = np.asarray(line.ci95, dtype=np.float64)
            axes.fill_between(x, y - ci, y + ci, color=how["color"], alpha=0.18, linewidth=0)
