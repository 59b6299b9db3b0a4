"""MAML++: MAML with a handful of changes that make it train stably, each of which can be left out.

Antoniou, Edwards & Storkey, "How to train your MAML", ICLR 2019, section 4. With every switch off
it is MAML, bit for bit. Of the paper's other two ingredients, cosine annealing is ``outer.schedule
= "cosine"`` and per-step running statistics are ``model.norm = "running"`` (the released code
normalises by the batch, at test too: ``"transductive"``). Scales and shifts are never adapted. The
defaults are the released code's for Omniglot; ``inner.lr`` is where step sizes start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

from metadist.algorithms import Parts
from metadist.backbones import Norm
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.backbone_wrapper import Reparametrised
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Captions, Estimator, LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".step_sizes"

#: Share of an even weight that the loss after an early step keeps at least.
LEAST = 0.03


class Options(OptionsBase):
    multi_step: bool = True
    """the query losses after all steps count, in the first `multi_step_epochs` epochs, weighted
    more and more towards the last"""
    multi_step_epochs: Annotated[int, Field(ge=1)] = 10
    """until the last step's loss alone counts"""
    derivative_annealing_epochs: Annotated[int, Field(ge=0)] = 0
    """first order before this epoch, second order from it on (the released code's threshold is one
    less)"""
    epoch_steps: Annotated[int, Field(ge=1)] = 500
    """outer steps of an epoch"""
    learned_step_sizes: bool = True
    """one for each parameter tensor and step"""
    per_step_norm: bool = True
    """scale and shift of normalisation for each step"""
    first_order: bool = False
    """take the inner gradients as constants"""

    @model_validator(mode="after")
    def _idle(self) -> Self:
        if not self.multi_step:
            self.refuse_idle("multi_step", "multi_step_epochs")
            if not self.derivative_annealing_epochs:
                self.refuse_idle("multi_step or derivative_annealing_epochs", "epoch_steps")
        return self

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.first_order and self.derivative_annealing_epochs:
            raise ValueError(
                "first_order leaves nothing to anneal: derivative_annealing_epochs must be 0 with "
                f"it, got {self.derivative_annealing_epochs}"
            )
        return self


def multi_step_weights(steps: int, epoch: int, epochs: int) -> dict[int, float]:
    """Weight of the query loss after each of 1 ... T steps; they sum to 1.

    Even in epoch 0; in each of the ``epochs`` a T-th of an ``epochs``-th goes from every early step
    to the last, until an early one is down to :data:`LEAST` of where it began.
    """
    even = 1.0 / steps
    moved = epoch / (steps * epochs)
    weights = {step: max(even - moved, LEAST * even) for step in range(1, steps)}
    last = min(even + (steps - 1) * moved, 1.0 - (steps - 1) * LEAST * even)
    return {**weights, steps: last}


@dataclass(frozen=True)
class PerStepSGD(InnerOptimizer):
    """A meta-learned step size for every parameter tensor and every inner step.

    "Per-layer per-step learning rates": phi - a[t] * gradient in step t. The paper speaks of
    layers; its released code has one for each tensor, as here, and one more, which no step ever
    uses. ``<parameter>.step_sizes`` [T]; steps beyond T take the last one.

    Attributes:
        lr: where all of them start.
        steps: T, adaptation steps in training; at least one step size is kept.
    """

    lr: float
    steps: int

    def init(self, adapted: Params, key: Key) -> Params:
        return {f"{name}{SUFFIX}": torch.full((max(self.steps, 1),), self.lr) for name in adapted}

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        row = min(step.index, max(self.steps, 1) - 1)
        sizes = {name: step.meta[f"{name}{SUFFIX}"][row] for name in adapted}
        return {name: -(sizes[name] * gradients[name]) for name in adapted}, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """The step sizes of each parameter, step by step."""
        return {"step_size": {n.removesuffix(SUFFIX): a.double().tolist() for n, a in meta.items()}}

    @property
    def captions(self) -> Captions:
        text = (
            "The stronger the colour the larger the step size, red where the step climbs its loss. "
            "Steps beyond the last take the last one's."
        )
        return {"step_size": ("Learned step sizes", text)}


@dataclass(frozen=True)
class PerStepNorm(Reparametrised):
    """A backbone whose normalisation layers have a scale and a shift of their own for each step.

    "Per-step batch normalization weights and biases": they are [T, C], and ``Norm.step`` chooses
    the row. All start as the network's own; passes after more than T - 1 steps take the last.

    Attributes:
        steps: T, adaptation steps in training; at least one row is kept.
    """

    steps: int

    def init(self, key: Key) -> Params:
        """The network's parameters, those of its normalisation layers once for each step."""
        rows = max(self.steps, 1)
        return {
            name: p.repeat(rows, 1) if name in self.norm_parameters else p
            for name, p in self.network.init(key).items()
        }

    def inside(self, params: Params, norm: Norm) -> Params:
        row = min(norm.step, max(self.steps, 1) - 1)
        chosen = {name: p[row] for name, p in params.items() if name in self.norm_parameters}
        return {**params, **chosen}


@dataclass(frozen=True)
class MAMLPlusPlus(InnerLoop):
    """An inner loop whose loss and derivatives change with the epoch."""

    options: Options = field(kw_only=True)

    @property
    def estimator(self) -> Estimator:
        return "annealed" if self.options.derivative_annealing_epochs else super().estimator

    def _epoch(self, ctx: Context) -> int:
        return ctx.step // self.options.epoch_steps

    def second_order_at(self, ctx: Context) -> bool:
        return self.second_order and self._epoch(ctx) >= self.options.derivative_annealing_epochs

    def step_weights(self, ctx: Context) -> dict[int, float]:
        """Weights of the query losses after each step; in time the last one alone counts."""
        options, epoch = self.options, self._epoch(ctx)
        early = options.multi_step and epoch < options.multi_step_epochs
        if not early or ctx.phase != "train" or ctx.inner_steps == 0:
            return super().step_weights(ctx)
        return multi_step_weights(ctx.inner_steps, epoch, options.multi_step_epochs)

    def query_norm(self, fitted: AdaptedModel, ctx: Context) -> Norm:
        """Normalisation of a pass over query examples.

        As in the released code it has scales and shifts of the support pass before the last step.
        """
        if not self.options.per_step_norm:
            return super().query_norm(fitted, ctx)
        row = max(fitted.step - 1, 0)
        # Averages of a step belong to its own scales; those after the last step to the last ones.
        ended = ctx.norm == "running" and fitted.step >= ctx.trained_steps
        measured = fitted if ended else replace(fitted, step=row)
        return replace(super().query_norm(measured, ctx), step=row)


def build(parts: Parts[Options]) -> MAMLPlusPlus:
    options = parts.options
    network, steps = parts.backbone, parts.inner_steps
    return parts.inner_loop(
        MAMLPlusPlus,
        backbone=PerStepNorm(network, steps) if options.per_step_norm else network,
        optimizer=PerStepSGD(parts.inner_lr, steps) if options.learned_step_sizes else SGD(),
        second_order=not options.first_order,
        options=options,
    )
