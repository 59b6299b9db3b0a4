"""Parallel coordinates: every trial a line through its values to its score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from metadist.report.svg import BAD, CARD, FG, GOOD, MAIN, MUTED, drawing
from metadist.report.text_table import short
from metadist.search.report.data import SearchData, TrialData
from metadist.search.report.scales import KeyAxis, Scale, key_axes, score_scale
from metadist.search.report.trial_markers import LABELS, LINES, STATUSES, WINNER

#: Trials that stand out.
TOP = 3
#: Where the line of a trial is that lacks a key.
_ABSENT = -0.16
#: Letters of a column's name that fit in one line.
_LONG = 12
#: Between two numbers of trials at the right end.
_APART = 0.065


def parallel(data: SearchData, winner: int | None) -> str:
    """The figure; empty without trials.

    Args:
        winner: number of the trial that was chosen; None: none was.
    """
    if not data.trials:
        return ""
    columns = key_axes(data)
    width = 12.6 if len(columns) > 2 else 9.0
    label = f"Values of every trial at {', '.join(columns)}, and its score"
    with drawing("parallel", label, size=(width, 4.6)) as figure:
        axes = figure.axes()
        scores = [t.score for t in data.trials if t.score is not None]
        scale = score_scale(data, scores)
        absent = [key for key in columns if any(key not in trial.point for trial in data.trials)]
        for place, (key, column) in enumerate(columns.items()):
            name = key.replace(".", ".\n", 1) if len(key) > _LONG else key
            _column(axes, place, name, column.ticks(), absent=key in absent)
        name = data.metric.title
        name = name.replace(" ", "\n", 1) if len(name) > _LONG else name
        _column(axes, len(columns), name, _score_ticks(data, scale), absent=False)
        top = [t.number for t in data.ranked()[:TOP]]
        flip = data.space.mode == "min"
        ends = {}
        # Where there are many, only how densely they lie can be seen.
        faint = min(0.55, max(0.05, 40 / len(data.trials)))
        for trial in data.trials:
            ys = [_y(trial, key, column) for key, column in columns.items()]
            if trial.score is not None:
                end = scale.place(trial.score)
                ends[trial.number] = 1 - end if flip else end
                ys.append(ends[trial.number])
            chosen = trial.number == winner
            _line(axes, trial, ys, faint=faint, chosen=chosen, top=trial.number in top)
        if winner in ends:
            axes.plot([len(columns)], [ends[winner]], linestyle="", zorder=6, **WINNER)
        told = {n: ends[n] for n in dict.fromkeys([*top, winner]) if n in ends}
        _numbers(axes, len(columns), told)
        axes.set_xlim(-0.35, len(columns) + 0.3)
        axes.set_ylim(_ABSENT - 0.06 if absent else -0.06, 1.06)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        _legend(axes, data, winner in ends)
    return figure.svg


def _y(trial: TrialData, key: str, column: KeyAxis) -> float:
    place = column.place(trial.point.get(key))
    return min(max(place, 0.0), 1.0) if math.isfinite(place) else _ABSENT


def _score_ticks(data: SearchData, scale: Scale) -> list[tuple[float, str]]:
    shown = [(scale.place(v), v) for v in scale.ticks()]
    text = (lambda v: f"{100 * v:g} %") if data.metric.percent else "{:g}".format
    return [(1 - p if data.space.mode == "min" else p, text(v)) for p, v in shown]


def _column(
    axes: Axes, place: int, name: str, ticks: Sequence[tuple[float, str]], *, absent: bool
) -> None:
    axes.plot([place, place], [0.0, 1.0], color=MUTED, linewidth=1.2, zorder=3)
    axes.annotate(
        name, (place, 1.0), xytext=(0, 12), textcoords="offset points",
        ha="center", va="bottom", color=FG, fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    told = short([text for _, text in ticks], 18)
    shown = [(y, text) for (y, _), text in zip(ticks, told, strict=True)]
    for y, text in [*shown, *([(_ABSENT, "not set")] if absent else [])]:
        axes.plot([place - 0.012, place + 0.012], [y, y], color=MUTED, linewidth=1.0, zorder=3)
        axes.annotate(
            text, (place, y),
            xytext=(-5, 0), textcoords="offset points",
            ha="right", va="center", color=MUTED, fontsize=8.5, zorder=4,
            # Lines of trials end behind the texts.
            bbox={"facecolor": CARD, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip


def _line(
    axes: Axes, trial: TrialData, ys: Sequence[float], *, faint: float, chosen: bool, top: bool
) -> None:
    color = GOOD if chosen else MAIN if top else BAD if trial.status == "failed" else MUTED
    axes.plot(
        range(len(ys)),
        ys,
        color=color,
        linestyle=LINES[trial.status],
        linewidth=2.6 if chosen else 2.0 if top else 1.0,
        alpha=1.0 if chosen or top else faint,
        marker="x" if trial.score is None else "",
        markevery=[-1],
        markersize=6,
        zorder=2.6 if chosen else 2.5 if top else 2,
    )


def _numbers(axes: Axes, place: int, ends: dict[int, float]) -> None:
    """Numbers of trials right of their scores, moved apart where they would meet."""
    y = math.inf
    for number, end in sorted(ends.items(), key=lambda pair: -pair[1]):
        y = min(end, y - _APART)
        axes.annotate(
            f"trial {number}", (place, y), xytext=(11, 0), textcoords="offset points",
            va="center", color=FG, fontsize=8.5,
        )  # fmt: skip


def _legend(axes: Axes, data: SearchData, found: bool) -> None:
    there = {t.status for t in data.trials}
    handles = [Line2D([], [], color=GOOD, linewidth=2.6, label="found")] if found else []
    if data.ranked():
        handles.append(Line2D([], [], color=MAIN, linewidth=2.0, label=f"best {TOP} by score"))
    for status in STATUSES:
        if status in there:
            color = BAD if status == "failed" else MUTED
            how: dict[str, Any] = {"color": color, "linestyle": LINES[status], "linewidth": 1.2}
            handles.append(Line2D([], [], label=LABELS[status], **how))
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=6, handlelength=2.6)
