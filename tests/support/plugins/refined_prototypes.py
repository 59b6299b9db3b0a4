"""Prototypical networks whose prototypes are refined by examples without labels: soft k-means.

Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018, sections 3.1.1
and 3.1.2. Prototypes p_c start as the means of the support examples h(x_i) of each class. Each
example without a label h(x~_j) belongs to each class in part,

    z_jc = softmax_c(-|h(x~_j) - p_c|^2)
    p_c  = (sum over class c of h(x_i) + sum_j z_jc h(x~_j)) / (number of them + sum_j z_jc)

With ``distractors`` there is one more cluster, at the origin and of a learned radius r, which draws
off what is of no class: z is then the softmax of -|h(x~_j) - p_c|^2 / r_c^2 - log r_c, with r_c = 1
for the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.discovery import Options as Base
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.inner.similarity import members
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task

PART = "algorithm"
TARGETS = ("labels",)
#: Its one parameter beside the encoder's.
LOG_RADIUS = "distractors.log_radius"


class Options(Base):
    """``refinements`` of the prototypes (in the paper one); ``distractors``: a cluster for them."""

    refinements: Annotated[int, Field(ge=1)] = 1
    distractors: bool = False


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[n, m] between rows of a [n, D] and of b [m, D]."""
    return (a[:, None] - b).square().sum(-1)


@dataclass(frozen=True)
class Fitted:
    """What predicts: the network, the support set for its normalisation, prototypes [N, D]."""

    params: Params
    support: Examples
    prototypes: Tensor
    statistics: Statistics


@dataclass(frozen=True)
class RefinedPrototypes(Normalised):
    """The learner."""

    objective: Objective
    encoder: Encoder
    ways: int
    options: Options

    @property
    def needs(self) -> frozenset[str]:
        """Examples without labels, in training and later."""
        return frozenset({"unlabeled"})

    @property
    def normalisation(self) -> Normalisation:
        """All passes are after 0 steps: one row of running statistics."""
        return Normalisation(self.encoder, per_step=False)

    def init(self, key: Key) -> Params:
        """The encoder's parameters, and the logarithm of a radius of 1."""
        own = {LOG_RADIUS: torch.zeros(1)} if self.options.distractors else {}
        return {**self.encoder.init(key), **own}

    def _features(self, params: Params, examples: Examples, norm: Norm) -> Tensor:
        return self.encoder.forward(params, examples.x, norm).features

    def _belongs(self, params: Params, features: Tensor, prototypes: Tensor) -> Tensor:
        """z [M, N] of features [M, D] without labels."""
        logits = -squared_distances(features, prototypes)
        if self.options.distractors:
            log_radius = params[LOG_RADIUS]
            far = features.square().sum(1, keepdim=True) * (-2 * log_radius).exp()
            logits = torch.cat([logits, -far - log_radius], 1)
        return logits.softmax(1)[:, : self.ways]

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Fitted]:
        """One element: there are no steps."""
        support = task.support
        passed = self.encoder.forward(params, support.x, self.normalisation.support(ctx))
        norm = self.normalisation.query(params, support, ctx)
        free = self._features(params, task.unlabeled, norm)
        of_class = members(support.y, self.ways).to(free.dtype)
        sums, counts = of_class @ passed.features, of_class.sum(1, keepdim=True)
        prototypes = sums / counts
        for _ in range(self.options.refinements):
            z = self._belongs(params, free, prototypes)
            prototypes = (sums + z.T @ free) / (counts + z.sum(0)[:, None])
        return [Fitted(params, support, prototypes, passed.statistics)]

    def recorded(self, fitted: Fitted) -> Sequence[Statistics]:
        """Of the pass over the support set."""
        return [fitted.statistics]

    def predict(self, fitted: Fitted, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N]: minus the squared distance to each prototype."""
        norm = self.normalisation.query(fitted.params, fitted.support, ctx)
        features = self._features(fitted.params, query, norm)
        return Prediction(-squared_distances(features, fitted.prototypes))

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """The radius of the cluster of distractors."""
        if not self.options.distractors:
            return {}
        return {"radius": {"distractors": params[LOG_RADIUS].exp().tolist()}}


def build(parts: Parts[Options]) -> RefinedPrototypes:
    """The learner."""
    return RefinedPrototypes(parts.objective, parts.encoder, parts.shape.ways, parts.options)
