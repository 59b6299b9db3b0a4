"""Learning each task from scratch: a fresh network, trained on the support set alone.

What every few-shot learner is measured against (Finn, Abbeel & Levine, "Model-Agnostic Meta-
Learning for Fast Adaptation of Deep Networks", ICML 2017, do so in section 5.3, in reinforcement
learning). The network of a task is drawn from the task's own key.

Nothing is meta-learned: there are no meta-parameters and no outer steps, and no task profits from
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from metadist.algorithms import Parts
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.adam import Adam
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Estimator, Learner, Loss
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task


class Options(OptionsBase):
    optimizer: Literal["sgd", "adam"] = "sgd"
    """of each task, with `inner.lr`"""
    adapt_norm: bool = True
    """let the inner loop change scale and shift of normalisation layers too"""


@dataclass(frozen=True)
class Scratch(Learner):
    """An inner loop that starts anywhere.

    With ``running`` normalisation queries use the statistics of the support set: it is all that a
    task's network is trained on.
    """

    loop: InnerLoop

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        return self.loop.objective

    @property
    def estimator(self) -> Estimator:
        return "none"

    def init(self, key: Key) -> Params:
        return {}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The task's network."""
        return self.loop.backbone.init(key)

    def _fresh(self, like: Tensor, ctx: Context) -> Params:
        return {name: p.to(like.dtype) for name, p in ctx.noise.items()}

    def _ctx(self, ctx: Context) -> Context:
        return replace(ctx, norm="support") if ctx.norm == "running" else ctx

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[AdaptedModel]:
        """The network after 0, 1, ... ``ctx.inner_steps`` steps on the support set."""
        return self.loop.adapt(self._fresh(task.support.x, ctx), task, self._ctx(ctx))

    def predict(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> Prediction:
        return self.loop.predict(fitted, query, self._ctx(ctx))

    def activations(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> dict[str, Tensor]:
        return self.loop.activations(fitted, query, self._ctx(ctx))

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """Query loss after training on the support, which depends on no meta-parameter."""
        return self.loop.loss(self._fresh(task.support.x, ctx), task, self._ctx(ctx))


def build(parts: Parts[Options]) -> Scratch:
    options = parts.options
    optimizer = Adam() if options.optimizer == "adam" else SGD()
    return Scratch(
        parts.inner_loop(
            InnerLoop, optimizer=optimizer, second_order=False, adapt_norm=options.adapt_norm
        )
    )
