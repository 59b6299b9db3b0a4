"""One of N classes: cross-entropy of logits; what is right, and whether confidence is justified.

Of each episode the accuracy and the negative log-likelihood, which is the loss; of all queries of
all episodes together the expected calibration error (Guo, Pleiss, Sun & Weinberger, "On Calibration
of Modern Neural Networks", ICML 2017, equation 3): queries are sorted by their confidence, the
probability of the class that is predicted, into 15 bins of equal width, and

    ece = sum over bins of (n_b / n) |accuracy_b - confidence_b|
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.objectives import ACCURACY, NLL, Objective
from metadist.tasks import Examples, Prediction, TaskShape

TARGETS = ("labels",)

BINS = 15
#: Confidences are summed as whole numbers of this fraction, so that their sum has no order.
FINE = 2**-30


class Options(OptionsBase):
    """None."""


class Classification(Objective):
    """Logits [n, N] against labels int64 [n]."""

    name = "classification"
    metrics = (ACCURACY, NLL)
    train_metrics = ("accuracy",)
    count_shapes: ClassVar = {"confidence": (BINS,), "predicted": (BINS,), "right": (BINS,)}
    fused = "cross_entropy"
    averages = ("probabilities", "logits")

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean cross-entropy."""
        if target.mask is None:
            return F.cross_entropy(prediction.mean, target.y)
        return self.mean(F.cross_entropy(prediction.mean, target.y, reduction="none"), target)

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Fraction of rows whose largest logit is the label (ties go to the lowest index); loss."""
        right = prediction.mean.argmax(-1) == target.y
        accuracy = self.mean(right.to(prediction.mean.dtype), target)
        return {"accuracy": accuracy, "nll": self.loss(prediction, target)}

    def counts(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Of each bin the queries ``predicted`` with such confidence, those ``right``, and the sum
        of their ``confidence``."""
        confidence, label = prediction.mean.double().softmax(-1).max(-1)
        bins = (confidence * BINS).long().clamp(max=BINS - 1)
        members = F.one_hot(bins, BINS)
        if target.mask is not None:
            members = members * target.mask[:, None]
        fine = (confidence / FINE).round().long()
        return {
            "confidence": (members * fine[:, None]).sum(0),
            "predicted": members.sum(0),
            "right": (members * (label == target.y)[:, None]).sum(0),
        }

    def pooled(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """``calibration_error``."""
        predicted = int(sums["predicted"].sum())
        apart = (sums["right"] - FINE * sums["confidence"].double()).abs().sum()
        return {"calibration_error": float(apart) / predicted if predicted else math.nan}

    def average(self, predictions: Sequence[Prediction], how: str) -> Prediction:
        """Mean of the members' logits, or the logarithms of their mean probabilities.

        Cross-entropy of the latter is the negative log-likelihood of the mean probability.
        """
        if how == "logits":
            return super().average(predictions, how)
        stacked = torch.stack([p.mean.double() for p in predictions])
        return Prediction(stacked.log_softmax(-1).logsumexp(0) - math.log(len(predictions)))


def build(options: Options, shape: TaskShape) -> Classification:
    return Classification()
