"""Values with a predicted scale: the log-likelihood of Student's t distribution.

    -log p(y) = (v + 1) / 2 * log(1 + (y - mean)^2 / (v s^2)) + log s + c(v)
    c(v) = log gamma(v / 2) - log gamma((v + 1) / 2) + log(v pi) / 2
    s = scale * sqrt((v - 2) / v)

with v > 2 degrees of freedom, so that ``scale`` is the standard deviation, as it is for every
objective.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from metadist.discovery import Options as Base
from metadist.objectives import Metric, Objective
from metadist.tasks import Examples, Prediction, TaskShape

PART = "objective"
TARGETS = ("values",)
SURPRISE = Metric("surprise", "surprise in nats", higher_is_better=False)


class Options(Base):
    """``degrees`` of freedom: the fewer, the heavier the tails."""

    degrees: Annotated[float, Field(gt=2)] = 5.0


@dataclass(frozen=True)
class StudentT(Objective):
    """Mean and scale [n, E] against values [n, E]; its one metric is its own."""

    degrees: float

    name = "student_t"
    metrics = (SURPRISE,)

    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """Mean negative log-likelihood, in nats, over examples and dimensions."""
        v = self.degrees
        s = self.scale_of(prediction) * math.sqrt((v - 2) / v)
        z = (target.y - prediction.mean) / s
        constant = math.lgamma(v / 2) - math.lgamma((v + 1) / 2) + math.log(v * math.pi) / 2
        return ((v + 1) / 2 * (z * z / v).log1p() + s.log()).mean() + constant

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """The loss."""
        return {"surprise": self.loss(prediction, target)}


def build(options: Options, shape: TaskShape) -> StudentT:
    """The objective."""
    return StudentT(options.degrees)
