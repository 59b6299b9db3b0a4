"""A plane of two searched keys in cells, each with the best score of the trials in it."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from metadist.report.search.data import SearchData, TrialData
from metadist.report.search.scales import KeyAxis, key_axes

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
    x: tuple[float, float]
    y: tuple[float, float]
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
        found: Cell | None = None
        for cell in self.cells:
            if cell.score is None:
                continue
            if found is None or found.score is None or data.better(cell.score, found.score):
                found = cell
        return found


def numeric_keys(data: SearchData) -> list[str]:
    """Searched keys whose values are numbers."""
    return [key for key, axis in key_axes(data).items() if axis.scale is not None]


def cell_map(data: SearchData, keys: tuple[str, str] | None = None) -> CellMap | None:
    """The plane of two keys in cells; None if fewer than two keys are numbers.

    Of a grid search, each pair of values is a cell; of others, the domains are cut into equal
    parts on their own scale. Trials without one of the keys are in no cell.

    Args:
        keys: columns and rows; inner and outer learning rate if both are searched, else the first
            two keys that are numbers.
    """
    if keys is None:
        numeric = numeric_keys(data)
        if len(numeric) < 2:
            return None
        keys = PREFERRED if set(PREFERRED) <= set(numeric) else (numeric[0], numeric[1])
    axes = key_axes(data)
    x, y = axes[keys[0]], axes[keys[1]]
    placed: list[tuple[float, float, TrialData]] = []
    for trial in data.trials:
        at = x.place(trial.point.get(keys[0])), y.place(trial.point.get(keys[1]))
        if all(map(math.isfinite, at)):
            placed.append((*at, trial))
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
    return CellMap(keys[0], keys[1], x, y, tuple(x_edges), tuple(y_edges), cells, exact)


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


def _span(axis: KeyAxis, edges: Sequence[float], index: int) -> tuple[float, float]:
    assert axis.scale is not None
    return axis.scale.value(edges[index]), axis.scale.value(edges[index + 1])


def _cell(
    data: SearchData,
    column: int,
    row: int,
    x: tuple[float, float],
    y: tuple[float, float],
    trials: Sequence[TrialData],
) -> Cell:
    numbers = tuple(t.number for t in trials)
    best = next((t for t in data.ranked() if t.number in numbers), None)
    return Cell(
        column, row, x, y, numbers,
        None if best is None else best.number,
        None if best is None else best.score,
    )  # fmt: skip
