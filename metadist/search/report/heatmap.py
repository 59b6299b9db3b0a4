"""The heat map of two searched keys: cells, each with the best score of the trials in it."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from metadist.report.figures import below
from metadist.report.svg import CARD, FG, MAIN, drawing
from metadist.search.report.data import SearchData, TrialData
from metadist.search.report.scales import KeyAxis, key_axes, score_scale
from metadist.search.report.trial_markers import DEFAULT, MANY, STATUSES, WINNER, scatter
from metadist.search.search_dir import rank
from metadist.space import Mode
from metadist.statistics.format import number

#: Columns or rows that still have room for a number in each cell.
_NUMBERED = 10
#: Corners of a cell where its number may stand.
_CORNERS = ((0.5, 0.82), (0.5, 0.18), (0.26, 0.5), (0.74, 0.5), (0.5, 0.5))

#: A place (x, y), or two ends.
Pair = tuple[float, float]

#: Looked at first, where they are searched.
PREFERRED = ("inner.lr", "outer.lr")
#: Cells in a row or column, where values are not given by a grid.
_FEWEST, _MOST = 3, 8


@dataclass(frozen=True)
class Cell:
    """A cell with trials in it.

    Attributes:
        column, row: its place, from 0, at the lower ends of the axes.
        x, y: lower and upper end, as values of the two keys; of a grid, midway between values.
        trials: numbers of the trials in it.
        best: number of the one with the best score; None if none has a score.
        score: its score.
    """

    column: int
    row: int
    x: Pair
    y: Pair
    trials: tuple[int, ...]
    best: int | None
    score: float | None


@dataclass(frozen=True)
class CellMap:
    """Two numeric keys and the cells in which there are trials.

    Attributes:
        x_key, y_key: the keys.
        x_axis, y_axis: how values become places.
        x_edges, y_edges: places of the cells' ends, one more than columns and rows.
        cells: those with trials, row by row.
        exact: whether every value that was tried has cells of its own.
    """

    x_key: str
    y_key: str
    x_axis: KeyAxis
    y_axis: KeyAxis
    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    cells: tuple[Cell, ...]
    exact: bool

    def best(self, data: SearchData) -> Cell | None:
        """The cell with the best score; None if no trial has one."""
        scored = [cell for cell in self.cells if cell.score is not None]
        return min(scored, key=lambda cell: rank(cell.score, data.space.mode), default=None)


def cell_map(data: SearchData) -> CellMap | None:
    """The plane of two keys in cells; None if fewer than two keys are numbers.

    The keys are inner and outer learning rate if both are searched, else the first two that are
    numbers. Of a grid search, each pair of values is a cell; of others, the domains are cut into
    equal parts on their own scale. Trials without one of the keys are in no cell.
    """
    axes = key_axes(data)
    numeric = [key for key, axis in axes.items() if axis.scale is not None]
    if len(numeric) < 2:
        return None
    x_key, y_key = PREFERRED if set(PREFERRED) <= set(numeric) else numeric[:2]
    x, y = axes[x_key], axes[y_key]
    places = [(x.place(t.point.get(x_key)), y.place(t.point.get(y_key)), t) for t in data.trials]
    placed = [at for at in places if math.isfinite(at[0]) and math.isfinite(at[1])]
    parts = min(_MOST, max(_FEWEST, round(math.sqrt(2 * len(placed)))))
    x_edges, y_edges = _edges(x, parts), _edges(y, parts)
    inside: dict[tuple[int, int], list[TrialData]] = {}
    for x_place, y_place, trial in placed:
        where = _index(y_edges, y_place), _index(x_edges, x_place)
        inside.setdefault(where, []).append(trial)
    cells = tuple(
        _cell(data, column, row, _span(x, x_edges, column), _span(y, y_edges, row), trials)
        for (row, column), trials in sorted(inside.items())
    )
    exact = bool(x.values) and bool(y.values)
    return CellMap(x_key, y_key, x, y, tuple(x_edges), tuple(y_edges), cells, exact)


def _edges(axis: KeyAxis, parts: int) -> list[float]:
    if not axis.values:
        return [i / parts for i in range(parts + 1)]
    places = sorted({axis.place(v) for v in axis.values})
    if len(places) < 2:
        return [places[0] - 0.5, places[0] + 0.5]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    first, last = 2 * places[0] - middles[0], 2 * places[-1] - middles[-1]
    return [first, *middles, last]


def _index(edges: Sequence[float], place: float) -> int:
    return min(max(bisect.bisect_right(edges, place) - 1, 0), len(edges) - 2)


def _span(axis: KeyAxis, edges: Sequence[float], index: int) -> Pair:
    assert axis.scale is not None
    return axis.scale.value(edges[index]), axis.scale.value(edges[index + 1])


def _cell(
    data: SearchData, column: int, row: int, x: Pair, y: Pair, trials: Sequence[TrialData]
) -> Cell:
    numbers = tuple(t.number for t in trials)
    best = next((t for t in data.ranked() if t.number in numbers), None)
    found = (None, None) if best is None else (best.number, best.score)
    return Cell(column, row, x, y, numbers, *found)


def plane(data: SearchData, cells: CellMap, winner: Mapping[str, Any] | None) -> str:
    """Cells by their best score, the stronger the colour the better, with every trial as a point.

    Args:
        winner: values of the setting that was found; None if there is none.
    """
    title = f"Best validation {data.metric.title} in each cell"
    with drawing("plane", f"{title}: {cells.x_key} and {cells.y_key}", size=(6.2, 4.9)) as figure:
        axes = figure.axes()
        axes.set_title(f"{title}, %" if data.metric.percent else title)
        marked = _trials(axes, data, cells)
        shown = ((data.default, DEFAULT, "default"), (winner or {}, WINNER, "found"))
        for values, how, text in shown:
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


def _trials(axes: Axes, data: SearchData, cells: CellMap) -> list[Pair]:
    everywhere: list[Pair] = []
    for status in STATUSES:
        places = [_place(cells, t.point) for t in data.trials if t.status == status]
        there = [p for p in places if all(map(math.isfinite, p))]
        if there:
            # On blue cells only the colour of text can be seen.
            how: dict[str, Any] = {} if status == "finished" else {"markerfacecolor": "none"}
            how["markersize"] = 4.5 if len(data.trials) <= MANY else 2
            x, y = [p[0] for p in there], [p[1] for p in there]
            scatter(axes, x, y, status, color=FG, zorder=5, **how)
        everywhere += there
    return everywhere


def _place(cells: CellMap, point: Mapping[str, Any]) -> Pair:
    return cells.x_axis.place(point.get(cells.x_key)), cells.y_axis.place(point.get(cells.y_key))


def _inside(cells: CellMap, values: Mapping[str, Any]) -> Pair | None:
    x, y = _place(cells, values)
    edges = (cells.x_edges, cells.y_edges)
    inside = all(e[0] - 1e-9 <= v <= e[-1] + 1e-9 for e, v in zip(edges, (x, y), strict=True))
    return (x, y) if inside else None


def _cells(axes: Axes, data: SearchData, cells: CellMap, marked: Sequence[Pair]) -> None:
    scored = [(c, c.score) for c in cells.cells if c.score is not None]
    scale = score_scale(data, _clear([s for _, s in scored], data.space.mode))
    numbered = max(len(cells.x_edges), len(cells.y_edges)) <= _NUMBERED + 1
    for cell, score in scored:
        place = scale.place(score)
        place = min(max(place if data.space.mode == "max" else 1 - place, 0.0), 1.0)
        x = cells.x_edges[cell.column], cells.x_edges[cell.column + 1]
        y = cells.y_edges[cell.row], cells.y_edges[cell.row + 1]
        size = x[1] - x[0], y[1] - y[0]
        strength = 0.07 + 0.55 * place
        axes.add_patch(
            Rectangle((x[0], y[0]), *size, facecolor=MAIN, alpha=strength, linewidth=0, zorder=1)
        )
        if numbered:
            text = f"{100 * score:.1f}" if data.metric.percent else number(score)
            ground = {"facecolor": CARD, "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
            axes.annotate(
                text, _free(x, y, marked), ha="center", va="center", color=FG, fontsize=8.0,
                zorder=7, bbox=ground if len(marked) > MANY else None,
            )  # fmt: skip


def _clear(scores: Sequence[float], mode: Mode) -> list[float]:
    """Scores without the worst quarter, which would leave the others no difference in colour."""
    ordered = sorted(scores, reverse=mode == "max")
    return ordered[: math.ceil(0.75 * len(ordered))]


def _free(x: Pair, y: Pair, marked: Sequence[Pair]) -> Pair:
    """Where in a cell a number is farthest from every point."""

    def room(corner: Pair) -> float:
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
    axes.set_xticks(*zip(*cells.x_axis.ticks(), strict=True))
    axes.set_yticks(*zip(*cells.y_axis.ticks(), strict=True))
    axes.set_xlabel(cells.x_key)
    axes.set_ylabel(cells.y_key)
    axes.grid(visible=False)
    for edge in cells.x_edges:
        axes.axvline(edge, color=FG, alpha=0.12, linewidth=0.6)
    for edge in cells.y_edges:
        axes.axhline(edge, color=FG, alpha=0.12, linewidth=0.6)
