"""Nearest neighbour on raw pixels: the floor that any learned representation has to beat.

The pixel baseline of Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016,
section 4.1 (cosine similarity).

It learns nothing at all: there are no parameters and no outer steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metadist.algorithms import Parts
from metadist.inner.similarity import NearestOptions, Neighbours
from metadist.keys import Key
from metadist.learner import Estimator, Learner, Loss
from metadist.objectives import loss_and_metrics
from metadist.tasks import Context, Params, Task

KINDS = ("classification",)

Options = NearestOptions


@dataclass(frozen=True)
class NearestPixels(Learner):
    """The support images as a classifier."""

    options: NearestOptions
    ways: int

    @property
    def estimator(self) -> Estimator:
        return "none"

    @property
    def derivative_order(self) -> int:
        return 0

    def init(self, key: Key) -> Params:
        return {}

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> list[Neighbours]:
        """The support set as it is."""
        return [Neighbours(self.options, support_x.flatten(1), support_y, self.ways)]

    def predict(self, fitted: Neighbours, x: Tensor, ctx: Context) -> Tensor:
        """Similarities [n, N] of images x [n, C, H, W] to each class."""
        return fitted.logits(x.flatten(1))

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """Cross-entropy of the similarities, which depends on no parameter."""
        (fitted,) = self.adapt(params, task.support_x, task.support_y, ctx)
        outputs = self.predict(fitted, task.query_x, ctx)
        return Loss(*loss_and_metrics("classification", outputs, task.query_y), {})


def build(parts: Parts[Options]) -> NearestPixels:
    return NearestPixels(parts.options, parts.shape.outputs)
