"""The interval of a mean over episodes for classes that are not among those of the episodes.

Episodes share classes: 600 of them over 20 classes are no 600 samples of the world's classes. The
usual interval, 1.96 · s / √E, holds the classes fixed and only says what other episodes of them
would show. Here classes count as drawn, too: a score is a mean, plus an effect of each class of its
episode, plus what is the episode's own. The variances of both are found from how much more alike
episodes are that share classes (two moment equations, solved exactly for the episodes there are),
and the mean's variance follows from how often each class occurs.

It is what a bootstrap over classes and episodes aims at, in closed form: no seed, no resampling
noise. The bootstrap itself does badly here. Weights that are products over an episode's classes
leave few episodes with any weight, and any resampling of few classes holds too little spread.

Noise between episodes makes the means of classes differ as well. Only its expectation less one
standard deviation is taken off: of few classes the rest cannot be told from their effects, and the
interval is to be too wide rather than too narrow. It is never narrower than that over episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.statistics.paired import t975

Floats = NDArray[np.float64]


def ci95_new_classes(scores: Floats, classes: NDArray[np.int64]) -> Floats:
    """Half-widths of 95 % intervals of the means over new classes and episodes.

    Args:
        scores: float64 [E, K], finite: K scores of each episode.
        classes: int64 [E, N]: the classes of each episode.

    Returns:
        float64 [K]; NaN where no two episodes have other classes, which tells nothing of them.
    """
    shared = _Shared.of(classes)
    if shared.first < 1e-9 * classes.size:
        return np.full(scores.shape[1], math.nan)
    apart = scores - scores.mean(0)
    within = np.square(apart).sum(0)
    effect = shared.effect(np.square(shared.has.T @ apart).sum(0), within)
    own = (within - shared.first * effect) / (len(classes) - 1)
    variance = shared.concentration * effect + own / len(classes)
    return np.asarray(t975(shared.freedom) * np.sqrt(variance))


@dataclass(frozen=True)
class _Shared:
    """How E episodes share C classes.

    Attributes:
        has: sparse [E, C], how often an episode has a class.
        concentration: the sum of squares of the classes' mean occurrences in an episode.
        first, second: traces of H and of its square, where H [C, C] are the inner products of the
            centred columns of ``has``.
    """

    has: Any
    concentration: float
    first: float
    second: float

    @classmethod
    def of(cls, classes: NDArray[np.int64]) -> _Shared:
        """From int64 [E, N], the classes of each episode."""
        # Here, so that commands which know of no classes do not load it.
        from scipy.sparse import csr_array

        names, index = np.unique(classes, return_inverse=True)
        episodes, ways = classes.shape
        places = (np.repeat(np.arange(episodes), ways), index.reshape(-1))
        has = csr_array((np.ones(classes.size), places), shape=(episodes, len(names)))
        mean, products = has.sum(0) / episodes, has.T @ has
        squares = float(mean @ mean)
        second = products.power(2).sum() - 2 * episodes * float(mean @ (products @ mean))
        first = products.diagonal().sum() - episodes * squares
        return cls(has, squares, float(first), float(second) + (episodes * squares) ** 2)

    @property
    def freedom(self) -> float:
        """Of the spread between classes: one less than there are, if all are as frequent."""
        return max(self.first**2 / self.second, 1.0)

    def effect(self, between: Floats, within: Floats) -> Floats:
        """The variance of a class's effect: not below zero, nor above what there is in all.

        Args:
            between: [K], the squares of the classes' sums of centred scores, added up.
            within: [K], the squares of the centred scores, added up.
        """
        rest = self.has.shape[0] - 1
        taken_off = max(0.0, 1 - math.sqrt(2 / self.freedom))
        determinant = rest * self.second - taken_off * self.first**2
        if determinant < 1e-9 * rest * self.second:  # no two episodes share a class
            return np.zeros_like(within)
        found = (rest * between - taken_off * self.first * within) / determinant
        return np.asarray(np.clip(found, 0.0, within / self.first))
