"""One of N classes: cross-entropy of logits, and the fraction that is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.objectives import ACCURACY, Objective
from metadist.tasks import Examples, Prediction, TaskShape

TARGETS = ("labels",)


class Options(OptionsBase):
    """None."""


class Classification(Objective):
    """Logits [n, N] against labels int64 [n]."""

    name = "classification"
    metrics = (ACCURACY,)
    train_metrics = ("accuracy",)
    fused = "cross_entropy"
    averages = ("probabilities", "logits")

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean cross-entropy."""
        if target.mask is None:
            return F.cross_entropy(prediction.mean, target.y)
        return self.mean(F.cross_entropy(prediction.mean, target.y, reduction="none"), target)

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Fraction of rows whose largest logit is the label; ties go to the lowest index."""
        right = prediction.mean.argmax(-1) == target.y
        return {"accuracy": self.mean(right.to(prediction.mean.dtype), target)}

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
