"""The difference of two learners on the same episodes.

Two learners that meet the same episode find it hard or easy together. The differences within
episodes vary less than the scores do, so a paired interval tells apart what two intervals side by
side do not. It is Student's: mean ± t · s / √n of the n differences, with their standard deviation
s (ddof 1) and the 97.5 % quantile t of Student's distribution with n − 1 degrees of freedom
(Student, *The Probable Error of a Mean*, Biometrika 1908).

The interval is over episodes: it says what other episodes would show of these two learners, not
what other seeds of their training would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from metadist.errors import RunError

if TYPE_CHECKING:
    from metadist.objectives import Metric

Word = Literal["better", "worse", "within noise"]


@dataclass(frozen=True)
class Rows:
    """The scores of a learner on episodes 0, 1, … n − 1 of a source.

    Attributes:
        episode_digest: what decides the bits of the episodes.
        metric: what a score is.
        score: float64 [n]; ``metric.failed`` for an episode that has failed.
    """

    episode_digest: str
    metric: Metric
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """How much higher the scores of one learner are than those of another.

    Attributes:
        mean: over the pairs; NaN if there are none.
        ci95: half-width of the 95 % interval of the mean; NaN of fewer than two pairs.
        n: pairs.
        left_out: episodes of which one learner or both have no finite score.
    """

    mean: float
    ci95: float
    n: int
    left_out: int

    def word(self, metric: Metric) -> Word | None:
        """Whether the first learner is better; None where the pairs are too few to tell."""
        if not (math.isfinite(self.mean) and math.isfinite(self.ci95)):
            return None
        if abs(self.mean) <= self.ci95:
            return "within noise"
        return "better" if metric.better(self.mean, 0.0) else "worse"


def paired(a: Rows, b: Rows) -> Paired:
    """The scores of ``a`` minus those of ``b``, episode by episode.

    Of two with different numbers of episodes, those that both have are compared.

    Raises:
        RunError: their scores are of different kinds, or of different episodes.
    """
    if a.metric.name != b.metric.name:
        raise RunError(f"{a.metric.name} and {b.metric.name} cannot be subtracted from each other")
    if a.episode_digest != b.episode_digest:
        raise RunError(
            "scores on other episodes cannot be paired: digests "
            f"{a.episode_digest[:12]} and {b.episode_digest[:12]}"
        )
    common = min(len(a.score), len(b.score))
    difference = a.score[:common] - b.score[:common]
    kept = difference[np.isfinite(difference)]
    n = len(kept)
    if not n:
        return Paired(math.nan, math.nan, 0, common)
    mean = math.fsum(kept / n)  # a sum of large errors may be beyond float64
    if n == 1:
        return Paired(mean, math.nan, 1, common - 1)
    with np.errstate(over="ignore"):  # errors of 1e200 have no deviation that is finite
        deviation = math.sqrt(float(np.square(kept - mean).sum()) / (n - 1))
    return Paired(mean, t975(n - 1) * deviation / math.sqrt(n), n, common - n)


def t975(freedom: float) -> float:
    """The 97.5 % quantile of Student's distribution with ``freedom`` degrees of freedom."""
    if freedom < 1:
        raise ValueError(f"at least 1 degree of freedom is needed, got {freedom}")
    # Here, so that commands which compare nothing do not load it.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
