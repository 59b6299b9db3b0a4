"""The heat map of two searched keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from metadist.report.figures import below
from metadist.report.search.data import SearchData
from metadist.report.search.heatmap_cells import Cell, CellMap
from metadist.report.search.scales import score_scale
from metadist.report.search.trial_markers import DEFAULT, MANY, STATUSES, WINNER, scatter
from metadist.report.svg import CARD, FG, MAIN, drawing
from metadist.space import Mode
from metadist.statistics.format import number

#: Columns or rows that still have room for a number in each cell.
_NUMBERED = 10
#: Corners of a cell where its number may stand.
_CORNERS = ((0.5, 0.82), (0.5, 0.18), (0.26, 0.5), (0.74, 0.5), (0.5, 0.5))

Place = tuple[float, float]


def plane(data: SearchData, cells: CellMap, winner: Mapping[str, Any] | None) -> str:
    """Cells by their best score, the stronger the colour the better, with every trial as a point.

    Args:
        winner: values of the setting that was found; None if there is none.
    """
    title = f"Best validation {data.score_name} in each cell"
    with drawing("plane", f"{title}: {cells.x_key} and {cells.y_key}", size=(6.2, 4.9)) as figure:
        axes = figure.axes()
        axes.set_title(title if data.regression else f"{title}, %")
        marked = _trials(axes, data, cells)
        for values, how, text in (
            (data.default, DEFAULT, "default"),
            (winner or {}, WINNER, "found"),
        ):
            if (at := _inside(cells, values)) is not None:
                axes.plot(*at, linestyle="", label=text, zorder=6, **how)
                marked.append(at)
        _cells(axes, data, cells, marked)
        _axis(axes, cells)
        below(axes)
    return figure.svg


def default_is_outside(data: SearchData, cells: CellMap) -> bool:
    """Whether the default setting cannot be shown among the cells."""
    return bool(data.default) and _inside(cells, data.default) is None


def _trials(axes: Axes, data: SearchData, cells: CellMap) -> list[Place]:
    everywhere: list[Place] = []
    for status in STATUSES:
        places = [_place(cells, t.point) for t in data.trials if t.status == status]
        there = [p for p in places if all(map(math.isfinite, p))]
        if there:
            # On blue cells only the colour of text can be seen.
            x, y = [p[0] for p in there], [p[1] for p in there]
            hollow = {} if status == "finished" else {"markerfacecolor": "none"}
            scatter(
                axes,
                x,
                y,
                status,
                color=FG,
                markersize=4.5 if len(data.trials) <= MANY else 2,
                zorder=5,
                **hollow,
            )
        everywhere += there
    return everywhere


def _place(cells: CellMap, point: Mapping[str, Any]) -> Place:
    return cells.x_axis.place(point.get(cells.x_key)), cells.y_axis.place(point.get(cells.y_key))


def _inside(cells: CellMap, values: Mapping[str, Any]) -> Place | None:
    x, y = _place(cells, values)
    edges = (cells.x_edges, cells.y_edges)
    inside = all(e[0] - 1e-9 <= v <= e[-1] + 1e-9 for e, v in zip(edges, (x, y), strict=True))
    return (x, y) if inside else None


def _cells(axes: Axes, data: SearchData, cells: CellMap, marked: Sequence[Place]) -> None:
    scored = [(c, c.score) for c in cells.cells if c.score is not None]
    scale = score_scale(data, _clear([s for _, s in scored], data.space.mode))
    numbered = max(len(cells.x_edges), len(cells.y_edges)) <= _NUMBERED + 1
    for cell, score in scored:
        place = scale.place(score)
        place = min(max(place if data.space.mode == "max" else 1 - place, 0.0), 1.0)
        x, y = _ends(cells, cell)
        axes.add_patch(
            Rectangle(
                (x[0], y[0]),
                x[1] - x[0],
                y[1] - y[0],
                facecolor=MAIN,
                alpha=0.07 + 0.55 * place,
                linewidth=0,
                zorder=1,
            )
        )
        if numbered:
            text = number(score) if data.regression else f"{100 * score:.1f}"
            at = _free(x, y, marked)
            crowded = len(marked) > MANY
            ground = {"facecolor": CARD, "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
            axes.annotate(
                text, at, ha="center", va="center", color=FG, fontsize=8.0, zorder=7,
                bbox=ground if crowded else None,
            )  # fmt: skip


def _clear(scores: Sequence[float], mode: Mode) -> list[float]:
    """Scores without the worst quarter, which would leave the others no difference in colour."""
    ordered = sorted(scores, reverse=mode == "max")
    return ordered[: math.ceil(0.75 * len(ordered))]


def _ends(cells: CellMap, cell: Cell) -> tuple[Place, Place]:
    x, y = cells.x_edges, cells.y_edges
    return (x[cell.column], x[cell.column + 1]), (y[cell.row], y[cell.row + 1])


def _free(x: Place, y: Place, marked: Sequence[Place]) -> Place:
    """Where in a cell a number is farthest from every point."""

    def room(corner: Place) -> float:
        away = [
            # A number is wide and low.
            math.hypot(((p - x[0]) / (x[1] - x[0]) - corner[0]) * 0.6,
                       (q - y[0]) / (y[1] - y[0]) - corner[1])
            for p, q in marked
        ]  # fmt: skip
        return min(min(away, default=1.0), 0.45)

    best = max(_CORNERS, key=room)
    return x[0] + best[0] * (x[1] - x[0]), y[0] + best[1] * (y[1] - y[0])


def _axis(axes: Axes, cells: CellMap) -> None:
    axes.set_xlim(cells.x_edges[0], cells.x_edges[-1])
    axes.set_ylim(cells.y_edges[0], cells.y_edges[-1])
    x, y = cells.x_axis.ticks(), cells.y_axis.ticks()
    axes.set_xticks([place for place, _ in x], [text for _, text in x])
    axes.set_yticks([place for place, _ in y], [text for _, text in y])
    axes.set_xlabel(cells.x_key)
    axes.set_ylabel(cells.y_key)
    axes.grid(visible=False)
    for edge in cells.x_edges:
        axes.axvline(edge, color=FG, alpha=0.12, linewidth=0.6)
    for edge in cells.y_edges:
        axes.axhline(edge, color=FG, alpha=0.12, linewidth=0.6)
