"""Pre-training and fine-tuning: one network for all tasks, then gradient descent on the support.

The baselines of Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, section 5.1 (regression: one network fitted to all tasks' examples), and of
Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017, section 5
(classification: a network for all training classes, whose head is replaced by a fresh one of N
outputs; 15 updates of all layers, step size and decay chosen on validation tasks).

It learns features or the mean function of its tasks, but not how to adapt: no meta-gradient, no
initialisation meant for few steps, no step size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.inner.pretraining import Pretraining, joint_shape
from metadist.keys import Key
from metadist.tasks import Examples, Params, Prediction, Task


class Options(OptionsBase):
    head_init: Literal["zeros", "drawn"] = "zeros"
    """start of a task's head: at zero, or as a fresh network's (a draw per task)"""
    head_lr: Annotated[float, Field(ge=0)] = 0.0
    """step size of the head; 0: `inner.lr`"""
    decay: Annotated[float, Field(ge=0)] = 0.0
    """step sizes of step t are divided by 1 + decay · t"""
    adapt_norm: bool = True
    """let the inner loop change scale and shift of normalisation layers too"""


@dataclass(frozen=True)
class DecayedSGD(InnerOptimizer):
    """Gradient descent with a falling step size, and with other step sizes for some parameters.

    A parameter with step size a takes p - a / (1 + decay * t) * gradient in step t = 0, 1, ...: the
    decay of Torch 7's ``optim.sgd``, with which the fine-tuning baselines of few-shot learning were
    run (Ravi & Larochelle, 2017).

    Attributes:
        decay: of the step sizes; 0: none.
        others: step sizes of parameters whose step size is not ``inner.lr``, by name.
    """

    decay: float = 0.0
    others: Mapping[str, float] = field(default_factory=dict)

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        slower = 1.0 + self.decay * step.index
        sizes = {name: self.others.get(name, step.ctx.inner_lr) / slower for name in adapted}
        return {name: -size * gradients[name] for name, size in sizes.items()}, {}


def without_steps(ctx: Context) -> Context:
    """The context of a network whose training has taken no adaptation steps."""
    return replace(ctx, trained_steps=0)


@dataclass(frozen=True)
class FineTuned:
    """What predicts, and the task that it was tuned to."""

    model: AdaptedModel
    task: Task


@dataclass(frozen=True)
class FineTuning(Pretraining):
    """In a new task: gradient descent on the support set, from the trained network.

    Attributes:
        loop: the descent; its network is the trained one, or in classification one of N outputs
            that differs from it in its head.
        head: where the new head of a classification starts: at zero, or as a fresh network's.
    """

    loop: InnerLoop
    head: Literal["zeros", "drawn"] = "zeros"

    @property
    def _head(self) -> tuple[str, ...]:
        return self.loop.backbone.layers[-1].parameters

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The new head, where it is drawn; training needs none."""
        if not self.ways or self.head == "zeros" or ctx.phase == "train":
            return {}
        fresh = self.loop.backbone.init(key)
        return {name: fresh[name] for name in self._head}

    def start(self, params: Params, ctx: Context) -> Params:
        """The network before the first step on a new task."""
        if not self.ways:
            return params
        if self.head == "zeros":
            new = {n: params[n].new_zeros((self.ways, *params[n].shape[1:])) for n in self._head}
        else:
            new = {n: ctx.noise[n].to(params[n].dtype) for n in self._head}
        return {**params, **new}

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[FineTuned]:
        """The network after 0, 1, ... ``ctx.inner_steps`` steps on the support set."""
        shown = task.with_support(self.inputs(task.support, task))
        adapted = self.loop.adapt(self.start(params, ctx), shown, without_steps(ctx))
        return [FineTuned(model, task) for model in adapted]

    def predict(self, fitted: FineTuned, query: Examples, ctx: Context) -> Prediction:
        shown = self.inputs(query, fitted.task)
        return self.loop.predict(fitted.model, shown, without_steps(ctx))

    def activations(self, fitted: FineTuned, query: Examples, ctx: Context) -> dict[str, Tensor]:
        shown = self.inputs(query, fitted.task)
        return self.loop.activations(fitted.model, shown, without_steps(ctx))


def build(parts: Parts[Options]) -> FineTuning:
    """The learner.

    Raises:
        RecipeError: a way to start a fresh head, for regression, which keeps its head.
    """
    options = parts.options
    if not parts.shape.ways:
        try:
            options.refuse_idle("classification; a regression keeps its head", "head_init")
        except ValueError as error:
            raise RecipeError(f"algorithm.{error}") from None
    head = parts.backbone.layers[-1].parameters if options.head_lr else ()
    return FineTuning(
        network=parts.network(joint_shape(parts.shape)),
        objective=parts.objective,
        ways=parts.shape.ways,
        loop=parts.inner_loop(
            InnerLoop,
            optimizer=DecayedSGD(options.decay, dict.fromkeys(head, options.head_lr)),
            second_order=False,
            adapt_norm=options.adapt_norm,
        ),
        head=options.head_init,
    )
