"""Matching networks: a query gets the labels of the support examples that it resembles.

Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra, "Matching Networks for One Shot Learning",
NeurIPS 2016, equations 1 and 2: the attention a of a query over the support set gives the labels,

    p(y = k | x, S) = sum over class k of a(x, x_i);    a = softmax_i(cos(f(x), g(x_i)))

Without context f = g = f', the encoder. Full context embeddings (section 2.1.2 and appendix A) see
the whole support set S, in the order in which it comes, which in an episode is a random one:

    g(x_i) = h_i(forwards) + h_i(backwards) + f'(x_i)      an LSTM over S in each direction
    f(x) = h_K:  h_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1}) + f'(x)
                 r_{k-1} = sum_i softmax_i(h_{k-1} . g(x_i)) g(x_i)

with h_0 = c_0 = 0. ``scores = "mean"`` is the form of the baseline of Ravi & Larochelle,
"Optimization as a Model for Few-Shot Learning", ICLR 2017: the mean cosine with a class, without a
softmax over the support set.

With ``fine_tune`` all parameters take gradient steps on the support set of a new task, each of its
examples a query that is compared with all of them (the "fine tune" rows of the paper's tables).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.embedding.attention import attention
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.lstm import LSTM
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.similarity import class_attention, cosine, cosine_logits
from metadist.keys import Key
from metadist.learner import Explanation
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)


class Options(OptionsBase):
    support_lstm: bool = False
    """embed each support example in the context of the others, by an LSTM in both directions"""
    query_lstm_steps: Annotated[int, Field(ge=0)] = 0
    """steps of an attention LSTM that embeds a query in the context of the support set; 0: none
    (full context embeddings have both LSTMs)"""
    scores: Literal["attention", "mean"] = "attention"
    """the attention on a class, or the mean cosine with it"""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """factor of the cosines before the softmax (published: 1)"""
    fine_tune: bool = False
    """take `inner.steps` steps on the support set in validation and test; none in training"""


@dataclass(frozen=True)
class Matching(EmbeddingLearner):
    """What queries are compared with are embedded support examples [S, D] and labels int64 [S].

    Attributes:
        size: D, numbers of an example's features.
        loss_factor: of the support loss in fine-tuning.
    """

    options: Options
    size: int
    loss_factor: float = 1.0

    @cached_property
    def forwards(self) -> LSTM:
        """Over the support set."""
        return LSTM("support.forwards", self.size, self.size)

    @cached_property
    def backwards(self) -> LSTM:
        """The same in the other direction."""
        return LSTM("support.backwards", self.size, self.size)

    @cached_property
    def reader(self) -> LSTM:
        """Of a query: it is fed back its output and what it has read."""
        return LSTM("query.reader", self.size, self.size, 2 * self.size)

    def init(self, key: Key) -> Params:
        """The encoder's parameters, and those of the LSTMs that are asked for."""
        lstms = [self.forwards, self.backwards] if self.options.support_lstm else []
        lstms += [self.reader] if self.options.query_lstm_steps else []
        own = (lstm.init(key.fold("context")) for lstm in lstms)
        return {**self.encoder.init(key), **{n: p for params in own for n, p in params.items()}}

    def known(self, params: Params, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self.options.support_lstm:
            return features, labels
        there = self.forwards.outputs(params, features)
        back = self.backwards.outputs(params, features, backwards=True)
        return there + back + features, labels

    def read(self, params: Params, support: Tensor, queries: Tensor) -> Tensor:
        """f [Q, D] of query features [Q, D], with embedded support examples [S, D]."""
        if not self.options.query_lstm_steps:
            return queries
        gated = self.reader.gated(params, queries)
        hidden = cell = torch.zeros_like(queries)
        for _ in range(self.options.query_lstm_steps):
            fed_back = torch.cat([hidden, attention(hidden, support, support)], 1)
            output, cell = self.reader.step(params, gated, fed_back, cell)
            hidden = output + queries
        return hidden

    def compared(
        self, params: Params, known: tuple[Tensor, Tensor], queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Logarithm of the attention on each class, or its mean cosine times the scale."""
        support, labels = known
        found, scale = self.read(params, support, queries), self.options.scale
        if self.options.scores == "mean":
            return scale * cosine_logits(found, support, labels, self.ways), {}
        return class_attention(scale * cosine(found, support), labels, self.ways), {}

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        """What is compared, in its context, and the attention of equation 1 where there is one."""
        support, _ = fitted.known
        found = self.read(fitted.params, support, queries)
        if self.options.scores == "mean":
            return Explanation(support, found)
        weights = (self.options.scale * cosine(found, support)).softmax(1)
        return Explanation(support, found, attention={"attention": weights})

    def paired(self, fitted: Embedded, queries: Tensor) -> Tensor:
        """Cosines, of what is embedded in its context where there are contexts."""
        support, _ = fitted.known
        return cosine(self.read(fitted.params, support, queries), support)

    def support_loss(self, params: Params, support: Examples, ctx: Context) -> Tensor:
        """Of the support set's own examples, compared with all of them."""
        norm = self.normalisation.support(ctx)
        features, _ = self.features(params, support.x, norm, ctx)
        known = self.known(params, features, support.y)
        logits, _ = self.compared(params, known, features, norm)
        return self.loss_factor * self.objective.loss(Prediction(logits), support)

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Embedded]:
        """One element, or with fine-tuning what predicts after 0, 1, ... steps."""
        support = task.support
        fitted = [self.embedded(params, support, ctx)]
        if not self.options.fine_tune or ctx.phase == "train":
            return fitted
        for _ in range(ctx.inner_steps):
            gradients, _ = ctx.grad(lambda p: (self.support_loss(p, support, ctx), ()), params)
            params = {name: p - ctx.inner_lr * gradients[name] for name, p in params.items()}
            fitted.append(self.embedded(params, support, ctx))
        return fitted


def build(parts: Parts[Options]) -> Matching:
    encoder = parts.encoder
    return Matching(
        objective=parts.objective,
        encoder=encoder,
        ways=parts.shape.ways,
        options=parts.options,
        size=math.prod(feature_shape(encoder, parts.shape.inputs)),
        loss_factor=parts.shape.ways if parts.inner_loss == "sum_over_ways" else 1,
    )
