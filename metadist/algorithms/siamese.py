"""Siamese networks: one network sees both examples of a pair; are they of the same class?

Koch, Zemel & Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", ICML Deep
Learning Workshop 2015, section 3. Twins with the same parameters make features of both examples,
what is compared is how far apart these are, component by component,

    p(x, x') = sigmoid(z);    z = b + sum_j a_j |h_j(x) - h_j(x')|;    h = sigmoid(W f(x) + c)

(f is the network without its head), and it is trained for the cross-entropy of p against whether
the two are of the same class (section 3.2; the paper prints the likelihood's sign). p(x, x') is
p(x', x), and where no a is above 0 nothing is more like x than x itself.

Pairs are made from an episode: each query with each support example. Of N ways one in N is of the
same class; with ``pairs = "balanced"`` both kinds weigh the same in the loss, as among the pairs of
the paper. Nothing else is asked of the episodes.

In a new task a query is compared with each support example (section 4.3), and a class has the log
odds of the mean p over its shots, or of the largest.

With ``distortions = "affine"`` each image of a training task is distorted on its own (section 3.2;
the paper distorts its pairs once, to nine times as many).

Not as published: one rate and one penalty for all layers (the paper searched one for each, and for
the momentum of each); the network is the recipe's, whose widths are smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.blocks.linear import Linear
from metadist.inner.embedding.distortions import distorted, drawn
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.similarity import members, nearest_logits
from metadist.keys import Key
from metadist.learner import Captions, LearnedQuantities, Loss
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)
#: What the names of its parameters begin with.
PREFIX = "siamese"
WEIGHT, BIAS = f"{PREFIX}.pair.weight", f"{PREFIX}.pair.bias"
#: Of the random numbers of a task.
DRAW = "distortion"


class Options(OptionsBase):
    embedding: Annotated[int, Field(ge=1)] = 128
    """sigmoid features that are compared (published: 4096)"""
    pairs: Literal["balanced", "all"] = "balanced"
    """pairs of the same and of different classes weigh the same in the loss, or every pair does"""
    shots: Literal["mean", "largest"] = "mean"
    """of a class in a new task: the mean over its shots of the probability of being of the same
    class, or the largest"""
    penalty: Annotated[float, Field(ge=0)] = 0.0
    """factor of the sum of squares of all weights, in the loss (published: one for each layer, at
    most 0.1)"""
    distortions: Literal["none", "affine"] = "none"
    """of training images, each on its own: rotation, shear, scale and translation as published;
    images only"""


#: What queries are compared with: features [S, D], and labels int64 [S].
Support = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Siamese(EmbeddingLearner):
    """What queries are compared with are the embedded support examples, see :data:`Support`."""

    options: Options
    embedding: Linear

    def init(self, key: Key) -> Params:
        """The encoder's parameters, those of the layer above it, and of the comparison."""
        size = self.embedding.outputs
        weight = (2 * key.fold(WEIGHT).uniform((size,)) - 1) / math.sqrt(size)
        own = {**self.embedding.init(key), WEIGHT: weight, BIAS: torch.zeros(())}
        return {**self.encoder.init(key), **own}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """What decides the distortions of a training task, where there are any."""
        if self.options.distortions == "none" or ctx.phase != "train":
            return {}
        return {DRAW: drawn(key.fold(DRAW))}

    def embedded_features(self, params: Params, features: Tensor) -> Tensor:
        """h [n, D] of the encoder's features [n, F]."""
        return self.embedding(params, features).sigmoid()

    def log_odds(self, params: Params, first: Tensor, second: Tensor) -> Tensor:
        """z [n, m] of pairs of embedded examples [n, D] and [m, D]: the same bits either way."""
        apart = (first[:, None] - second).abs()
        return (apart * params[WEIGHT]).sum(2) + params[BIAS]

    def of_classes(self, log_odds: Tensor, labels: Tensor) -> Tensor:
        """Log odds [Q, N] of each class, of those of pairs [Q, S] with labels int64 [S]."""
        if self.options.shots == "largest":
            return nearest_logits(log_odds, labels, self.ways)
        others = ~members(labels, self.ways)
        # Of the means of p and of 1 - p; the number of shots falls out.
        same, different = (
            (-softplus(z))[:, None].masked_fill(others, float("-inf")).logsumexp(2)
            for z in (-log_odds, log_odds)
        )
        return same - different

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Support:
        return self.embedded_features(params, features), labels

    def compared(
        self, params: Params, known: Support, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Log odds of each class."""
        support, labels = known
        pairs = self.log_odds(params, self.embedded_features(params, queries), support)
        return self.of_classes(pairs, labels), {}

    def paired(self, fitted: Embedded, queries: Tensor) -> Tensor:
        """Log odds."""
        support, _ = fitted.known
        own = self.embedded_features(fitted.params, queries)
        return self.log_odds(fitted.params, own, support)

    def pair_loss(self, log_odds: Tensor, labels: Tensor, query: Examples) -> Tensor:
        """Cross-entropy of log odds [Q, S] against whether the pairs are of the same class."""
        same = query.y[:, None] == labels
        losses = softplus(torch.where(same, -log_odds, log_odds))
        kept = torch.ones_like(same) if query.mask is None else query.mask[:, None].expand_as(same)
        if self.options.pairs == "all":
            return (losses * kept).sum() / kept.sum().clamp_min(1)
        # A kind of pairs that is not there has no part.
        parts = [
            (losses * kind).sum() / kind.sum().clamp_min(1) for kind in (kept & same, kept & ~same)
        ]
        return (parts[0] + parts[1]) / 2

    def penalty(self, params: Params) -> Tensor:
        """Of the weights; biases, scales and shifts have none."""
        weights = [p for n, p in params.items() if p.dim() > 1 or n == WEIGHT]
        return self.options.penalty * torch.stack([w.square().sum() for w in weights]).sum()

    def distorted(self, task: Task, ctx: Context) -> tuple[Examples, Examples]:
        """Support set and queries as they are learned from."""
        support, query = task.support, task.query
        if DRAW not in ctx.noise:
            return support, query
        draw = ctx.noise[DRAW]
        return (
            support.with_x(distorted(support.x, draw)),
            query.with_x(distorted(query.x, draw, len(support))),
        )

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """In training that of the pairs, and the penalty; of a new task that of its queries."""
        if ctx.phase != "train":
            return super().loss(params, task, ctx)
        support, query = self.distorted(task, ctx)
        if ctx.norm in ("transductive", "support"):
            fitted = self.embedded(params, support, ctx)
            statistics, own = fitted.statistics, fitted.known[0]
            features, _ = self.features(params, query.x, fitted.norm, ctx)
        else:
            norm, size = self.normalisation.support(ctx), len(support)
            both = torch.cat([support.x, query.x])
            passed, statistics = self.features(params, both, norm, ctx)
            own = self.embedded_features(params, passed[:size])
            features = passed[size:]
        pairs = self.log_odds(params, self.embedded_features(params, features), own)
        loss = self.pair_loss(pairs, support.y, query)
        if self.options.penalty:
            loss = loss + self.penalty(params)
        prediction = Prediction(self.of_classes(pairs, support.y))
        metrics = self.objective.reported(loss, prediction, query)
        return Loss(loss, metrics, self.normalisation.sums([statistics]))

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """The weights of the comparison; none above 0: nothing is more like x than x itself."""
        weight = params[WEIGHT]
        ends = {"min": weight.min(), "mean": weight.mean(), "max": weight.max()}
        return {f"pair_weight_{end}": {"a": [float(value)]} for end, value in ends.items()}

    @property
    def captions(self) -> Captions:
        told = (
            "Of the distances between the features of two examples. Below 0 a distance tells that "
            "they are of different classes; above 0, that they are of the same."
        )
        return {"pair_weight": ("Weights of the comparison", told)}


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), the cross-entropy of log odds -x against 1."""
    return torch.logaddexp(x, torch.zeros_like(x))


def build(parts: Parts[Options]) -> Siamese:
    options, inputs = parts.options, parts.shape.inputs
    if options.distortions != "none" and len(inputs) != 3:
        raise RecipeError(
            f"algorithm.distortions: {options.distortions!r} distorts images [C, H, W], the "
            f"examples here are of shape {list(inputs)}; leave it out"
        )
    encoder = parts.encoder
    features = math.prod(feature_shape(encoder, inputs))
    return Siamese(
        objective=parts.objective,
        encoder=encoder,
        ways=parts.shape.ways,
        options=options,
        embedding=Linear(f"{PREFIX}.embedding", features, options.embedding),
    )
