"""Reptile: go towards where plain training on a task leads.

Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 2. In training
a task's support and query examples are one set: ``inner.steps`` steps on mini-batches of it lead
from theta to phi, and theta - phi stands for the gradient. The published outer step, theta +
epsilon mean(phi - theta), is ``outer.optimizer = "sgd"`` with ``outer.lr`` = epsilon and
``outer.schedule = "linear"``. In validation and test the steps are taken on the support alone. The
released code's ``--transductive`` is ``model.norm = "transductive"``; without it each query shares
a batch with the support, to which ``"support"`` comes nearest.

All parameters are adapted, normalisation layers' too. Adam's moments start anew in every task; the
released code hands them on from task to task. The loss that training reports is that of phi, a mean
over all of the task's examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.adam import Adam
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.passes import passed
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Estimator, Loss
from metadist.tasks import Examples, Params, Prediction, Task


class Options(OptionsBase):
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """of a task; its moments start anew in each"""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """decay of Adam's first moment (published: 0)"""
    inner_batch: Annotated[int, Field(ge=0)] = 10
    """examples of a step in training; 0: all. It may be larger than the set, which is gone through
    in a new order again and again"""
    eval_batch: Annotated[int, Field(ge=0)] = 5
    """examples of a step in validation and test; 0: all"""

    @model_validator(mode="after")
    def _idle(self) -> Self:
        if self.inner_optimizer != "adam":
            self.refuse_idle("inner_optimizer 'adam'", "beta1")
        return self


def shuffled(uniform: Tensor, count: int) -> Tensor:
    """Indices int64 [k] of ``count`` examples, in an order that is random anew after each epoch.

    The numbers are drawn before the task is seen, so how many examples there are is not known then.
    Fisher & Yates' shuffle: within an epoch no example comes twice, and all orders have the same
    probability. Nothing depends on the device or on the tasks beside it.

    Args:
        uniform: k > 0 uniform numbers in (0, 1), float64.
        count: examples, at least 1.
    """
    wanted = len(uniform)
    epochs = -(-wanted // count)
    rows = F.pad(uniform, (0, epochs * count - wanted)).reshape(epochs, count)
    order = torch.arange(count, device=uniform.device).expand(epochs, count)
    chosen = []
    for position in range(min(count, wanted)):
        here = slice(position, position + 1)
        # The product may round up to what is one too many.
        further = (rows[:, here] * (count - position)).long().clamp_max(count - position - 1)
        chosen.append(order.gather(1, position + further))
        order = order.scatter(1, position + further, order[:, here])
    return torch.cat(chosen, 1).reshape(-1)[:wanted]


@dataclass(frozen=True)
class Reptile(InnerLoop):
    """An inner loop on mini-batches, and a pseudo-gradient in place of its derivative."""

    inner_batch: int = 0
    eval_batch: int = 0

    @property
    def estimator(self) -> Estimator:
        """The direction is no derivative of a loss."""
        return "pseudo"

    def _batch(self, ctx: Context) -> int:
        return self.inner_batch if ctx.phase == "train" else self.eval_batch

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """Numbers [steps x batch] that put the examples in order."""
        wanted = ctx.inner_steps * self._batch(ctx)
        order = key.fold("order").uniform((wanted,), torch.float64)
        return {**super().noise(key, ctx), **({"order": order} if wanted else {})}

    def examples(self, support: Examples, ctx: Context) -> Sequence[Examples]:
        """A mini-batch for each step."""
        if "order" not in ctx.noise:
            return super().examples(support, ctx)
        rows = shuffled(ctx.noise["order"], len(support)).reshape(ctx.inner_steps, -1)
        return [support[row] for row in rows]

    def gradient(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Loss]:
        """theta - phi, and the loss of phi on all of the task's examples."""
        both = Examples(
            torch.cat([task.support.x, task.query.x]), torch.cat([task.support.y, task.query.y])
        )
        recorded: list[Statistics] = []
        with torch.no_grad():
            joined = task.view(self.needs).with_support(both)
            start, _ = self.initial(params, joined, ctx)
            phi = [*self.steps(params, start, joined, ctx, recorded)][-1].params
            norm = self.normalisation.support(ctx, ctx.inner_steps)
            outputs, statistics = passed(self.backbone, phi, both.x, norm, ctx)
            recorded.append(statistics)
            prediction = Prediction(outputs)
            value, metrics = self.objective.loss_and_metrics(prediction, both)
            direction = {name: p - phi[name] for name, p in params.items()}
        return direction, Loss(value, metrics, self.normalisation.sums(recorded))


def build(parts: Parts[Options]) -> Reptile:
    options = parts.options
    return parts.inner_loop(
        Reptile,
        optimizer=SGD() if options.inner_optimizer == "sgd" else Adam(beta1=options.beta1),
        second_order=False,
        adapt_norm=True,
        inner_batch=options.inner_batch,
        eval_batch=options.eval_batch,
    )
