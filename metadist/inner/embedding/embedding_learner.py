"""Learning to embed: an encoder makes features, a subclass predicts from those of the support set.

There is no inner loop. What the encoder makes of the support set is what queries are compared with.
Where no parameter has the size of the number of ways (SNAIL's and graph networks' have), a learner
may be trained with more ways than it is tested with.

With ``running`` normalisation a training task passes through the encoder in one batch, support and
queries together, as the released code of prototypical networks has it (Snell et al., 2017); the
averages are of these passes. With ``transductive`` and ``support`` the two are passed one after the
other, in training as at test.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.inner.passes import passed
from metadist.keys import Key
from metadist.learner import Explanation, Loss
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task


@dataclass(frozen=True)
class Embedded:
    """What predicts.

    Attributes:
        params: all meta-parameters.
        known: what queries are compared with, of the support set's features.
        norm: of passes over queries.
        statistics: of the pass over the support set, for running averages.
        features: of the support set, [S, D].
    """

    params: Params
    known: Any
    norm: Norm
    statistics: Statistics
    features: Tensor


@dataclass(frozen=True)
class EmbeddingLearner(Normalised):
    """An encoder and a comparison; :meth:`known` and :meth:`compared` are missing.

    Attributes:
        encoder: has all the parameters, or all but those of the comparison.
        ways: classes of a task.
    """

    objective: Objective
    encoder: Encoder
    ways: int

    @abstractmethod
    def known(self, params: Params, features: Tensor, labels: Tensor) -> Any:
        """What queries are compared with, of support features [S, D] with labels int64 [S]."""

    @abstractmethod
    def compared(
        self, params: Params, known: Any, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Logits [Q, N] of query features [Q, D].

        Args:
            norm: of normalisation layers that the comparison has, where it has some.

        Returns:
            Logits, and statistics of such layers where ``norm.record`` is set.
        """

    def own_statistics(self, params: Params, known: Any, features: Tensor) -> Statistics:
        """Statistics of the comparison's normalisation layers in ``support`` mode, of support
        features [S, D] alone."""
        return {}

    @property
    def normalisation(self) -> Normalisation:
        """All passes are after 0 steps: one row of running statistics."""
        return Normalisation(self.encoder, per_step=False)

    def init(self, key: Key) -> Params:
        """The encoder's parameters."""
        return self.encoder.init(key)

    def arranged(self, params: Params) -> Params:
        return self.encoder.arranged(params)

    def features(
        self, params: Params, x: Tensor, norm: Norm, ctx: Context
    ) -> tuple[Tensor, Statistics]:
        """Features [n, D] of examples [n, ...], and statistics where ``norm.record`` is set."""
        if ctx.norm == "support" and norm.record:
            # Queries are normalised by these statistics; kernels do not differentiate them.
            output = self.encoder.forward(params, x, norm)
            return output.value, output.statistics
        return passed(self.encoder, params, x, norm, ctx, head=False)

    def embedded(self, params: Params, support: Examples, ctx: Context) -> Embedded:
        """The support set, encoded."""
        norm = self.normalisation.support(ctx)
        if ctx.norm == "support":
            norm = replace(norm, record=True)
        features, statistics = self.features(params, support.x, norm, ctx)
        known = self.known(params, features, support.y)
        drops = self.normalisation.drops(ctx, query=True)
        if ctx.norm == "support":
            statistics = {**statistics, **self.own_statistics(params, known, features)}
            given = Norm("given", statistics=statistics, drops=drops)
            return Embedded(params, known, given, {}, features)
        of_queries = replace(norm, record=False, drops=drops)
        return Embedded(params, known, of_queries, statistics, features)

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Embedded]:
        """One element: there are no steps."""
        return [self.embedded(params, task.support, ctx)]

    def recorded(self, fitted: Embedded) -> Sequence[Statistics]:
        return [fitted.statistics]

    def predict(self, fitted: Embedded, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N] of n queries."""
        features, _ = self.features(fitted.params, query.x, fitted.norm, ctx)
        return Prediction(self.compared(fitted.params, fitted.known, features, fitted.norm)[0])

    def explanation(self, fitted: Embedded, query: Examples, ctx: Context) -> Explanation:
        features, _ = self.features(fitted.params, query.x, fitted.norm, ctx)
        return self.explained(fitted, features)

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        """What predictions rest on, of query features [Q, D]: by default features alone."""
        return Explanation(fitted.features, queries)

    def pair_scores(self, fitted: Embedded, query: Examples, ctx: Context) -> Tensor | None:
        features, _ = self.features(fitted.params, query.x, fitted.norm, ctx)
        return self.paired(fitted, features)

    def paired(self, fitted: Embedded, queries: Tensor) -> Tensor | None:
        """Scores [Q, S] of query features [Q, D] with support examples; None: it has none."""
        return None

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """That of the queries; see the module for how they are passed in training."""
        if ctx.phase != "train" or ctx.norm in ("transductive", "support"):
            return super().loss(params, task, ctx)
        support, size = task.support, len(task.support)
        norm = self.normalisation.support(ctx)
        both = torch.cat([support.x, task.query.x])
        features, statistics = self.features(params, both, norm, ctx)
        known = self.known(params, features[:size], support.y)
        logits, own = self.compared(params, known, features[size:], norm)
        loss = self.objective.loss_and_metrics(Prediction(logits), task.query)
        return Loss(*loss, self.normalisation.sums([statistics, own]))
