"""Values with a predicted scale: the log-likelihood of a Laplace distribution.

    -log p(y) = |y - mean| / b + log(2 b),   b = scale / sqrt(2)

so that ``scale`` is the standard deviation, as it is for every objective. Its tails are heavier
than a normal distribution's: single values far off cost less. ``coverage_95`` is the fraction of
all values in the central 95 % of what was predicted, |y - mean| <= b log 20.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from metadist.discovery import Options as Base
from metadist.objectives import NLL, Metric, Objective
from metadist.tasks import Examples, Prediction, TaskShape

PART = "objective"
TARGETS = ("values",)
MAE = Metric("mae", "mean absolute error", higher_is_better=False)


class Options(Base):
    """None."""


class Laplace(Objective):
    """Mean and scale [n, E] against values [n, E]."""

    name = "laplace"
    metrics = (NLL, MAE)
    train_metrics = ("mae",)
    count_shapes: ClassVar = {"covered": (), "values": ()}

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean negative log-likelihood, in nats, over examples and dimensions."""
        b = self.scale_of(prediction) / math.sqrt(2)
        return ((target.y - prediction.mean).abs() / b + (2 * b).log()).mean()

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """The loss, and the distance of the mean."""
        error = (target.y - prediction.mean).abs().mean()
        return {"nll": self.loss(prediction, target), "mae": error}

    def counts(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """``values``, and how many of them are ``covered``."""
        b = self.scale_of(prediction) / math.sqrt(2)
        covered = (target.y - prediction.mean).abs() <= b * math.log(20)
        return {"covered": covered.sum(), "values": torch.tensor(covered.numel())}

    def pooled(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """``coverage_95``."""
        values = int(sums["values"])
        return {"coverage_95": int(sums["covered"]) / values if values else math.nan}


def build(options: Options, shape: TaskShape) -> Laplace:
    """The objective."""
    return Laplace()
