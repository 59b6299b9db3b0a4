"""Prototypical networks: a query belongs to the class whose mean is nearest in a learned space.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equations 1
and 2. The mean f(x) of a class's support examples is its prototype c_k, and

    p(y = k | x) = softmax_k(-|f(x) - c_k|^2)

Nothing is adapted by steps and nothing that is learned depends on the number of ways: trained with
many, it is tested with few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Statistics
from metadist.context import Context
from metadist.discovery import Options as Base
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.inner.similarity import class_means
from metadist.keys import Key
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task

PART = "algorithm"
TARGETS = ("labels",)


class Options(Base):
    """None."""


@dataclass(frozen=True)
class Fitted:
    """What predicts: the network, the support set for its normalisation, prototypes [N, D]."""

    params: Params
    support: Examples
    prototypes: Tensor
    statistics: Statistics


@dataclass(frozen=True)
class Prototypes(Normalised):
    """The learner; its parameters are the encoder's."""

    objective: Objective
    encoder: Encoder
    ways: int

    @property
    def normalisation(self) -> Normalisation:
        """All passes are after 0 steps: one row of running statistics."""
        return Normalisation(self.encoder, per_step=False)

    def init(self, key: Key) -> Params:
        """The encoder's parameters."""
        return self.encoder.init(key)

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Fitted]:
        """One element: there are no steps."""
        support = task.support
        passed = self.encoder.forward(params, support.x, self.normalisation.support(ctx))
        prototypes = class_means(passed.features, support.y, self.ways)
        return [Fitted(params, support, prototypes, passed.statistics)]

    def recorded(self, fitted: Fitted) -> Sequence[Statistics]:
        """Of the pass over the support set; ``running`` normalisation averages them."""
        return [fitted.statistics]

    def predict(self, fitted: Fitted, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N]: minus the squared distance to each prototype."""
        norm = self.normalisation.query(fitted.params, fitted.support, ctx)
        features = self.encoder.forward(fitted.params, query.x, norm).features
        between = features[:, None] - fitted.prototypes
        return Prediction(-between.square().sum(-1))


def build(parts: Parts[Options]) -> Prototypes:
    """The learner."""
    return Prototypes(parts.objective, parts.encoder, parts.shape.ways)
