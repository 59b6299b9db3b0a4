"""Relation networks: what is near is learned, too.

Sung, Yang, Zhang, Xiang, Torr & Hospedales, "Learning to Compare: Relation Network for Few-Shot
Learning", CVPR 2018, equations 1 and 2. An encoder f makes maps of features, a second network g
says how well a query goes with a class,

    r_k = sigmoid(z_k);    z_k = g(sum over class k of f(x_i), f(x))

where several shots of a class are added (section 3.2). As published it is trained for the squared
error of r_k against 1 for the right class and 0 for the others, ``objective.name = "one_hot_mse"``;
with the objective of other learners z are the logits of a softmax.

The network is to have maps as features (``model.head = "flatten"``), and large ones: as published
two of its four blocks halve them (``model.halvings = 2``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.discovery import Options as OptionsBase
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.embedding.metric_learner import MetricLearner
from metadist.inner.embedding.relation_module import RelationModule
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.normalisation import Normalisation
from metadist.inner.similarity import members
from metadist.keys import Key
from metadist.tasks import Params

TARGETS = ("labels",)


class Options(OptionsBase):
    channels: Annotated[int, Field(ge=1)] = 64
    """of the convolutions that compare"""
    hidden: Annotated[int, Field(ge=1)] = 8
    """units of the last layer but one of what compares"""


@dataclass(frozen=True)
class Layered(Encoder):
    """The encoder, with the normalisation layers of what compares, for running statistics."""

    module: RelationModule

    @property
    def norm_layers(self) -> dict[str, int]:
        return {**self.network.norm_layers, **self.module.norm_layers}


@dataclass(frozen=True)
class Relation(MetricLearner):
    """What queries are compared with are the sums [N, D] of each class's features."""

    module: RelationModule

    @property
    def normalisation(self) -> Normalisation:
        """Layers of both networks."""
        return Normalisation(Layered(self.encoder.network, self.module), per_step=False)

    def init(self, key: Key) -> Params:
        """Those of both networks."""
        return {**self.encoder.init(key), **self.module.init(key)}

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        return members(labels, self.ways).to(features.dtype) @ features

    def compared(
        self, params: Params, known: Tensor, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Scores z before the logistic function."""
        shape = self.module.shape
        both = (part.reshape(len(part), *shape) for part in (known, queries))
        return self.module.scores(params, *both, norm)

    def own_statistics(self, params: Params, known: Tensor, features: Tensor) -> Statistics:
        """Of the pairs of classes and support examples."""
        return self.compared(params, known, features, Norm("batch", record=True))[1]


def build(parts: Parts[Options]) -> Relation:
    encoder, options = parts.encoder, parts.options
    return Relation(
        objective=parts.objective,
        encoder=encoder,
        ways=parts.shape.ways,
        module=RelationModule(
            feature_shape(encoder, parts.shape.inputs), options.channels, options.hidden
        ),
    )
