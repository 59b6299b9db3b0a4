"""Values: mean squared error."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.objectives import MSE, Objective
from metadist.tasks import Examples, Prediction, TaskShape

TARGETS = ("values",)


class Options(OptionsBase):
    """None."""


class Regression(Objective):
    """Values [n, E] against values [n, E]."""

    name = "regression"
    metrics = (MSE,)
    fused = "squared_error"

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean squared error over examples and dimensions."""
        if target.mask is None:
            return F.mse_loss(prediction.mean, target.y)
        return self.mean((prediction.mean - target.y).square(), target)

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """The loss."""
        return {"mse": self.loss(prediction, target)}


def build(options: Options, shape: TaskShape) -> Regression:
    return Regression()
