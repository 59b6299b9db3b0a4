"""A table's pictures as SVG files of their own."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from metadist.report.curves import draw_lines, look, validation_line
from metadist.report.figures import log_scale
from metadist.report.svg import MUTED, drawing, standalone
from metadist.reproduce.result import Result, RowResult
from metadist.reproduce.table import Picture, Row

_SIZE = (8.6, 4.2)


def pictures(result: Result) -> dict[str, str]:
    """File name -> SVG of each picture that there is something to draw in."""
    table = result.request.table
    drawn = {
        f"{table.name}-{wanted.kind}.svg": _picture(wanted, result) for wanted in table.pictures
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _picture(wanted: Picture, result: Result) -> str | None:
    with drawing("table", result.request.table.title, size=_SIZE) as figure:
        axes = figure.axes()
        draw = _curves if wanted.kind == "curves" else _rows
        if not draw(axes, wanted, result):
            return None
        axes.set_xlabel(wanted.x)
        axes.set_ylabel(wanted.y)
        if wanted.log_y:
            log_scale(axes)
        if wanted.kind == "rows":
            if wanted.log_x:
                axes.set_xscale("log")
            at = sorted({one.row.at for one in result.rows if one.row.at is not None})
            axes.xaxis.set_major_locator(FixedLocator(at))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.figure.legend(loc="outside right upper", handlelength=2.6)
    return standalone(figure.svg)


def _curves(axes: Axes, wanted: Picture, result: Result) -> bool:
    """Validation against outer steps: a line for each run and seed, a colour for each run."""
    shown: dict[str, Row] = {}
    for one in result.rows:
        if one.row.versus is None and one.row.scored:
            shown.setdefault(one.row.run, one.row)
    found = [
        validation_line(p.run, row.series or row.label, row.metric, row.scale)
        for key, row in shown.items()
        for p in result.planned
        if p.key == key and not p.problem
    ]
    lines = [line for line in found if line is not None]
    draw_lines(axes, lines)
    return bool(lines)


def _rows(axes: Axes, wanted: Picture, result: Result) -> bool:
    """Figures against ``at``: ours with their intervals, published ones dashed and faint."""
    drawn = False
    for index, (name, rows) in enumerate(_by_series(result)):
        how = look(index) | {"linestyle": "-"}
        ours = [(o.row.at, o.measured.ours) for o in rows if o.measured.ours is not None]
        points = [(x, m.value, m.ci95 or 0.0) for x, m in ours if m.value is not None]
        if points:
            x, y, ci = zip(*points, strict=True)
            # On a logarithmic axis an interval that reaches below zero would be cut off silently.
            low = [min(c, 0.999 * v) if wanted.log_y else c for v, c in zip(y, ci, strict=True)]
            axes.errorbar(x, y, yerr=[low, ci], capsize=2.5, markersize=4.5, label=name, **how)
            drawn = True
        there = [(o.row.at, o.row.published.value) for o in rows if o.row.published is not None]
        if there:
            faint = {**how, "linestyle": "--", "markerfacecolor": "none"}
            axes.plot(*zip(*there, strict=True), alpha=0.6, markersize=4.5, **faint)
            drawn = True
    axes.plot([], [], linestyle="--", color=MUTED, label="published")
    return drawn


def _by_series(result: Result) -> Iterator[tuple[str, list[RowResult]]]:
    """The rows of each line, by their abscissa."""
    names = dict.fromkeys(one.row.series for one in result.rows if one.row.at is not None)
    for name in names:
        rows = [o for o in result.rows if o.row.series == name and o.row.at is not None]
        yield name, sorted(rows, key=lambda o: o.row.at or 0.0)
