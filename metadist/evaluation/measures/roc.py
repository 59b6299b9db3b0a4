"""Scores of pairs as counts, and what follows from them: thresholds, accuracy, the ROC curve.

A score says how sure it is that two examples are of the same class; scores are only compared with
each other. They are counted as bfloat16, in whose 65,536 values 8 significant digits are kept
whatever the scale: whole numbers, whose sum over workers has no order.

Of pairs one in many is of the same class. Figures are those of as many pairs of either kind, as
Koch et al., "Siamese Neural Networks for One-shot Image Recognition", 2015, verify on: accuracy is
the mean of the share of same pairs and that of different pairs that are told right. The curve and
the area below it are those of Fawcett, "An introduction to ROC analysis", 2006; ties count half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.statistics.format import finite

#: Values of bfloat16 in their order, from minus infinity on.
BINS = 1 << 16
_SIGN = 1 << 15
#: Points of a curve that are kept, beside its first.
POINTS = 200


def bin_of(scores: Tensor) -> Tensor:
    """Place int64 of each score among all values of bfloat16; scores are no NaN."""
    # -0 is 0.
    bits = (scores.to(torch.bfloat16) + 0.0).view(torch.int16).long()
    return torch.where(bits < 0, -1 - bits, bits + _SIGN)


def score_of(place: int) -> float:
    """The score that stands for such a place."""
    bits = place - _SIGN if place >= _SIGN else -1 - place
    return float(torch.tensor([bits], dtype=torch.int16).view(torch.bfloat16))


@dataclass(frozen=True)
class Pairs:
    """Pairs of an episode, or of several, by kind and score.

    Attributes:
        counts: int64 [2, BINS], of different classes and of the same.
    """

    counts: Tensor

    @classmethod
    def of(cls, scores: Tensor, same: Tensor) -> Pairs:
        """Pairs with scores [...], of which some, bool [...], are of the same class.

        One whose score is not finite is wrong at any threshold.
        """
        lowest, highest = (scores.new_full((), value) for value in (-math.inf, math.inf))
        wrong = torch.where(same, lowest, highest)
        places = bin_of(torch.where(scores.isfinite(), scores, wrong))
        kinds = (places[~same], places[same])
        return cls(torch.stack([torch.bincount(kind, minlength=BINS) for kind in kinds]))

    @property
    def different(self) -> int:
        """Pairs of different classes."""
        return int(self.counts[0].sum())

    @property
    def same(self) -> int:
        """Pairs of the same class."""
        return int(self.counts[1].sum())

    def told_same(self) -> NDArray[np.int64]:
        """How many of either kind are told to be of the same class with the threshold at each
        place and above all, [2, BINS + 1]."""
        above = self.counts.flip(1).cumsum(1).flip(1)
        found: NDArray[np.int64] = torch.cat([above, above.new_zeros(2, 1)], 1).numpy()
        return found

    def accuracy(self, threshold: int) -> float:
        """Of as many pairs of either kind, where a score at this place or above means the same."""
        wrong, right = self.told_same()[:, threshold].tolist()
        return float(right / self.same + (self.different - wrong) / self.different) / 2

    def best_threshold(self) -> int:
        """The place with the largest accuracy; of several the one in the middle."""
        wrong, right = self.told_same()[:, :BINS]
        # Whole numbers, so that equal ones are equal.
        worth = right * self.different - wrong * self.same
        best = np.flatnonzero(worth == worth.max())
        return int(best[len(best) // 2])

    def area(self) -> float:
        """Below the ROC curve: how often a same pair has a higher score than a different one."""
        different, same = self.counts.numpy()
        above = self.told_same()[1, 1:]
        return int((different * (2 * above + same)).sum()) / (2 * self.same * self.different)

    def curve(self) -> dict[str, list[float]]:
        """The ROC curve from (0, 0) to (1, 1): a point after so much of its way, a share each."""
        wrong, right = self.told_same()[:, ::-1] / [[self.different], [self.same]]
        way = (wrong + right) * (POINTS / 2)
        rows = np.searchsorted(way, np.arange(POINTS + 1) - 1e-9)
        # Where many have one score, as of a learner that knows nothing, points fall together.
        rows = np.unique(np.minimum(np.concatenate([[0], rows, [BINS]]), BINS))
        return {
            "false_positive_rate": [round(float(v), 6) for v in wrong[rows]],
            "true_positive_rate": [round(float(v), 6) for v in right[rows]],
        }

    def facts(self, threshold: int, part: str) -> dict[str, Any]:
        """What is written of them beside the figures.

        Args:
            threshold: its place.
            part: whose pairs have chosen it.
        """
        return {
            "threshold": finite(score_of(threshold)),
            "threshold_of": part,
            "same_pairs": self.same,
            "different_pairs": self.different,
            **self.curve(),
        }
