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

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics, normalise
from metadist.discovery import Options as OptionsBase
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.normalisation import Normalisation
from metadist.inner.similarity import members
from metadist.keys import Key
from metadist.tasks import Params

TARGETS = ("labels",)
BLOCKS = 2
#: What the names of its parameters and layers begin with.
PREFIX = "relation."


class Options(OptionsBase):
    channels: Annotated[int, Field(ge=1)] = 64
    """of the convolutions that compare"""
    hidden: Annotated[int, Field(ge=1)] = 8
    """units of the last layer but one of what compares"""


@dataclass(frozen=True)
class RelationModule:
    """How well a query goes with a class (section 3.3 of the paper).

    What was embedded of both stands side by side and passes two blocks of 3x3 convolution,
    normalisation, ReLU and 2x2 max-pooling, a linear layer with ReLU and one with a single output.
    Features that are no maps pass a linear layer with ReLU in the place of the blocks. A map of one
    row or column is not halved.

    Attributes:
        shape: (C, H, W) of what was embedded, or (D,).
        channels: of each block, or units of the linear layer in their place.
        hidden: units of the last but one layer.
    """

    shape: tuple[int, ...]
    channels: int
    hidden: int

    @property
    def blocks(self) -> range:
        """Numbers of the blocks, 1 and 2; of features that are no maps there are none."""
        return range(1, BLOCKS + 1 if len(self.shape) == 3 else 1)

    @property
    def norm_layers(self) -> dict[str, int]:
        """Channels of each normalisation layer."""
        return {f"{PREFIX}norm{block}": self.channels for block in self.blocks}

    def _sides(self) -> Iterator[tuple[int, int]]:
        """Height and width after each block."""
        _, height, width = self.shape
        for _ in self.blocks:
            halved = 2 if min(height, width) > 1 else 1
            height, width = height // halved, width // halved
            yield height, width

    def init(self, key: Key) -> Params:
        """Weights uniform in +-1/sqrt(inputs), zero biases and shifts, unit scales."""
        params: Params = {}

        def weight(name: str, *shape: int) -> None:
            name = f"{PREFIX}{name}.weight"
            bound = 1.0 / math.sqrt(math.prod(shape[1:]))
            params[name] = (2 * key.fold(name).uniform(shape) - 1) * math.sqrt(3.0) * bound

        inputs, features = 2 * self.shape[0], self.channels
        if self.blocks:
            for block in self.blocks:
                weight(f"conv{block}", self.channels, inputs, 3, 3)
                params[f"{PREFIX}norm{block}.scale"] = torch.ones(self.channels)
                params[f"{PREFIX}norm{block}.shift"] = torch.zeros(self.channels)
                inputs = self.channels
            features = self.channels * math.prod([*self._sides()][-1])
        else:
            weight("pair", self.channels, inputs)
            params[f"{PREFIX}pair.bias"] = torch.zeros(self.channels)
        for name, units, below in (("hidden", self.hidden, features), ("score", 1, self.hidden)):
            weight(name, units, below)
            params[f"{PREFIX}{name}.bias"] = torch.zeros(units)
        return params

    def scores(
        self, params: Params, classes: Tensor, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Of each pair, [Q, N], for classes [N, *shape] and queries [Q, *shape].

        Args:
            norm: of passes over all pairs at once.

        Returns:
            Scores before the logistic function, and statistics where ``norm.record`` is set.
        """
        statistics: Statistics = {}
        pairs = self._paired(params, classes, queries)
        if not self.blocks:
            pairs = F.relu(pairs)
        for block in self.blocks:
            name = f"{PREFIX}norm{block}"
            if block > 1:
                pairs = F.conv2d(pairs, params[f"{PREFIX}conv{block}.weight"], padding=1)
            scale, shift = params[f"{name}.scale"], params[f"{name}.shift"]
            pairs = F.relu(normalise(pairs, name, scale, shift, norm, statistics))
            if min(pairs.shape[2:]) > 1:
                pairs = F.max_pool2d(pairs, 2)
        hidden = F.relu(self._linear(params, "hidden", pairs.flatten(1)))
        scores = self._linear(params, "score", hidden)
        return scores.reshape(len(queries), len(classes)), statistics

    def _linear(self, params: Params, name: str, x: Tensor) -> Tensor:
        return F.linear(x, params[f"{PREFIX}{name}.weight"], params[f"{PREFIX}{name}.bias"])

    def _paired(self, params: Params, classes: Tensor, queries: Tensor) -> Tensor:
        """Outputs [Q N, ...] of the first layer, before normalisation and non-linearity.

        Computed of classes and queries apart and added: N + Q passes in the place of N Q.
        """
        name = "conv1" if self.blocks else "pair"
        of_class, of_query = params[f"{PREFIX}{name}.weight"].chunk(2, 1)
        if self.blocks:
            first = F.conv2d(classes, of_class, padding=1)
            second = F.conv2d(queries, of_query, padding=1)
        else:
            first = F.linear(classes, of_class, params[f"{PREFIX}pair.bias"])
            second = F.linear(queries, of_query)
        return (second[:, None] + first).flatten(0, 1)


@dataclass(frozen=True)
class Layered(Encoder):
    """The encoder, with the normalisation layers of what compares, for running statistics."""

    module: RelationModule

    @property
    def norm_layers(self) -> dict[str, int]:
        return {**self.network.norm_layers, **self.module.norm_layers}


@dataclass(frozen=True)
class Relation(EmbeddingLearner):
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
        classes, maps = (part.reshape(len(part), *shape) for part in (known, queries))
        return self.module.scores(params, classes, maps, norm)

    def paired(self, fitted: Embedded, queries: Tensor) -> Tensor:
        """Each support example as a class of its own."""
        return self.compared(fitted.params, fitted.features, queries, fitted.norm)[0]

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
