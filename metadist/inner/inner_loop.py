"""Adaptation by gradient steps on the support set, shared by all gradient-based learners.

    phi_0 = theta;  phi_t = phi_{t-1} + update(d L(phi_{t-1}; support))
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

from metadist.backbones import Backbone, Norm, Statistics
from metadist.context import Context
from metadist.inner.inner_optimizer import PREFIX, InnerOptimizer, InnerStep, meta_parameters
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.inner.passes import passed
from metadist.keys import Key
from metadist.learner import Captions, Estimator, LearnedQuantities, Loss
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task


@dataclass(frozen=True)
class AdaptedModel:
    """What predicts after ``step`` adaptation steps.

    The support set is kept because ``support`` normalisation takes its statistics from it.
    """

    params: Params
    step: int
    support: Examples


@dataclass(frozen=True)
class InnerLoop(Normalised):
    """A gradient-based learner.

    Attributes:
        only: names of the parameters that may be adapted; None: all of the network's.
        support_reduction: ``mean``, or ``sum_over_ways``: N times the mean cross-entropy, which
            is what MAML's released code descends on.
        adapt_norm: adapt scale and shift of normalisation layers too (MAML's code does not).
    """

    objective: Objective
    backbone: Backbone
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

    def arranged(self, params: Params) -> Params:
        return self.backbone.arranged(params)

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

    def initial(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Tensor | None]:
        """Where the inner loop starts on a task, and a term to add to the task's loss or None."""
        return self.adapted(params), None

    def second_order_at(self, ctx: Context) -> bool:
        """Whether the meta-gradient goes through the inner gradients at this outer step."""
        return self.second_order

    def step_weights(self, ctx: Context) -> dict[int, float]:
        """Which adaptation steps' query losses make up the task's loss, with their weights."""
        return {ctx.inner_steps: 1.0}

    def examples(self, support: Examples, ctx: Context) -> Sequence[Examples]:
        """What each step learns from, of the support set."""
        return [support] * ctx.inner_steps

    def regulariser(
        self, params: Params, task: Task, fitted: AdaptedModel, prediction: Prediction, ctx: Context
    ) -> Tensor | None:
        """A term to add to the task's loss; None: nothing.

        Args:
            fitted, prediction: after the last step, and what it predicts for the queries.
        """
        return None

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        return {**super().noise(key, ctx), **self.optimizer.noise(key, ctx)}

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        return self.optimizer.learned_quantities(meta_parameters(params))

    @property
    def captions(self) -> Captions:
        return self.optimizer.captions

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.backbone)

    def support_loss(
        self, params: Params, examples: Examples, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """What an inner step descends on, and the detached statistics of the pass."""
        scale = self.ways if self.support_reduction == "sum_over_ways" else 1
        output = self.backbone.forward(params, examples.x, norm)
        detached = {k: (m.detach(), v.detach()) for k, (m, v) in output.statistics.items()}
        return scale * self.objective.loss(Prediction(output.value), examples), detached

    def inner_gradient(
        self, adapted: Params, frozen: Params, task: Task, step: int, ctx: Context
    ) -> tuple[Params, Tensor, Statistics]:
        """Gradients of the adapted parameters in one step, the loss there, and statistics.

        Args:
            frozen: the other parameters.
            task: its support set is what this step learns from.
            step: steps taken before this one.
        """
        norm, examples = self.normalisation.support(ctx, step), task.support
        second_order = self.second_order_at(ctx)
        scale = self.ways if self.support_reduction == "sum_over_ways" else 1
        if not ctx.functional:
            params = {**frozen, **adapted}
            if not second_order:
                params = {name: p.detach() for name, p in params.items()}
            fused = self.backbone.loss_gradient(
                params, tuple(adapted), examples, norm, self.objective, scale
            )
            if fused is not None:
                loss, gradients, statistics = fused
                return gradients, loss, statistics

        def loss_at(p: Params) -> tuple[Tensor, tuple[Tensor, Statistics]]:
            loss, statistics = self.support_loss({**frozen, **p}, examples, norm)
            return loss, (loss, statistics)

        gradients, (loss, statistics) = ctx.grad(loss_at, adapted, second_order=second_order)
        return gradients, loss if second_order else loss.detach(), statistics

    def steps(
        self, params: Params, start: Params, task: Task, ctx: Context, recorded: list[Statistics]
    ) -> Iterator[AdaptedModel]:
        """What predicts after 0, 1, ... steps.

        Args:
            start: what is adapted, see :meth:`initial`.
            recorded: receives the statistics of each step.
        """
        current, support = start, task.support
        frozen = {name: p for name, p in params.items() if name not in current}
        meta = meta_parameters(params)
        state = self.optimizer.start(meta, current, ctx)
        yield AdaptedModel({**frozen, **current}, 0, support)
        for step, examples in enumerate(self.examples(support, ctx)):
            gradients, loss, statistics = self.inner_gradient(
                current, frozen, task.with_support(examples), step, ctx
            )
            recorded.append(statistics)
            updates, state = self.optimizer.update(
                gradients, state, current, InnerStep(step, meta, loss, ctx)
            )
            current = {name: p + updates[name] for name, p in current.items()}
            yield AdaptedModel({**frozen, **current}, step + 1, support)

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[AdaptedModel]:
        """What predicts after 0, 1, ... ``ctx.inner_steps`` steps on the support set."""
        start, _ = self.initial(params, task, ctx)
        return list(self.steps(params, start, task, ctx, []))

    def predict(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N] or values [n, E] for n queries.

        With ``transductive`` normalisation the rows depend on each other.
        """
        norm = self.query_norm(fitted, ctx)
        return Prediction(passed(self.backbone, fitted.params, query.x, norm, ctx)[0])

    def activations(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> dict[str, Tensor]:
        """Activations [n, ...] of each layer for n queries."""
        norm = self.query_norm(fitted, ctx)
        return self.backbone.forward(fitted.params, query.x, norm).activations

    def query_norm(self, fitted: AdaptedModel, ctx: Context) -> Norm:
        """Normalisation of a pass over query examples."""
        return self.normalisation.query(fitted.params, fitted.support, ctx, fitted.step)

    def _scored(
        self, fitted: AdaptedModel, query: Examples, target: Examples, ctx: Context
    ) -> tuple[Prediction, Tensor, dict[str, Tensor]]:
        """What is predicted for queries, its loss, and what training reports."""
        if type(self).predict is InnerLoop.predict and not ctx.functional:
            norm = self.query_norm(fitted, ctx)
            fused = self.backbone.fused_loss(fitted.params, target, norm, self.objective)
            if fused is not None:
                loss, values = fused
                prediction = Prediction(values)
                return prediction, loss, self.objective.reported(loss, prediction, target)
        prediction = self.predict(fitted, query, ctx)
        return prediction, *self.objective.loss_and_metrics(prediction, target)

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """Query loss after adaptation: mean over the query set.

        Metrics are those after the last step, whichever steps count.
        """
        recorded: list[Statistics] = []
        weights = self.step_weights(ctx)
        parts: list[Tensor] = []
        view, query = task.view(self.needs), task.visible_query(self.needs)
        start, penalty = self.initial(params, view, ctx)
        for fitted in self.steps(params, start, view, ctx, recorded):
            if fitted.step in weights or fitted.step == ctx.inner_steps:
                prediction, last, metrics = self._scored(fitted, query, task.query, ctx)
                if fitted.step in weights:
                    parts.append(weights[fitted.step] * last)
        if ctx.norm == "running" and ctx.phase == "train":
            norm = Norm("batch", record=True, step=ctx.inner_steps)
            with torch.no_grad():
                _, statistics = passed(self.backbone, fitted.params, task.support.x, norm, ctx)
            recorded.append(statistics)
        value = sum(parts[1:], start=parts[0])
        for extra in (penalty, self.regulariser(params, task, fitted, prediction, ctx)):
            if extra is not None:
                value = value + extra
        return Loss(value, metrics, self.normalisation.sums(recorded))
