"""All tasks of a chunk at once; a short chunk is padded with copies of its last task.

The gradient is the sum of that of each task. Of a learner that asks for it (``sums_losses``) it is
that of the summed loss: a parameter that is used at each of T steps has T gradients of its size for
every task, and one product of them all has none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metadist.compute.strategies.chunk import (
    ChunkResult,
    GradientStrategy,
    Noise,
    PerTask,
    all_finite,
    check_declared,
    checked,
    task_gradient,
)
from metadist.context import Context
from metadist.errors import RecipeError
from metadist.learner import Learner
from metadist.tasks import Params, Task, TaskBatch


@dataclass(frozen=True)
class Vmap(GradientStrategy):
    """See the module.

    Attributes:
        size: tasks of a chunk.
    """

    size: int

    def _together(
        self,
        one: Callable[[Task, Context], Any],
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> Any:
        """``one`` of each task under vmap; raises RecipeError where that is not possible."""
        rows = torch.arange(self.size).clamp_max(len(tasks) - 1)
        functional = replace(ctx, functional=True)
        stacked = {name: torch.stack([noise[int(row)][name] for row in rows]) for name in noise[0]}

        def call(columns: dict[str, Tensor], own: Noise) -> Any:
            return one(Task.of(columns), functional.for_task(own))

        columns = {name: column[rows] for name, column in tasks.tensors.items()}
        try:
            return torch.func.vmap(call)(columns, stacked)
        except RuntimeError as error:
            if not str(error).startswith("vmap: "):
                raise
            said = str(error).removeprefix("vmap: ").partition(". ")[0]
            raise RecipeError(
                "engine.mode = 'vmap': learner, network or objective cannot be computed for "
                f"several tasks together ({said}); set engine.mode = 'loop', or let no if and no "
                ".item() depend on a tensor, and change none in place"
            ) from error

    def chunk(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> ChunkResult:
        count = len(tasks)
        if learner.sums_losses:
            result = self._of_sum(learner, params, tasks, noise, ctx)
            if result is not None:
                return result

        def one(task: Task, now: Context) -> Any:
            gradients, loss = task_gradient(learner, params, task, now)
            return gradients, loss.metrics, loss.statistics

        gradients, metrics, statistics = self._together(one, tasks, noise, ctx)
        per_task = {name: m[:count].detach().double() for name, m in metrics.items()}
        gradients = {name: g[:count] for name, g in gradients.items()}
        statistics = {name: s[:count].double() for name, s in statistics.items()}
        finite = torch.ones(count, dtype=torch.bool)
        if not all_finite([*gradients.values(), *statistics.values(), per_task["loss"]]):
            finite = per_task["loss"].isfinite()
            for part in (*gradients.values(), *statistics.values()):
                finite = finite & part.reshape(count, -1).isfinite().all(1)
            gradients = {name: _kept(g, finite) for name, g in gradients.items()}
            statistics = {name: _kept(s, finite) for name, s in statistics.items()}
        summed = {name: g.sum(0) for name, g in gradients.items()}
        sums = {name: s.sum(0) for name, s in statistics.items()}
        return checked(summed, sums, per_task, finite.cpu())

    def _of_sum(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> ChunkResult | None:
        """The gradient of the summed loss; None where not all is finite, and it has to be known of
        which tasks."""
        count = len(tasks)

        def total(at: Params) -> tuple[Tensor, tuple[Noise, Noise]]:
            def one(task: Task, now: Context) -> Any:
                loss = learner.loss(at, task, now)
                return loss.value, loss.metrics, loss.statistics

            values, metrics, statistics = self._together(one, tasks, noise, ctx)
            return values[:count].sum(), (metrics, statistics)

        gradients, (metrics, statistics) = ctx.grad(total, params)
        check_declared(learner, params, gradients, metrics, statistics, ctx)
        per_task = {name: m[:count].detach().double() for name, m in metrics.items()}
        sums = {name: s[:count].detach().double().sum(0) for name, s in statistics.items()}
        if not all_finite([*gradients.values(), *sums.values(), per_task["loss"]]):
            return None
        finite = torch.ones(count, dtype=torch.bool)
        return ChunkResult(gradients, sums, per_task, finite)

    def each(
        self,
        one: Callable[[Task, Context], PerTask],
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[PerTask]:
        found: PerTask = self._together(one, tasks, noise, ctx)
        return [
            [{name: t[row] for name, t in named.items()} for named in found]
            for row in range(len(tasks))
        ]


def _kept(parts: Tensor, finite: Tensor) -> Tensor:
    """Parts [tasks, ...], with zeros for tasks that are not finite."""
    return torch.where(finite.reshape(-1, *[1] * (parts.dim() - 1)), parts, 0.0)
