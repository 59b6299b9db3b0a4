"""Adaptation by gradient steps on the support set, shared by all gradient-based learners.

    phi_0 = theta;  phi_t = update(phi_{t-1}, d L(phi_{t-1}; support))
    meta-loss of a task = L(phi_T; query)

Learners differ in what is adapted (``only``), in the inner optimizer, in whether the
meta-gradient goes through the inner gradients, and in which steps' query losses count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metadist.backbones import Backbone, Norm, Statistics, Trace
from metadist.inner.gradient import gradient
from metadist.inner.inner_optimizer import PREFIX, InnerOptimizer, InnerStep, meta_parameters
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.keys import Key
from metadist.learner import Estimator, LearnedQuantities, Loss
from metadist.objectives import loss_and_metrics, task_loss
from metadist.tasks import Context, Params, Task, TaskKind


@dataclass(frozen=True)
class AdaptedModel:
    """What predicts after ``step`` adaptation steps.

    The support images are kept because ``support`` normalisation takes its statistics from them.
    """

    params: Params
    step: int
    support_x: Tensor


@dataclass(frozen=True)
class InnerLoop(Normalised):
    """A gradient-based learner.

    Attributes:
        only: names of the parameters that may be adapted; None: all of the network's.
        support_reduction: ``mean``, or ``sum_over_ways``: N times the mean cross-entropy, which
            is what MAML's released code descends on.
        adapt_norm: adapt scale and shift of normalisation layers too (MAML's code does not).
    """

    backbone: Backbone
    kind: TaskKind
    ways: int
    optimizer: InnerOptimizer
    second_order: bool = True
    only: frozenset[str] | None = None
    support_reduction: Literal["mean", "sum_over_ways"] = "mean"
    adapt_norm: bool = False

    @property
    def estimator(self) -> Estimator:
        """Which gradient ``loss`` has: that of the whole adaptation, or a declared part of it."""
        return "exact" if self.second_order else "first-order"

    @property
    def derivative_order(self) -> int:
        """2 if the meta-gradient goes through the inner gradients, else 1."""
        return 2 if self.second_order else 1

    def init(self, key: Key) -> Params:
        """All meta-parameters: the network's, then the optimizer's."""
        params = self.backbone.init(key)
        meta = self.optimizer.init(self.adapted(params), key.fold("rule"))
        return {**params, **{f"{PREFIX}{name}": p for name, p in meta.items()}}

    def adapts(self, name: str) -> bool:
        """Whether the inner loop changes a parameter."""
        if name.startswith(PREFIX):
            return False
        if name in self.backbone.norm_parameters and not self.adapt_norm:
            return False
        return self.only is None or name in self.only

    def adapted(self, params: Params) -> Params:
        """The parameters that the inner loop changes."""
        return {name: p for name, p in params.items() if self.adapts(name)}

    def second_order_at(self, ctx: Context) -> bool:
        """Whether the meta-gradient goes through the inner gradients at this outer step."""
        return self.second_order

    def step_weights(self, ctx: Context) -> dict[int, float]:
        """Which adaptation steps' query losses make up the task's loss, with their weights."""
        return {ctx.inner_steps: 1.0}

    def examples(self, x: Tensor, y: Tensor, ctx: Context) -> Sequence[tuple[Tensor, Tensor]]:
        """What each step learns from, of the support set x, y."""
        return [(x, y)] * ctx.inner_steps

    def regulariser(
        self, params: Params, task: Task, fitted: AdaptedModel, outputs: Tensor, ctx: Context
    ) -> Tensor | None:
        """A term to add to the task's loss; None: nothing.

        Args:
            fitted, outputs: after the last step, and what it predicts for the queries.
        """
        return None

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        return self.optimizer.noise(key, ctx)

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        return self.optimizer.learned_quantities(meta_parameters(params))

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.backbone)

    def _steps(
        self, params: Params, x: Tensor, y: Tensor, ctx: Context, recorded: list[Statistics]
    ) -> Iterator[AdaptedModel]:
        """What predicts after 0, 1, ... steps; ``recorded`` receives the statistics of each."""
        current = self.adapted(params)
        frozen = {name: p for name, p in params.items() if name not in current}
        meta, state = meta_parameters(params), self.optimizer.start(current)
        second_order = self.second_order_at(ctx)
        scale = self.ways if self.support_reduction == "sum_over_ways" else 1
        yield AdaptedModel({**frozen, **current}, 0, x)
        for step, (x_step, y_step) in enumerate(self.examples(x, y, ctx)):
            norm = self.normalisation.support(ctx, step)

            def support_loss(
                p: Params, x: Tensor = x_step, y: Tensor = y_step, norm: Norm = norm
            ) -> tuple[Tensor, Statistics]:
                outputs, statistics = self.backbone.forward({**frozen, **p}, x, norm)
                detached = {k: (m.detach(), v.detach()) for k, (m, v) in statistics.items()}
                return scale * task_loss(self.kind, outputs, y), detached

            gradients, statistics = gradient(
                support_loss, current, second_order=second_order, functional=ctx.functional
            )
            recorded.append(statistics)
            current, state = self.optimizer.update(
                current, gradients, InnerStep(step, meta, state, ctx)
            )
            yield AdaptedModel({**frozen, **current}, step + 1, x)

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> list[AdaptedModel]:
        """What predicts after 0, 1, ... ``ctx.inner_steps`` steps on the support set."""
        return list(self._steps(params, support_x, support_y, ctx, []))

    def predict(self, fitted: AdaptedModel, x: Tensor, ctx: Context) -> Tensor:
        """Logits [n, N] or values [n, E] for queries x [n, ...].

        With ``transductive`` normalisation the rows depend on each other.
        """
        return self.backbone.forward(fitted.params, x, self.query_norm(fitted, ctx))[0]

    def activations(self, fitted: AdaptedModel, x: Tensor, ctx: Context) -> dict[str, Tensor]:
        """Activations [n, ...] of each layer for queries x; without the copy before the head."""
        trace: Trace = {}
        self.backbone.forward(fitted.params, x, self.query_norm(fitted, ctx), trace)
        trace.pop("features", None)
        return trace

    def query_norm(self, fitted: AdaptedModel, ctx: Context) -> Norm:
        """Normalisation of a pass over query examples."""
        return self.normalisation.query(fitted.params, fitted.support_x, ctx, fitted.step)

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """Query loss after adaptation: mean over the query set.

        Metrics are those after the last step, whichever steps count.
        """
        recorded: list[Statistics] = []
        weights = self.step_weights(ctx)
        parts: list[Tensor] = []
        for fitted in self._steps(params, task.support_x, task.support_y, ctx, recorded):
            if fitted.step in weights or fitted.step == ctx.inner_steps:
                outputs = self.predict(fitted, task.query_x, ctx)
                last, metrics = loss_and_metrics(self.kind, outputs, task.query_y)
                if fitted.step in weights:
                    parts.append(weights[fitted.step] * last)
        if ctx.norm == "running" and ctx.phase == "train":
            norm = Norm("batch", record=True, step=ctx.inner_steps)
            with torch.no_grad():
                recorded.append(self.backbone.forward(fitted.params, task.support_x, norm)[1])
        value = sum(parts[1:], start=parts[0])
        extra = self.regulariser(params, task, fitted, outputs, ctx)
        if extra is not None:
            value = value + extra
        return Loss(value, metrics, self.normalisation.sums(recorded))
