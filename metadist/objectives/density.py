"""Values with a predicted scale: the log-likelihood of a normal distribution.

    -log p(y) = (y - mean)^2 / (2 scale^2) + log scale + log(2 pi) / 2

as conditional neural processes are trained (Garnelo et al., "Conditional Neural Processes", ICML
2018, section 3). ``coverage_95`` is the fraction of all values that lie in the central 95 % of what
was predicted: .95 where the scale is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.objectives import MSE, NLL, Objective
from metadist.tasks import Examples, Prediction, TaskShape

TARGETS = ("values",)

#: Standard deviations on either side of the mean between which 95 % of a normal distribution lie.
CENTRAL_95 = 1.959963984540054


class Options(OptionsBase):
    """None."""


class Density(Objective):
    """Mean and scale [n, E] against values [n, E]."""

    name = "density"
    metrics = (NLL, MSE)
    train_metrics = ("mse",)
    count_shapes: ClassVar = {"covered": (), "values": ()}

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean negative log-likelihood, in nats, over examples and dimensions."""
        scale = self.scale_of(prediction)
        z = (target.y - prediction.mean) / scale
        return self.mean(z * z / 2 + scale.log(), target) + math.log(2 * math.pi) / 2

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """The loss, and the squared error of the mean."""
        error = self.mean((prediction.mean - target.y).square(), target)
        return {"nll": self.loss(prediction, target), "mse": error}

    def counts(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """``values``, and how many of them are ``covered``."""
        far = (target.y - prediction.mean).abs() / self.scale_of(prediction)
        counted = torch.ones_like(far, dtype=torch.bool)
        if target.mask is not None:
            counted = counted & target.mask[:, None]
        return {"covered": ((far <= CENTRAL_95) & counted).sum(), "values": counted.sum()}

    def pooled(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """``coverage_95``."""
        values = int(sums["values"])
        return {"coverage_95": int(sums["covered"]) / values if values else math.nan}


def build(options: Options, shape: TaskShape) -> Density:
    return Density()
