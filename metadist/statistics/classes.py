"""Which classes the episodes of an evaluation are of, and what that says of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.types import TURNS
from metadist.statistics.new_classes import Floats, ci95_new_classes

if TYPE_CHECKING:
    from metadist.objectives import Metric

#: Fewer classes than so many times the ways are few.
ENOUGH = 5
#: What stands where there is no interval over new classes.
SAME_CLASSES = "no interval, for all episodes are of the same classes"

#: What stands in place of an interval that :func:`tells_nothing`.
TOO_FEW = "no interval, for there are too few classes"


@dataclass(frozen=True)
class EpisodeClasses:
    """The classes of E episodes of N ways.

    Attributes:
        ids: int64 [E, N], see :data:`data_pipeline.episodes.types.TURNS`.
        count: classes of the part, whether or not they are in one of the episodes.
        turned: as many, or four times as many where turned images are classes of their own.
    """

    ids: NDArray[np.int64]
    count: int
    turned: int

    @property
    def ways(self) -> int:
        """Classes of an episode."""
        return int(self.ids.shape[1])

    def ci95(self, scores: Floats) -> Floats:
        """Half-widths [K] of intervals over new classes of scores [E', K] of the first episodes.

        A class and its turns are one: whoever finds a new character can turn it as well.
        """
        return ci95_new_classes(scores, self.ids[: len(scores)] // TURNS)

    def told(self) -> dict[str, int]:
        """The numbers that stand beside a figure."""
        turned = {"turned_classes": self.turned} if self.turned != self.count else {}
        return {"ways": self.ways, "classes": self.count, **turned}


def tells_nothing(metric: Metric, half: float) -> bool:
    """Whether the half-width of an interval leaves room for anything, as that of a share may."""
    return metric.percent and half >= 1.0


def few_classes(classes: int, ways: int, part: str) -> str:
    """A warning if there are few classes; empty if there are enough."""
    if classes >= ENOUGH * ways:
        return ""
    return (
        f"{classes} {'validation' if part == 'val' else part} classes are fewer than "
        f"{ENOUGH} x {ways} ways: the interval over episodes says little of other classes"
    )


def of_classes(told: Mapping[str, Any], *, labels: bool) -> str:
    """`` of 20 classes``, as it stands behind a number of episodes; nothing of functions.

    Args:
        told: what :meth:`EpisodeClasses.told` has written beside a figure.
        labels: whether the tasks have classes.
    """
    if "classes" not in told:
        return ", number of classes not recorded" if labels else ""
    turned = told.get("turned_classes")
    return f" of {told['classes']:,} classes" + (f", {turned:,} with turns" if turned else "")
