"""Nearest neighbour on raw pixels: the floor that any learned representation has to beat.

The pixel baseline of Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016,
section 4.1 (cosine similarity).

It learns nothing at all: there are no parameters and no outer steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from metadist.algorithms import Parts
from metadist.context import Context
from metadist.inner.similarity import NearestOptions, Neighbours, sequence_logits
from metadist.keys import Key
from metadist.learner import Estimator, Learner
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)

Options = NearestOptions


@dataclass(frozen=True)
class NearestPixels(Learner):
    """The support images as a classifier."""

    objective: Objective
    options: NearestOptions
    ways: int

    @property
    def estimator(self) -> Estimator:
        return "none"

    @property
    def derivative_order(self) -> int:
        return 0

    @property
    def normalises(self) -> bool:
        return False

    def init(self, key: Key) -> Params:
        return {}

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Neighbours]:
        """The support set as it is."""
        support = task.support
        return [Neighbours(self.options, support.x.flatten(1), support.y, self.ways)]

    def predict(self, fitted: Neighbours, query: Examples, ctx: Context) -> Prediction:
        """Similarities [n, N] of n images to each class."""
        return Prediction(fitted.logits(query.x.flatten(1)))

    def sequence_predictions(self, params: Params, examples: Examples, ctx: Context) -> Prediction:
        """See :class:`metadist.inner.blocks.sequence.PredictsSequences`."""
        flat = examples.x.flatten(1)
        return Prediction(sequence_logits(self.options, flat, examples.y, self.ways))


def build(parts: Parts[Options]) -> NearestPixels:
    return NearestPixels(parts.objective, parts.options, parts.shape.ways)
