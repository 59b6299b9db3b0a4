"""One of N classes by a score for each: squared error against 1 for the right one, 0 for others.

    loss = mean over queries and classes of (sigmoid(z_k) - 1[y = k])^2

of logits z: what relation networks are trained for (Sung et al., "Learning to Compare: Relation
Network for Few-Shot Learning", CVPR 2018, equation 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.objectives import ACCURACY, Objective
from metadist.tasks import Examples, Prediction, TaskShape

TARGETS = ("labels",)


class Options(OptionsBase):
    """None."""


class OneHotMSE(Objective):
    """Logits [n, N] of independent scores against labels int64 [n]."""

    name = "one_hot_mse"
    metrics = (ACCURACY,)
    train_metrics = ("accuracy",)
    averages = ("logits",)

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean squared error over queries and classes."""
        scores = prediction.mean.sigmoid()
        ways = torch.arange(scores.shape[-1], device=scores.device)
        wanted = (target.y[:, None] == ways).to(scores.dtype)
        return self.mean((scores - wanted).square(), target)

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Fraction of queries whose largest score is the right class's; ties go to the lowest."""
        right = prediction.mean.argmax(-1) == target.y
        return {"accuracy": self.mean(right.to(prediction.mean.dtype), target)}


def build(options: Options, shape: TaskShape) -> OneHotMSE:
    return OneHotMSE()
