"""One of N classes: the Brier score of predicted probabilities.

Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 1950:
the squared distance of the probabilities from the one-hot label, from 0 to 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metadist.discovery import Options as Base
from metadist.objectives import ACCURACY, Metric, Objective
from metadist.tasks import Examples, Prediction, TaskShape

PART = "objective"
TARGETS = ("labels",)


class Options(Base):
    """None."""


class Brier(Objective):
    """Logits [n, N] against labels int64 [n]."""

    name = "brier"
    metrics = (Metric("brier", "Brier score", higher_is_better=False), ACCURACY)
    train_metrics = ("accuracy",)
    averages = ("probabilities", "logits")

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean over examples."""
        classes = torch.arange(prediction.mean.shape[-1], device=target.y.device)
        away = prediction.mean.softmax(-1) - 1.0 * (target.y[:, None] == classes)
        return away.square().sum(-1).mean()

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """The loss, and the fraction that is right."""
        right = (prediction.mean.argmax(-1) == target.y).to(prediction.mean.dtype)
        return {"brier": self.loss(prediction, target), "accuracy": right.mean()}

    def average(self, predictions: Sequence[Prediction], how: str) -> Prediction:
        """Of an ensemble: the mean logits, or the logarithm of the mean probabilities."""
        if how == "logits":
            return super().average(predictions, how)
        chances = torch.stack([p.mean.double().softmax(-1) for p in predictions])
        return Prediction(chances.mean(0).log())


def build(options: Options, shape: TaskShape) -> Brier:
    """The objective."""
    return Brier()
