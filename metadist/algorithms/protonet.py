"""Prototypical networks: a query belongs to the class whose mean is nearest in a learned space.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equations 1
and 2. The mean of a class's support features is its prototype, and queries are told apart by their
distance d to it:

    c_k = mean over class k of f(x_i);    p(y = k | x) = softmax_k(-d(f(x), c_k))

The squared Euclidean distance makes this a linear classifier of features, with weights 2 c_k and
biases -|c_k|^2 (section 2.4 there); with it the published figures were reached, trained with more
ways than tested with.

The encoder is learned; nothing is adapted to a task by gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.discovery import Options as OptionsBase
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.similarity import class_means, cosine, squared_distances
from metadist.learner import Explanation
from metadist.tasks import Params

TARGETS = ("labels",)


class Options(OptionsBase):
    metric: Literal["squared_euclidean", "cosine"] = "squared_euclidean"
    """what is near a prototype"""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """factor of distances or cosines before the softmax (published: 1)"""


@dataclass(frozen=True)
class ProtoNet(EmbeddingLearner):
    """What queries are compared with are the prototypes [N, D]."""

    options: Options

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        return class_means(features, labels, self.ways)

    def compared(
        self, params: Params, known: Tensor, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Minus the squared distance to each prototype, or the cosine; times the scale."""
        scale = self.options.scale
        if self.options.metric == "cosine":
            return scale * cosine(queries, known), {}
        return -scale * squared_distances(queries, known), {}

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        return Explanation(fitted.features, queries, prototypes=fitted.known)


def build(parts: Parts[Options]) -> ProtoNet:
    return ProtoNet(
        objective=parts.objective,
        encoder=parts.encoder,
        ways=parts.shape.ways,
        options=parts.options,
    )
