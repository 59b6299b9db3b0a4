"""What is computed of one chunk of tasks, whatever the strategy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from metadist.context import Context
from metadist.learner import Learner
from metadist.tasks import Params, Prediction, Task, TaskBatch

Noise = dict[str, Tensor]


@dataclass(frozen=True)
class ChunkResult:
    """Sums over the finite tasks of one chunk.

    Attributes:
        gradients: summed over the chunk's finite tasks, in the parameters' type (float64 in a
            chunk of several tasks computed by ``loop``).
        statistics: float64 sums.
        metrics: per task, float64 [tasks], by name; of all tasks.
        finite: bool [tasks]: the gradients, statistics and loss of a task are finite. None is if
            the sums are not.
    """

    gradients: Params
    statistics: dict[str, Tensor]
    metrics: dict[str, Tensor]
    finite: Tensor


class GradientStrategy(Protocol):
    """How a learner's functions of one task are computed for several."""

    def chunk(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> ChunkResult:
        """Gradients, metrics and statistics of the tasks of one chunk."""

    def step_scalars(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> Tensor:
        """Step scalars of the tasks of one chunk, float64 [scalars, tasks], without gradient."""

    def predict(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[list[Prediction]]:
        """Of each task, what is predicted for its queries after 0, 1, … ``ctx.inner_steps`` steps,
        without gradient; one element of a learner that does not adapt by steps."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """One look at all of them: a look at each costs more than the copy."""
    return bool(torch.isfinite(torch.cat([t.reshape(-1) for t in tensors])).all())


def checked(
    gradients: Params, statistics: dict[str, Tensor], metrics: dict[str, Tensor], finite: Tensor
) -> ChunkResult:
    """The result of a chunk; sums of finite numbers that are not finite are left out."""
    several = len(finite) > 1
    if several and not all_finite([*gradients.values(), *statistics.values()]):
        gradients = {name: torch.zeros_like(g) for name, g in gradients.items()}
        statistics = {name: torch.zeros_like(s) for name, s in statistics.items()}
        finite = torch.zeros_like(finite)
    return ChunkResult(gradients, statistics, metrics, finite)


def visible_predictions(
    learner: Learner, params: Params, task: Task, ctx: Context
) -> list[Prediction]:
    """What is predicted for a task's queries by a learner that sees what it may of the task."""
    fitted = learner.adapt(params, task.view(learner.needs), ctx)
    query = task.query.without("y")
    return [learner.predict(one, query, ctx) for one in fitted]
