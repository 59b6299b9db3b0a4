"""The figure of a learner that predicts in sequence: accuracy by instance."""

from __future__ import annotations

import math

import numpy as np

from metadist.report.document import Card
from metadist.report.figures import annotate, below, count_axis, percent
from metadist.report.svg import MAIN, MUTED, SECOND, drawing
from metadist.runs.readers.evaluations import StoredEvaluation
from metadist.statistics.instances import guessed

_TOLD = (
    "Support and query images of an episode in a random order: how often the first, second, … "
    "image of a class is told by the images before it and their labels."
)


def instances_card(protocol: StoredEvaluation, ways: int) -> Card | None:
    """The figure; None where there is nothing to show.

    Args:
        ways: of its episodes.
    """
    known = protocol.by_instance
    if known is None or not known.accuracy:
        return None
    title = "Accuracy by instance"
    with drawing("instances", title) as figure:
        axes = figure.axes(f"{title}, {protocol.episodes:,} episodes")
        x, y = np.arange(1, len(known.accuracy) + 1), np.array(known.accuracy)
        axes.plot(x, y, color=MAIN, marker="o", markersize=4.5, label="of a class")
        axes.axhline(1 / ways, color=MUTED, linestyle="--", linewidth=1.0, label="chance")
        axes.plot(
            [1], [guessed(ways)], linestyle="", marker="^", color=SECOND, markersize=6,
            label="the best guess at a first one",
        )  # fmt: skip
        for place in (0, len(y) - 1):
            if math.isfinite(y[place]):
                text, at = f"{100 * y[place]:.1f} %", (float(x[place]), float(y[place]))
                annotate(axes, text, at, "data", (0, 7), ha="center")
        axes.set_ylim(0.0, 1.08)
        percent(axes.yaxis)
        axes.set_ylabel("accuracy")
        count_axis(axes, "instance of a class", ticks=10)
        below(axes)
    first = known.first_example
    told = f" The very first image of an episode: {100 * first:.1f} %." if first == first else ""
    return Card(figure.svg, _TOLD + told)
