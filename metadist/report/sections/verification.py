"""The ROC curve of a report: are two examples of the same class?"""

from __future__ import annotations

import numpy as np

from metadist.report.document import Card
from metadist.report.figures import below, percent
from metadist.report.phrases import label
from metadist.report.svg import BAD, GOOD, MAIN, MUTED, SECOND, drawing
from metadist.runs.readers.run_data import RunData
from metadist.runs.readers.verification import StoredVerification, told_threshold

_MOST_CURVES = 4


def roc_card(data: RunData) -> Card | None:
    """The curves of the protocols that have one; None where none has."""
    found = [(p, p.verification) for p in data.protocols if p.verification][:_MOST_CURVES]
    if not found:
        return None
    title = "Are two examples of the same class?"
    with drawing("verification", "ROC curve of pairs of a query and a support example") as figure:
        axes = figure.axes(title)
        colors = (MAIN, SECOND, GOOD, BAD)
        for (protocol, own), color in zip(found, colors, strict=False):
            axes.plot(*np.array(own.curve).T, color=color, label=label(protocol))
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.0, label="chance")
        axes.set_xlabel("different pairs that are told to be the same")
        axes.set_ylabel("same pairs that are found")
        for axis in (axes.xaxis, axes.yaxis):
            percent(axis)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        below(axes)
    _, first = found[0]
    return Card(figure.svg, _caption(first))


def _caption(own: StoredVerification) -> str:
    return (
        f"Receiver operating characteristic, over all thresholds, of {own.same:,} pairs of the "
        f"same class and {own.different:,} of different ones (queries with support examples of "
        f"their test episodes). Verification accuracy is that of as many of either kind at the "
        f"{told_threshold(own)}."
    )
